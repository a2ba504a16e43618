"""The reference of preference training: what the policy is held to, and its log-probabilities.

It is what training starts from (`adapter.init_from`), or the base. Its log-probabilities are computed once for all
pairs that training and validation will see, and kept in the cache; or in every step, with a second set of adapters.
A run that goes on needs the same reference: which it was is written in its folder.

Shapes: X replies, B pairs; 2: the chosen reply, the rejected one.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from cuma_jax.config import to_dict
from cuma_jax.data.batches import Buckets
from cuma_jax.data.pairs import PairBatcher
from cuma_jax.data.reply_tokens import ReplyBatcher
from cuma_jax.objectives.pair_rows import PairLayout, pair_logps
from cuma_jax.run.forward import Model, Tables, row_losses
from cuma_jax.run.inference import ask_rows, row_step
from cuma_jax.run.rows import training_source, validation_source
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write, cache_dir, cached_array, content_key, write_text
from cuma_jax.runtime.processes import broadcast, decide, process_index
from cuma_jax.runtime.sharding import batch_sharding, replicated
from cuma_jax.training.step import in_parts

Tree = Any
REFERENCE_FILE = "reference.json"
VERSION = "2"
"""Raised whenever the same reference would give other log-probabilities: part of the cache key."""


@dataclasses.dataclass(frozen=True)
class ReferencePolicy:
    """The policy that training is held to.

    Attributes:
        is_base: it is the model without adapters, and not what training starts from.
    """

    run: Run
    is_base: bool

    def adapters(self) -> Tree:
        """Its adapters, on their devices, in buffers of their own; for the base, adapters that add nothing."""
        seed = self.run.config.train.seed
        return self.run.identity_adapters(seed) if self.is_base else self.run.init_adapters(seed)

    @property
    def key(self) -> str:
        """Of the base and of the adapters' bytes."""
        leaves = [] if self.is_base else jax.tree.leaves(self.run.start)
        return content_key(self.run.fingerprint, *leaves)

    def check(self, folder: pathlib.Path) -> None:
        """Checks that a run which goes on is held to the reference that it began with.

        Raises:
            CumaError: `adapter.init_from` holds other adapters by now.
        """
        path = folder / REFERENCE_FILE
        if not path.is_file():
            return
        if json.loads(path.read_text(encoding="utf-8"))["key"] != self.key:
            where = self.run.config.adapter.init_from
            raise CumaError(
                f"{folder} was begun with another reference: the adapters in {where} have changed since (were they "
                "trained further?). Put the former back, or train anew in another folder (--run.dir)"
            )

    def save(self, folder: pathlib.Path) -> None:
        """Writes which reference a run has (reference.json)."""
        write_text(folder / REFERENCE_FILE, json.dumps({"key": self.key, "base": self.is_base}) + "\n")


def reference_of(run: Run) -> ReferencePolicy:
    """What a run is held to, or would be: what it starts from, or the base."""
    config = run.config
    by_choice = run.objective.pairs_replies and config.dpo.reference == "base"
    return ReferencePolicy(run, is_base=not config.adapter.init_from or by_choice)


def seen_pairs(run: Run) -> np.ndarray:
    """Numbers of the pairs that training and validation will see, each once."""
    found: list[np.ndarray] = []
    for source in (training_source(run), validation_source(run)):
        if source is not None:
            assert isinstance(source.batcher, PairBatcher)
            drawn = [source.draw(step)[1] for step in range(len(source))]
            found.append(source.batcher.index_N[np.unique(np.concatenate(drawn))])
    return np.unique(np.concatenate(found))


def with_reference_logps(run: Run, reference: ReferencePolicy, pair_N: np.ndarray) -> Run:
    """The run, with the reference's log-probabilities of the pairs `pair_N` in its batches.

    As it is where they are computed in the step. All processes call this.
    """
    layout = run.training
    assert isinstance(layout, PairLayout)
    if run.config.dpo.reference_logps != "cached":
        return run
    reply_N = np.unique(layout.pairs.reply_P2[pair_N])
    path = cache_dir(run.config.run.cache_dir) / "reference_logps" / f"{_key(run, layout, reference, reply_N)}.npy"
    logp_N = cached_array(path, (len(reply_N),)) if process_index() == 0 else None
    if decide("" if logp_N is None else "kept"):
        logp_N = broadcast(logp_N, (len(reply_N),))
    else:
        logp_N = reply_logps(run, reference.adapters(), reply_N, layout, "scoring pairs under the reference")
        if process_index() == 0:
            found = logp_N
            atomic_write(path, lambda part: np.save(part, found))
    reference_X = np.full(len(layout.pairs.replies.profile_X), np.nan, np.float32)
    reference_X[reply_N] = logp_N
    return dataclasses.replace(run, training=dataclasses.replace(layout, reference_X=reference_X))


def reply_logps(run: Run, adapters: Tree, reply_N: np.ndarray, layout: PairLayout, what: str = "") -> np.ndarray:
    """Summed log-probability in nats of each of `layout`'s replies `reply_N` (their numbers), float32 [N].

    `what`: title of the progress bar; empty: none.
    """
    batcher = ReplyBatcher(layout.pairs.replies, reply_N, Buckets(run.config.data.buckets))
    logp_N = np.zeros(len(reply_N), np.float32)
    for index_B, (loss_B, _, _) in ask_rows(run, row_step(run, row_losses), adapters, batcher, layout.tables, what):
        logp_N[index_B] = -loss_B
    return logp_N


def complete_pairs(run: Run, reference: ReferencePolicy) -> Callable[[Tables, Tree], Tree]:
    """`complete(tables, batch)`: gives a batch of pairs on the devices `reference_logp` [B,2] where it lacks them."""
    layout, parts = run.training, run.config.train.micro_batches
    assert isinstance(layout, PairLayout)
    if layout.reference_X is not None:
        return lambda tables, batch: batch

    @functools.cache
    def adapters() -> Tree:
        with jax.transfer_guard("allow"):  # made when they are first needed, which may be inside the loop
            return reference.adapters()

    def logps(adapters: Tree, base: Tree, tables: Tables, batch: Tree) -> jax.Array:
        model = Model(run.decoder, base, adapters, tables)
        return in_parts(lambda rows: pair_logps(model, rows)[0], batch, parts)

    rows = batch_sharding(run.mesh)
    step = jax.jit(
        logps, in_shardings=(run.adapter_shardings, run.base_shardings, replicated(run.mesh), rows), out_shardings=rows
    )
    return lambda tables, batch: batch | {"reference_logp": step(adapters(), run.base, tables, batch)}


def _key(run: Run, layout: PairLayout, reference: ReferencePolicy, reply_N: np.ndarray) -> str:
    """Of everything that decides these numbers."""
    config = to_dict(run.config)
    model = {name: config["model"][name] for name in ("quantize", "attention")}
    settings = [config["adapter"] | {"init_from": "", "dropout": 0}, config["router"], model]
    table = run.table
    return content_key(
        VERSION,
        reference.key,
        json.dumps([*settings, str(run.decoder.dtype), config["profile"]["projection_layers"]]),
        *layout.pairs.replies.content(reply_N),
        np.zeros(0) if table is None else table.vectors_PM,
    )
