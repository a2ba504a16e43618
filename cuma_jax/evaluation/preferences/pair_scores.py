"""Pairwise scores of a run: does it give the reply that a person preferred more than the other?

For any run on the data, whatever it was trained on (sft, choice, dpo, grpo), so that stages of a chain can be compared
on the same held-out pairs. Two measures: which of the two replies is likelier (summed log-probability: a longer reply
costs more), and the implicit reward, how much likelier it became against the reference (where the length cancels).
Of preference data also the choice among all candidates of a turn, by mean log-probability a token.

Shapes: N rows of the data, P pairs, X replies.
"""

import typing
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.config.checks import SPLITS
from cuma_jax.data.batches import Buckets
from cuma_jax.data.tokenise import Conversations, survey_tokens, tokenise_pairs
from cuma_jax.evaluation.metrics.ratios import CHANGE, SHARE, Ratio
from cuma_jax.evaluation.preferences.groups import add_people, metrics_with_groups
from cuma_jax.evaluation.preferences.row_scores import PAIRS, preference_results
from cuma_jax.evaluation.results import Results
from cuma_jax.objectives.pair_rows import PairLayout, survey_pair_layout
from cuma_jax.objectives.reference import reference_of, reply_logps
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.run.layouts import plain_tables, survey_layout
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir
from cuma_jax.runtime.sharding import put_whole
from cuma_jax.surveys.groups import check_group_fields
from cuma_jax.surveys.survey import Survey

PAIR_RATIOS = {
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
"""Metrics of a split, from the columns of `pair_frame`."""


def pair_layout(run: Run) -> PairLayout:
    """The pairs of a run's data, whatever it was trained on; a CumaError where there are none."""
    if run.objective.pairs_replies:
        return typing.cast(PairLayout, run.training)
    config, source, table = run.config, run.source, run.table
    vectors_PM = None if table is None else put_whole(table.vectors_PM, run.mesh)
    if isinstance(source, Preferences):
        cache = str(cache_dir(config.run.cache_dir))
        pairs = tokenise_pairs(Conversations(config, source, run.profiles, run.tokenizer, cache, progress=True))
        return PairLayout(config, source, run.profiles, pairs, plain_tables(config, vectors_PM), {})
    pieces = survey_tokens(config, source, run.profiles, run.tokenizer, ("sft",), run.mask("train"))
    assert run.prediction is not None
    answers = survey_layout(
        config, "sft", pieces["sft"], source, run.profiles, vectors_PM, run.decoder, run.base, run.base_shardings,
        run.mesh, run.prediction.left_out, pairs=True,
    )  # fmt: skip
    return survey_pair_layout(answers)


def score_pairs(
    run: Run, models: Mapping[str, Any], mask_N: np.ndarray, layout: PairLayout, title: str = ""
) -> tuple[pd.DataFrame, dict[str, dict[str, np.ndarray]]]:
    """Scores the pairs of some rows under several adapters; a CumaError if there are none. All processes call this.

    Args:
        models: name -> adapters, on the devices.
        mask_N: bool [N], answers or conversations of the source (`run.mask(split)`); of a survey, at most
            `evaluation.max_profiles` pairs are scored, drawn by the seed.

    Returns:
        One row a pair with what no model decides: `id` (conversation or question), `person` (row of `respondents`),
        `pairs`: 1, `chance`: 1/2, `tokens` of the preferred reply, and for the first pair of a turn `turns`: 1 and
        `choice_chance`, which are 0 elsewhere and in turns with a candidate that is too long.
        And by model, float [P] each: `margin`, the summed log-probability of the preferred reply less that of the
        other, in nats; `correct`, whether it is above 0; `loss`, nats of the preferred reply; `choice_correct`, whether
        the preferred candidate has the highest mean log-probability of its turn (0 where `turns` is).
    """
    pairs, config = layout.pairs, run.config
    longest = Buckets(config.data.buckets).limit(config.data.max_length)
    index_P = np.flatnonzero(mask_N[pairs.row_P] & (pairs.fed_P <= longest))
    if not len(index_P):
        raise CumaError(f"{run.source.name} has no pairs of replies in these rows; score another split")
    if isinstance(run.source, Survey) and len(index_P) > config.evaluation.max_profiles:
        rng = np.random.default_rng([config.evaluation.seed, 29])
        index_P = np.sort(rng.choice(index_P, config.evaluation.max_profiles, replace=False))
    reply_P2, count_X = pairs.reply_P2[index_P], pairs.replies.supervised_X
    scored_X = np.unique(reply_P2)
    if pairs.turn_X is not None:  # all candidates of their turns
        of_turns = np.isin(pairs.turn_X, pairs.turn_X[scored_X])
        scored_X = np.flatnonzero(of_turns & (pairs.replies.fed_X <= longest))
    choices = _Choices(pairs.turn_X, reply_P2, scored_X)
    frame = pd.DataFrame({"id": np.asarray(pairs.items, object)[pairs.item_P[index_P]]}).assign(
        person=pairs.person_P[index_P], pairs=1, chance=0.5, tokens=count_X[reply_P2[:, 0]],
        turns=choices.first_P.astype(int), choice_chance=choices.chance_P,
    )  # fmt: skip
    scores = {}
    for name, adapters in models.items():
        logp_X = np.full(len(count_X), np.nan)
        logp_X[scored_X] = reply_logps(run, adapters, scored_X, layout, f"{title}, {name}" if title else "")
        chosen_P, other_P = logp_X[reply_P2].T
        scores[name] = {
            "margin": chosen_P - other_P,
            "correct": (chosen_P > other_P).astype(float),
            "loss": -chosen_P,
            "choice_correct": choices.correct(logp_X / count_X),
        }
    return frame, scores


class _Choices:
    """The choice among all candidates of each turn (`turn_X`; None: no turns), told of the turn's first pair."""

    def __init__(self, turn_X: np.ndarray | None, reply_P2: np.ndarray, scored_X: np.ndarray):
        self.first_P = np.zeros(len(reply_P2), bool)
        self.chance_P = np.zeros(len(reply_P2))
        self._rivals: dict[int, np.ndarray] = {}
        self._chosen_P = reply_P2[:, 0]
        if turn_X is None:
            return
        scored = np.zeros(len(turn_X), bool)
        scored[scored_X] = True
        turns, first = np.unique(turn_X[self._chosen_P], return_index=True)
        # The candidates of a turn are next to each other.
        starts, stops = np.searchsorted(turn_X, turns), np.searchsorted(turn_X, turns, side="right")
        for n, start, stop in zip(first, starts, stops, strict=True):
            rivals = np.arange(start, stop)
            if scored[rivals].all():
                self.first_P[n], self.chance_P[n] = True, 1 / len(rivals)
                self._rivals[int(n)] = rivals

    def correct(self, score_X: np.ndarray) -> np.ndarray:
        """Whether the preferred candidate has the highest score, float64 [P]; 0 where it is not told."""
        found_P = np.zeros(len(self._chosen_P))
        for n, rivals in self._rivals.items():
            found_P[n] = rivals[np.argmax(score_X[rivals])] == self._chosen_P[n]
        return found_P


def pair_frame(run: Run, adapters: Any, mask_N: np.ndarray, layout: PairLayout, title: str = "") -> pd.DataFrame:
    """The pairs of `score_pairs` with their scores under a run's adapters, under its base (columns `base_...`), and
    `reference_margin`, under its reference (`objectives.reference`); `reward_correct`: whether `margin` is above it.
    """
    sources = {"the run": adapters, "base": run.identity_adapters(run.config.train.seed)}
    if not (reference := reference_of(run)).is_base:
        sources["reference"] = reference.adapters()
    frame, scores = score_pairs(run, sources, mask_N, layout, title)
    frame = frame.assign(**scores["the run"], **{f"base_{name}": values for name, values in scores["base"].items()})
    margin_P = scores.get("reference", scores["base"])["margin"]
    return frame.assign(reference_margin=margin_P, reward_correct=(frame["margin"] > margin_P).astype(float))


def pair_metrics(
    run: Run, adapters: Any, splits: tuple[str, ...]
) -> tuple[dict[str, dict[str, Any]], pd.DataFrame, dict[str, int]]:
    """The metrics of splits, the scored pairs, and counts of what was left out.

    Returns:
        By split: `n` (rows: pairs; annotators; units: turns whose candidates are compared), the metrics of
        `PAIR_RATIOS` as {value, low, high}, and `groups`; the pairs of all splits; notes.

    Raises:
        CumaError: a split without pairs, or a group field that the data do not have.
    """
    config, source = run.config.evaluation, run.source
    check_group_fields(source, config.group_by, some=False)
    layout, notes = pair_layout(run), dict[str, int]()
    found: dict[str, dict[str, Any]] = {}
    frames: list[pd.DataFrame] = []
    for split in splits:
        mask_N = run.mask(split)
        frame = pair_frame(run, adapters, mask_N, layout, f"scoring pairs of {split}")
        there = int(mask_N[layout.pairs.row_P].sum())
        if len(frame) < there:
            notes[f"pairs of {split} that were not scored (a sample of {len(frame):,} was)"] = there - len(frame)
        frame = add_people(frame.assign(split=split), source, frame["person"].to_numpy(), config.group_by)
        found[split] = metrics_with_groups(frame, PAIR_RATIOS, "turns", config, SPLITS.index(split))
        frames.append(frame)
    return found, pd.concat(frames, ignore_index=True), notes | layout.pairs.notes


def evaluate_pairs(run: Run, adapters: Any, about: dict[str, Any]) -> Results:
    """Results of kind "pairs" (see `pair_metrics`) of preference data, as `evaluate_preferences` gives of other runs.

    `per_cell` has one row a pair; `about` is kept as it is.
    """
    splits, frame, notes = pair_metrics(run, adapters, run.config.evaluation.splits)
    return preference_results(run, PAIRS, notes, splits, about, frame.drop(columns="person"))
