"""Pairs of replies as rows: what the objective dpo trains on, and any run can be scored on.

Shapes: N pairs, A answers, X replies, B pairs of a batch, S positions, D model width, V vocabulary; 2: the chosen
reply, the rejected one.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.config import Config
from cuma_jax.data.batches import Buckets
from cuma_jax.data.pairs import PairBatcher, PairTokens, build_survey_pairs
from cuma_jax.data.pipeline import Batcher
from cuma_jax.data.sampling import answer_rows, conversation_masses, describe_sampling
from cuma_jax.losses.linear_cross_entropy import linear_cross_entropy
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.run.forward import Model, Tables, apply, hidden
from cuma_jax.run.layouts import SurveyLayout
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey

Tree = Any


@dataclasses.dataclass(frozen=True)
class PairLayout:
    """Pairs of replies as rows.

    Attributes:
        pairs: their tokens.
        tables: per bucket, what batches index into, on the devices.
        left_out: answers whose rows are too long, by reason; they are in no split.
        reference_X: the reference's summed log-probability of each reply (`objectives.reference`), nan where no batch
            of this run needs it; None where batches do not hold it.
    """

    config: Config
    source: Survey | Preferences
    profiles: Profiles
    pairs: PairTokens
    tables: dict[int, Tables]
    left_out: dict[str, int]
    reference_X: np.ndarray | None = None

    by_question: bool = False

    @property
    def cached(self) -> bool:
        """Whether hidden states are kept."""
        return not self.pairs.replies.moves_up

    def batcher(self, index_N: np.ndarray, mass_N: np.ndarray) -> PairBatcher:
        """Gathers pairs `index_N` into batches."""
        return PairBatcher(self.pairs, index_N, mass_N, Buckets(self.config.data.buckets), self.reference_X)

    def training_rows(self, mask_N: np.ndarray) -> PairBatcher:
        """The pairs of the answers or conversations that `mask_N` selects."""
        row_P, drawing = self.pairs.row_P, self.config.data
        index_N = np.flatnonzero(mask_N[row_P])
        if isinstance(self.source, Survey):
            with_pair_A = np.zeros(len(mask_N), bool)
            with_pair_A[row_P[index_N]] = True  # pairs are in the order of their answers
            return self.batcher(index_N, answer_rows(self.source, self.profiles, with_pair_A, drawing).mass_N)
        return self.batcher(index_N, conversation_masses(self.source, drawing, row_P[index_N]))

    def describe(self, batcher: Batcher, drawn: int) -> list[str]:
        """What training sees of its rows, as lines to print; `drawn` rows in all."""
        order, names = self.config.data.order, [str(item) for item in self.pairs.items]
        lines = [describe_sampling(batcher.mass_N, drawn, batcher.question_N, names, order)]
        lines += [f"left out: {count:,} answers to {reason}" for reason, count in self.left_out.items()]
        return lines + [f"left out: {count:,} {reason}" for reason, count in self.pairs.notes.items()]


def survey_pair_layout(layout: SurveyLayout) -> PairLayout:
    """The pairs of a survey whose answers `layout` lays out as for the objective sft."""
    seed = layout.config.data.split_seed  # runs of another training seed compare the same options
    pairs = build_survey_pairs(layout.survey, layout.profiles, layout.tokens, seed, layout.cache)
    return PairLayout(layout.config, layout.survey, layout.profiles, pairs, layout.tables, layout.left_out)


def pair_logps(model: Model, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Of each pair's replies (chosen, rejected): summed log-probability in nats, and supervised tokens; float32 [B,2].

    Without dropout. `batch`: see `data.pairs.PairBatcher`.
    """
    return pair_logps_and_stats(model, batch, None)[:2]


def pair_logps_and_stats(
    model: Model, batch: dict[str, jax.Array], key: jax.Array | None
) -> tuple[jax.Array, jax.Array, Tree]:
    """See `pair_logps`; and the routers' statistics. Both sides of a pair are rows of one forward pass."""
    names = ("tokens", "template", "lengths", "positions", "labels", "label_weight")  # in one order in all processes
    # Rows 2b and 2b + 1 are pair b: a device that has some pairs has their rows.
    rows = {name: batch[name].reshape(-1, *batch[name].shape[2:]) for name in names if name in batch}
    rows["profile"] = jnp.repeat(batch["profile"], 2)
    h_NSD, stats = hidden(model, rows, key)
    unembed_VD = apply(model.decoder, "unembedding", model.variables)
    loss_NS, _ = linear_cross_entropy(h_NSD, unembed_VD, rows["labels"])
    logp_N = -jnp.sum(loss_NS * rows["label_weight"], axis=1)
    return logp_N.reshape(-1, 2), jnp.sum(batch["label_weight"], axis=2), stats
