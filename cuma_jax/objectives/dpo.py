"""The objective dpo: of two replies to one person, the preferred one gains more than the other against a reference.

Shapes: B pairs; 2: the chosen reply, the rejected one.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from cuma_jax.config import Config
from cuma_jax.data.pairs import PairTokens
from cuma_jax.data.tokenise import Conversations, tokenise_pairs
from cuma_jax.losses.balance import router_sums
from cuma_jax.losses.dpo import dpo_sums
from cuma_jax.losses.sums import BatchSums
from cuma_jax.objectives.pair_rows import PairLayout, pair_logps_and_stats, survey_pair_layout
from cuma_jax.objectives.reference import complete_pairs, reference_of, seen_pairs, with_reference_logps
from cuma_jax.run.forward import Model, Tables
from cuma_jax.run.layouts import SurveyLayout
from cuma_jax.run.objective import Objective, register
from cuma_jax.run.run import Run

Tree = Any


class Dpo(Objective):
    """Direct preference optimisation, sigmoid or IPO (section `dpo`)."""

    name = "dpo"
    answer_tokens: Literal["choice", "sft"] = "sft"
    scores_pairs = True
    pairs_replies = True

    def survey_rows(self, layouts: Mapping[str, SurveyLayout]) -> PairLayout:
        """The option that was chosen, and another one."""
        return survey_pair_layout(layouts["sft"])

    def conversation_tokens(self, data: Conversations) -> PairTokens:
        """Of all pairs of candidates."""
        return tokenise_pairs(data)

    def conversation_rows(self, data: Conversations, tokens: PairTokens, tables: dict[int, Tables]) -> PairLayout:
        """One pair a row."""
        return PairLayout(data.config, data.source, data.profiles, tokens, tables, {})

    def sums(self, config: Config, model: Model, batch: dict[str, jax.Array], key: jax.Array | None) -> BatchSums:
        """See `losses.dpo.dpo_sums`; `batch` is of `data.pairs.PairBatcher`, completed."""
        logp_B2, count_B2, stats = pair_logps_and_stats(model, batch, key)
        sums = dpo_sums(logp_B2, batch["reference_logp"], count_B2, batch["weight"], config.dpo)
        return BatchSums(sums, router_sums(stats), jnp.sum(batch["lengths"]))

    def prepare(self, run: Run, folder: pathlib.Path) -> Run:
        """With the reference's log-probabilities of all pairs that are drawn, where `dpo.reference_logps` is cached."""
        reference = reference_of(run)
        reference.check(folder)
        return with_reference_logps(run, reference, seen_pairs(run))

    def record(self, run: Run, folder: pathlib.Path) -> None:
        """Which reference it is."""
        reference_of(run).save(folder)

    def completer(self, run: Run) -> Callable[[Tables, Tree], Tree]:
        """Adds the reference's log-probabilities where batches lack them."""
        return complete_pairs(run, reference_of(run))


register(Dpo())
