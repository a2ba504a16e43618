"""Batched inference: every row once under given adapters, and the parts that writing text takes.

Shapes: N rows, B rows of a batch.
"""

import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from cuma_jax.config import SamplingConfig
from cuma_jax.data.pipeline import Batcher, in_order
from cuma_jax.generation.texts import Writer
from cuma_jax.models.decoder import Decoder
from cuma_jax.run.forward import Model, Tables
from cuma_jax.run.run import Run
from cuma_jax.runtime.sharding import batch_sharding, check_divisible, local_rows, put_batch, replicated

Tree = Any
Question = Callable[[Model, dict[str, jax.Array]], Tree]
"""What is asked of a batch: `question(model, batch)`, for `ask_rows` with leaves [B, ...]; see `forward`."""
Step = Callable[[Tree, Tree, Tables, Tree], Tree]


def row_step(run: Run, question: Question, decoder: Decoder | None = None, adapter_shardings: Tree = None) -> Step:
    """`question` jitted, as `step(adapters, base, tables, batch)`; every device has the whole of what it returns.

    `decoder` and `adapter_shardings` are given if other adapters than the run's are asked.
    """
    decoder, whole = decoder or run.decoder, replicated(run.mesh)
    shardings = run.adapter_shardings if adapter_shardings is None else adapter_shardings
    return jax.jit(
        lambda adapters, base, tables, batch: question(Model(decoder, base, adapters, tables), batch),
        in_shardings=(shardings, run.base_shardings, whole, batch_sharding(run.mesh)),
        out_shardings=whole,
    )


def ask_rows(
    run: Run, step: Step, adapters: Tree, batcher: Batcher, tables: Mapping[int, Tables], what: str = ""
) -> Iterator[tuple[np.ndarray, Tree]]:
    """Every row once, `evaluation.batch_size` at a time: (numbers of rows, what `step` says of them, numpy leaves).

    `step` is from `row_step`; `tables` has, per bucket, what batches index into; `what`: title of the progress bar, or
    empty for none.
    """
    a, size = run, run.config.evaluation.batch_size
    # Where there is no terminal, a line every so often instead of a bar that redraws itself.
    pace, quiet = 0.1 if sys.stderr.isatty() else 30.0, not what or jax.process_index() != 0
    with tqdm(total=len(batcher), desc=what, unit="row", disable=quiet, mininterval=pace, dynamic_ncols=True) as bar:
        for index_B, bucket, batch in in_order(batcher, size, local_rows(a.mesh, size)):
            with jax.set_mesh(a.mesh):
                found = jax.device_get(step(adapters, a.base, tables[bucket], put_batch(batch, a.mesh)))
            real = slice(len(index_B))  # the last batch of a bucket is filled up
            yield index_B, jax.tree.map(operator.itemgetter(real), found)
            bar.update(len(index_B))


def writer_of(
    run: Run, sampling: SamplingConfig, batch_size: int, lengths: tuple[int, ...] = (), longer: str = ""
) -> Writer:
    """The writer of a run.

    Args:
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
