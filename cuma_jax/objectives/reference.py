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
from typing import Any

import jax
import numpy as np

from cuma_jax.config import to_dict
from cuma_jax.data.batches import Buckets
from cuma_jax.data.reply_tokens import ReplyBatcher
from cuma_jax.objectives.grpo.prompt_layout import PromptLayout
from cuma_jax.run.forward import Tables, pair_logps, row_losses
from cuma_jax.run.inference import ask_rows, row_step
from cuma_jax.run.layouts import PairLayout
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


def needs_reference(run: Run) -> bool:
    """Whether training compares the policy with another."""
    return isinstance(run.training, PairLayout) or (isinstance(run.training, PromptLayout) and run.config.grpo.kl > 0)


def is_base(run: Run) -> bool:
    """Whether the reference is the model without adapters."""
    config = run.config
    return not config.adapter.init_from or (config.objective.name == "dpo" and config.dpo.reference == "base")


def reference_adapters(run: Run) -> Tree:
    """The reference's adapters, on their devices; for the base, adapters that add nothing. No buffer of them is the
    policy's."""
    seed = run.config.train.seed
    return run.identity_adapters(seed) if is_base(run) else run.init_adapters(seed)


def reference_key(run: Run) -> str:
    """A key of the reference: of the base and of the adapters' bytes."""
    leaves = [] if is_base(run) else jax.tree.leaves(run.start)
    return content_key(run.fingerprint, *leaves)


def check_reference(run: Run, folder: pathlib.Path) -> None:
    """Checks that a run which goes on is held to the reference that it began with.

    Raises:
        CumaError: `adapter.init_from` holds other adapters by now.
    """
    path = folder / REFERENCE_FILE
    if not needs_reference(run) or not path.is_file():
        return
    if json.loads(path.read_text(encoding="utf-8"))["key"] != reference_key(run):
        where = run.config.adapter.init_from
        raise CumaError(
            f"{folder} was begun with another reference: the adapters in {where} have changed since (were they trained "
            "further?). Put the former back, or train anew in another folder (--run.dir)"
        )


def save_reference(run: Run, folder: pathlib.Path) -> None:
    """Writes which reference a run has (reference.json)."""
    if needs_reference(run):
        about = {"key": reference_key(run), "base": is_base(run)}
        write_text(folder / REFERENCE_FILE, json.dumps(about) + "\n")


def with_reference_logps(run: Run, pair_N: np.ndarray) -> Run:
    """The run, with the reference's log-probabilities of the pairs `pair_N` in its batches.

    As it is for other objectives, and where they are computed in the step. All processes call this.
    """
    layout = run.training
    if not isinstance(layout, PairLayout) or run.config.dpo.reference_logps != "cached":
        return run
    reply_N = np.unique(layout.pairs.reply_P2[pair_N])
    path = cache_dir(run.config.run.cache_dir) / "reference_logps" / f"{_key(run, reply_N)}.npy"
    logp_N = cached_array(path, (len(reply_N),)) if process_index() == 0 else None
    if decide("" if logp_N is None else "kept"):
        logp_N = broadcast(logp_N, (len(reply_N),))
    else:
        logp_N = reply_logps(run, reference_adapters(run), reply_N, "scoring pairs under the reference")
        if process_index() == 0:
            found = logp_N
            atomic_write(path, lambda part: np.save(part, found))
    reference_X = np.full(len(layout.pairs.replies.profile_X), np.nan, np.float32)
    reference_X[reply_N] = logp_N
    return dataclasses.replace(run, training=dataclasses.replace(layout, reference_X=reference_X))


def reply_logps(
    run: Run, adapters: Tree, reply_N: np.ndarray, what: str = "", layout: PairLayout | None = None
) -> np.ndarray:
    """Summed log-probability of each of the replies `reply_N` in nats, float32 [N].

    Args:
        run: a config made real.
        adapters: on the devices.
        reply_N: numbers of replies.
        what: title of the progress bar; empty: none.
        layout: whose replies; None: those that the run is trained on.
    """
    layout = layout or run.training  # type: ignore[assignment]
    assert isinstance(layout, PairLayout)
    batcher = ReplyBatcher(layout.pairs.replies, reply_N, Buckets(run.config.data.buckets))
    logp_N = np.zeros(len(reply_N), np.float32)
    for index_B, (loss_B, _, _) in ask_rows(run, row_step(run, row_losses), adapters, batcher, layout.tables, what):
        logp_N[index_B] = -loss_B
    return logp_N


class Reference:
    """Gives batches of pairs the reference's log-probabilities where they lack them."""

    def __init__(self, run: Run):
        self._run = run
        layout = run.training
        self._active = isinstance(layout, PairLayout) and layout.reference_X is None

    def add(self, tables: Tables, batch: Tree) -> Tree:
        """The batch with `reference_logp` [B,2].

        Args:
            tables: of its bucket.
            batch: on the devices.
        """
        if not self._active:
            return batch
        return batch | {"reference_logp": self._step(self._adapters, self._run.base, tables, batch)}

    @functools.cached_property
    def _adapters(self) -> Tree:
        with jax.transfer_guard("allow"):  # made when they are first needed, which may be inside the loop
            return reference_adapters(self._run)

    @functools.cached_property
    def _step(self) -> Any:
        a, parts = self._run, self._run.config.train.micro_batches

        def logps(adapters: Tree, base: Tree, tables: Tables, batch: Tree) -> jax.Array:
            def logps_of(rows: Tree) -> jax.Array:
                return pair_logps(a.decoder, base, adapters, tables, rows)[0]

            return in_parts(logps_of, batch, parts)

        rows = batch_sharding(a.mesh)
        return jax.jit(
            logps, in_shardings=(a.adapter_shardings, a.base_shardings, replicated(a.mesh), rows), out_shardings=rows
        )


def _key(run: Run, reply_N: np.ndarray) -> str:
    """Of everything that decides these numbers."""
    layout, config = run.training, to_dict(run.config)
    assert isinstance(layout, PairLayout)
    model = {name: config["model"][name] for name in ("quantize", "attention")}
    settings = [config["adapter"] | {"init_from": "", "dropout": 0}, config["router"], model]
    table = run.table
    return content_key(
        VERSION,
        reference_key(run),
        json.dumps([*settings, str(run.decoder.dtype), config["profile"]["projection_layers"]]),
        *layout.pairs.replies.content(reply_N),
        np.zeros(0) if table is None else table.vectors_PM,
    )
