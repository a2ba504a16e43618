"""Pairwise scores of a run: does it give the reply that a person preferred more than the other?

For any run on the data, whatever it was trained on (sft, choice, dpo, grpo), so that stages of a chain can be compared
on the same held-out pairs. Two measures: which of the two replies is likelier (summed log-probability: a longer reply
costs more), and the implicit reward, how much likelier it became against the reference (where the length cancels).
Of preference data also the choice among all candidates of a turn, by mean log-probability a token.

Shapes: P pairs, N pairs or X replies that are scored.
"""

import typing
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.config.checks import SPLITS
from cuma_jax.data.batches import Buckets
from cuma_jax.data.tokenise import preference_pairs, survey_tokens
from cuma_jax.evaluation.metrics.cluster_bootstrap import (
    CHANGE,
    SHARE,
    Ratio,
    add_people,
    check_groups,
    figures_with_groups,
)
from cuma_jax.evaluation.preferences.row_scores import PAIRS
from cuma_jax.evaluation.results import SCHEMA, Results
from cuma_jax.objectives.pair_rows import PairLayout, survey_pair_layout
from cuma_jax.objectives.reference import reference_of, reply_logps
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.run.layouts import plain_tables, survey_layout
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir
from cuma_jax.runtime.sharding import put_whole
from cuma_jax.surveys.survey import Survey

PAIR_FIGURES = {
    "loss": Ratio({"loss": 1}, "tokens"),
    "base_loss": Ratio({"base_loss": 1}, "tokens"),
    "difference": Ratio({"loss": 1, "base_loss": -1}, "tokens"),
    "accuracy": Ratio({"correct": 1}, "pairs", SHARE),
    "base_accuracy": Ratio({"base_correct": 1}, "pairs", SHARE),
    "accuracy_difference": Ratio({"correct": 1, "base_correct": -1}, "pairs", CHANGE),
    "chance": Ratio({"chance": 1}, "pairs", SHARE),
    "reward_accuracy": Ratio({"reward_correct": 1}, "pairs", SHARE),
    "margin": Ratio({"margin": 1}, "pairs"),
    "base_margin": Ratio({"base_margin": 1}, "pairs"),
    "reward_margin": Ratio({"margin": 1, "reference_margin": -1}, "pairs"),
    "choice_accuracy": Ratio({"choice_correct": 1}, "turns", SHARE),
    "base_choice_accuracy": Ratio({"base_choice_correct": 1}, "turns", SHARE),
    "choice_difference": Ratio({"choice_correct": 1, "base_choice_correct": -1}, "turns", CHANGE),
    "choice_chance": Ratio({"choice_chance": 1}, "turns", SHARE),
}
"""Figures of a split, from the columns of `score_pairs`."""


def pair_layout(run: Run) -> PairLayout:
    """The pairs of a run's data, whatever it was trained on.

    Raises:
        CumaError: the data have no pairs.
    """
    if run.objective.pairs_replies:
        return typing.cast(PairLayout, run.training)
    config, source, table = run.config, run.source, run.table
    vectors_PM = None if table is None else put_whole(table.vectors_PM, run.mesh)
    if isinstance(source, Preferences):
        cache = str(cache_dir(config.run.cache_dir))
        pairs = preference_pairs(config, source, run.profiles, run.tokenizer, cache, progress=True)
        return PairLayout(config, source, run.profiles, pairs, plain_tables(config, vectors_PM), {})
    pieces = survey_tokens(config, source, run.profiles, run.tokenizer, ("sft",), run.mask("train"))
    assert run.prediction is not None
    answers = survey_layout(
        config, "sft", pieces["sft"], source, run.profiles, vectors_PM, run.decoder, run.base, run.base_shardings,
        run.mesh, run.prediction.left_out, pairs=True,
    )  # fmt: skip
    return survey_pair_layout(answers)


def score_pairs(
    run: Run, adapters: Any, mask_N: np.ndarray, layout: PairLayout | None = None, what: str = ""
) -> pd.DataFrame:
    """Scores the pairs of some rows of the data. All processes call this.

    Args:
        run: a config made real.
        adapters: its adapters, on the devices.
        mask_N: bool [N], answers or conversations of the source (`run.mask(split)`); of a survey, at most
            `evaluation.max_profiles` pairs are scored, drawn by the seed.
        layout: from `pair_layout`; None: made here.
        what: title of the progress bars; empty: none.

    Returns:
        One row a pair. `id` (conversation or question), `person` (row of `respondents`); `margin`, `base_margin`,
        `reference_margin`: summed log-probability of the preferred reply less that of the other, in nats, under the
        run, its base, and its reference (`training.reference`); `correct`, `base_correct`: whether it is above 0;
        `reward_correct`: whether `margin` is above `reference_margin`; `loss`, `base_loss`: nats of the preferred
        reply's `tokens`; `chance`: 1/2; `pairs`: 1. The first pair of a turn also has `turns` 1, `choice_correct`,
        `base_choice_correct` (whether the preferred candidate has the highest mean log-probability) and
        `choice_chance`; elsewhere, and in turns with a candidate that is too long, these are 0.

    Raises:
        CumaError: no pair in these rows.
    """
    layout = layout or pair_layout(run)
    rows = PairRows(run, mask_N, layout)
    sources = {"": adapters, "base_": run.identity_adapters(run.config.train.seed)}
    reference = reference_of(run)
    if not reference.is_base:
        sources["reference_"] = reference.adapters()
    frame = rows.frame
    for name, tree in sources.items():
        scored = rows.scores(tree, f"{what}, {name.rstrip('_') or 'the run'}" if what else "")
        frame = frame.assign(**{f"{name}{figure}": values for figure, values in scored.items()})
    if reference.is_base:
        frame["reference_margin"] = frame["base_margin"]
    frame["reward_correct"] = (frame["margin"] > frame["reference_margin"]).astype(float)
    return frame.drop(columns=[f"reference_{name}" for name in ("correct", "loss", "choice_correct")], errors="ignore")


class PairRows:
    """The pairs of some rows of the data, to be scored under any adapters.

    Args:
        run, mask_N, layout: see `score_pairs`.

    Attributes:
        frame: one row a pair, with the columns of `score_pairs` that no model decides.

    Raises:
        CumaError: no pair in these rows.
    """

    def __init__(self, run: Run, mask_N: np.ndarray, layout: PairLayout):
        pairs, config = layout.pairs, run.config
        longest = Buckets(config.data.buckets).limit(config.data.max_length)
        index_N = np.flatnonzero(mask_N[pairs.row_P] & (pairs.fed_P <= longest))
        if not len(index_N):
            raise CumaError(f"{run.source.name} has no pairs of replies in these rows; score another split")
        if isinstance(run.source, Survey) and len(index_N) > config.evaluation.max_profiles:
            rng = np.random.default_rng([config.evaluation.seed, 29])
            index_N = np.sort(rng.choice(index_N, config.evaluation.max_profiles, replace=False))
        self._run, self._layout = run, layout
        self._reply_N2 = pairs.reply_P2[index_N]
        self._scored_X = np.unique(self._reply_N2)
        if pairs.turn_X is not None:  # all candidates of their turns
            of_turns = np.isin(pairs.turn_X, pairs.turn_X[self._scored_X])
            self._scored_X = np.flatnonzero(of_turns & (pairs.replies.fed_X <= longest))
        self._choices = _Choices(pairs.turn_X, self._reply_N2, self._scored_X)
        self._count_X = pairs.replies.supervised_X
        frame = pd.DataFrame({"id": np.asarray(pairs.items, object)[pairs.item_P[index_N]]})
        frame = frame.assign(
            person=pairs.person_P[index_N], pairs=1, chance=0.5, tokens=self._count_X[self._reply_N2[:, 0]]
        )
        self.frame = frame.assign(turns=self._choices.first_N.astype(int), choice_chance=self._choices.chance_N)

    def scores(self, adapters: Any, title: str = "") -> dict[str, np.ndarray]:
        """`margin`, `correct`, `loss` and `choice_correct` of every pair under `adapters`, float [N].

        See `score_pairs`. All processes call this.
        """
        logp_X = np.full(len(self._count_X), np.nan)
        logp_X[self._scored_X] = reply_logps(self._run, adapters, self._scored_X, self._layout, title)
        logp_N2 = logp_X[self._reply_N2]
        return {
            "margin": logp_N2[:, 0] - logp_N2[:, 1],
            "correct": (logp_N2[:, 0] > logp_N2[:, 1]).astype(float),
            "loss": -logp_N2[:, 0],
            "choice_correct": self._choices.correct(logp_X / self._count_X),
        }


class _Choices:
    """The choice among all candidates of each turn, told of the turn's first pair.

    Args:
        turn_X: turn of each reply; None: no turns.
        reply_N2: replies of the pairs.
        scored_X: replies that are scored.
    """

    def __init__(self, turn_X: np.ndarray | None, reply_N2: np.ndarray, scored_X: np.ndarray):
        self.first_N = np.zeros(len(reply_N2), bool)
        self.chance_N = np.zeros(len(reply_N2))
        self._rivals: dict[int, np.ndarray] = {}
        self._chosen_N = reply_N2[:, 0]
        if turn_X is None:
            return
        scored = np.zeros(len(turn_X), bool)
        scored[scored_X] = True
        turns, first = np.unique(turn_X[self._chosen_N], return_index=True)
        # The candidates of a turn are next to each other.
        starts, stops = np.searchsorted(turn_X, turns), np.searchsorted(turn_X, turns, side="right")
        for n, start, stop in zip(first, starts, stops, strict=True):
            rivals = np.arange(start, stop)
            if scored[rivals].all():
                self.first_N[n], self.chance_N[n] = True, 1 / len(rivals)
                self._rivals[int(n)] = rivals

    def correct(self, score_X: np.ndarray) -> np.ndarray:
        """Whether the preferred candidate has the highest score, float64 [N]; 0 where it is not told."""
        found_N = np.zeros(len(self._chosen_N))
        for n, rivals in self._rivals.items():
            found_N[n] = rivals[np.argmax(score_X[rivals])] == self._chosen_N[n]
        return found_N


def pair_blocks(
    run: Run, adapters: Any, splits: tuple[str, ...]
) -> tuple[dict[str, dict[str, Any]], pd.DataFrame, dict[str, int]]:
    """The figures of splits, the scored pairs, and counts of what was left out.

    Returns:
        By split: `n` (rows: pairs; annotators; units: turns whose candidates are compared), the figures of
        `PAIR_FIGURES` as {value, low, high}, and `groups`; the pairs of all splits; notes.

    Raises:
        CumaError: a split without pairs, or a group field that the data do not have.
    """
    config, source = run.config.evaluation, run.source
    check_groups(source, config.group_by)
    layout, notes = pair_layout(run), dict[str, int]()
    blocks: dict[str, dict[str, Any]] = {}
    frames: list[pd.DataFrame] = []
    for split in splits:
        mask_N = run.mask(split)
        frame = score_pairs(run, adapters, mask_N, layout, f"scoring pairs of {split}")
        there = int(mask_N[layout.pairs.row_P].sum())
        if len(frame) < there:
            notes[f"pairs of {split} that were not scored (a sample of {len(frame):,} was)"] = there - len(frame)
        frame = add_people(frame.assign(split=split), source, frame["person"].to_numpy(), config.group_by)
        blocks[split] = figures_with_groups(frame, PAIR_FIGURES, "turns", config, SPLITS.index(split))
        frames.append(frame)
    return blocks, pd.concat(frames, ignore_index=True), notes | layout.pairs.notes


def evaluate_pairs(run: Run, adapters: Any, about: dict[str, Any]) -> Results:
    """Scores the splits of `evaluation.splits` of preference data, as `evaluate_preferences` does for other runs.

    Args:
        run: a run on preference data.
        adapters: its trained adapters, on the devices.
        about: how this was measured, kept as it is.

    Returns:
        Results of kind "pairs"; see `pair_blocks`. `per_cell` has one row a pair.
    """
    config, source = run.config, run.source
    blocks, frame, notes = pair_blocks(run, adapters, config.evaluation.splits)
    values = {
        "schema": SCHEMA,
        "kind": PAIRS,
        "survey": source.name,
        "group_by": list(config.evaluation.group_by),
        "notes": notes | {f"read: {reason}": n for reason, n in source.skipped.items()},
        "splits": blocks,
        "about": about,
    }
    return Results(values, frame.drop(columns="person"))
