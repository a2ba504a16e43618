"""What a run needs to write text: its parts, as `generation` takes them."""

from cuma_jax.config import SamplingConfig
from cuma_jax.generation.texts import Writer
from cuma_jax.run.run import Run
from cuma_jax.runtime.sharding import check_divisible


def writer_of(
    run: Run, sampling: SamplingConfig, batch_size: int, lengths: tuple[int, ...] = (), longer: str = ""
) -> Writer:
    """The writer of a run.

    Args:
        run: a config made real.
        sampling: how tokens are drawn.
        batch_size: rows of a batch.
        lengths: that prompts are padded to; empty: the run's buckets.
        longer: how to make room for longer prompts, for the error; empty: the run's buckets.

    Raises:
        CumaError: a batch that does not divide over the mesh.
    """
    check_divisible(run.mesh, {"the batch of replies": ("batch", batch_size)})
    table = run.table
    return Writer(
        decoder=run.decoder,
        base=run.base,
        base_shardings=run.base_shardings,
        adapter_shardings=run.adapter_shardings,
        mesh=run.mesh,
        tokenizer=run.tokenizer,
        sampling=sampling,
        vectors_PC=None if table is None else table.vectors_PM,
        lengths=lengths or run.config.data.buckets,
        batch_size=batch_size,
        **({"longer": longer} if longer else {}),
    )
