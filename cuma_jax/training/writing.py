"""What a run needs to write text: its parts, as `generation` takes them."""

from cuma_jax.config import SamplingConfig
from cuma_jax.generation.texts import Writer
from cuma_jax.sharding import check_divisible
from cuma_jax.training.assembly import Assembly


def writer_of(
    assembly: Assembly, sampling: SamplingConfig, batch_size: int, lengths: tuple[int, ...] = (), longer: str = ""
) -> Writer:
    """The writer of a run.

    Args:
        assembly: the run.
        sampling: how tokens are drawn.
        batch_size: rows of a batch.
        lengths: that prompts are padded to; empty: the run's buckets.
        longer: how to make room for longer prompts, for the error; empty: the run's buckets.

    Raises:
        CumaError: a batch that does not divide over the mesh.
    """
    check_divisible(assembly.mesh, {"the batch of replies": ("batch", batch_size)})
    table = assembly.table
    return Writer(
        decoder=assembly.decoder,
        base=assembly.base,
        base_shardings=assembly.base_shardings,
        adapter_shardings=assembly.adapter_shardings,
        mesh=assembly.mesh,
        tokenizer=assembly.tokenizer,
        sampling=sampling,
        vectors_PC=None if table is None else table.vectors_PM,
        lengths=lengths or assembly.config.data.buckets,
        batch_size=batch_size,
        **({"longer": longer} if longer else {}),
    )
