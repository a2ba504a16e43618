"""Scores of a model on a survey: per question and overall, beside baselines, with bootstrap intervals.

Figures, each with its number of answers, respondents, cells and questions, and a 95% interval over respondents:

- `emd`: earth mover's distance between the true (survey-weighted) and predicted distribution of a (group, question)
  cell, averaged over the question's cells; total variation for questions whose options have no order.
- `js`: Jensen-Shannon divergence in bits, averaged likewise.
- `nll` (nats) and `accuracy` (of the likeliest option): per answer, survey-weighted.
- `spread_ratio`, `correlation`: of group means, predicted against true (`evaluation.spread`).
- `floor`: the EMD a perfect model would show at the cells' sizes; `share_closed`: see `floor.share_closed`.
- `difference`: EMD of the model minus a baseline's, paired: both are computed in the same resamples.

Overall figures are the plain mean over questions. `several_groups` is the mean over those with three or more groups
only, `few_groups` over the rest: where a single group was asked, the pooled marginal is that group's own and there is
nothing to adapt to. Predictions, baselines, groups and questions are held fixed while respondents are resampled, so an
interval says how sure the sample makes us of these weights on these groups, not how another training run or another
set of countries would do.

Legend: A answers, C cells, U distinct (profile, question) pairs, O options, Q questions, K clusters, B resamples.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.config import EvaluationConfig
from cuma_jax.errors import CumaError
from cuma_jax.evaluation.baselines import BASELINES, Baselines, fit_baselines
from cuma_jax.evaluation.bootstrap import centre, centred_interval, resample_weights
from cuma_jax.evaluation.distances import accuracy, distance, jensen_shannon, nll
from cuma_jax.evaluation.figures import (
    METHODS,
    METRICS,
    Ingredients,
    cell_distributions,
    cluster_sums,
    figures,
)
from cuma_jax.evaluation.floor import kish_effective_n, noise_floor, share_closed
from cuma_jax.evaluation.grouping import Groups, SplitCells, build_clusters, build_groups, build_split_cells
from cuma_jax.evaluation.results import SCHEMA, Results
from cuma_jax.evaluation.spread import MIN_GROUPS
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.splits import SPLITS
from cuma_jax.surveys.survey import Survey

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`predict(profile_U int32, question_U int32) -> probabilities [U, O]`, zero past each question's options."""

_RANGE = {"emd": (0.0, 1.0), "js": (0.0, 1.0), "accuracy": (0.0, 1.0), "nll": (0.0, np.inf),
          "spread_ratio": (0.0, np.inf), "correlation": (-1.0, 1.0)}  # fmt: skip
_SPREAD = ("true_spread", "true_spread_corrected", "predicted_spread", "spread_ratio_corrected")
_CHUNK_BYTES = 32 << 20


def evaluate(
    survey: Survey,
    profiles: Profiles,
    split_A: np.ndarray,
    predict: Predict,
    config: EvaluationConfig,
    about: dict[str, Any] | None = None,
) -> Results:
    """Scores `predict` and the baselines on every split of `config.splits`.

    Args:
        survey: questions, respondents and answers.
        profiles: the profiles that `predict` numbers.
        split_A: position in `SPLITS` of each answer.
        predict: called once, with every distinct (profile, question) pair of the scored splits, sorted by question.
        config: what to score.
        about: how it was measured (command, machine, versions); kept in the results as it is.

    Raises:
        CumaError: an empty split, an unknown field to group by, no cell large enough, or predictions that are not
            probabilities.
    """
    groups = build_groups(survey, config.group_by)
    cluster_R = build_clusters(survey, groups)
    by_split = {
        name: build_split_cells(survey, profiles, groups, split_A == SPLITS.index(name), config, name)
        for name in config.splits
    }
    baselines = _fit(survey, groups, split_A == SPLITS.index("train"))
    probabilities = _Predictions(survey, profiles, predict, list(by_split.values()))
    tables, splits = [], {}
    for name, cells in by_split.items():
        splits[name], table = _score_split(
            survey, groups, cells, cluster_R, baselines, probabilities.of(cells), config, name
        )
        tables.append(table)
    values = {
        "schema": SCHEMA,
        "survey": survey.name,
        "group_by": list(config.group_by),
        "min_cell": config.min_cell,
        "max_profiles": config.max_profiles,
        "seed": config.seed,
        "bootstrap": config.bootstrap,
        "interval": "95%, percentile of the Poisson bootstrap over "
        + ("primary sampling units" if "psu" in survey.respondents else "respondents")
        + ", moved so that the resamples' mean falls on the estimate",
        "about": about or {},
        "splits": splits,
    }
    return Results(values, pd.concat(tables, ignore_index=True))


class _Predictions:
    """The model's distributions for every distinct (profile, question) pair of all splits, from one call."""

    def __init__(self, survey: Survey, profiles: Profiles, predict: Predict, splits: list[SplitCells]) -> None:
        self._profiles = len(profiles.codes_PF)
        self._key_U = np.unique(np.concatenate([self._key(c) for c in splits]))
        question_U, profile_U = np.divmod(self._key_U, self._profiles)
        size_Q = np.array([len(q.options) for q in survey.questions])
        self._probs_UO = _check_probabilities(
            predict(profile_U.astype(np.int32), question_U.astype(np.int32)), size_Q[question_U], int(size_Q.max())
        )

    def _key(self, cells: SplitCells) -> np.ndarray:
        return cells.question_A * self._profiles + cells.profile_A

    def of(self, cells: SplitCells) -> np.ndarray:
        """Distribution [A, O] for each answer of `cells`."""
        return self._probs_UO[np.searchsorted(self._key_U, self._key(cells))]


def _check_probabilities(probs_UO: np.ndarray, size_U: np.ndarray, options: int) -> np.ndarray:
    probs_UO = np.asarray(probs_UO, np.float32)
    if probs_UO.shape != (len(size_U), options):
        raise ValueError(f"predict returned shape {probs_UO.shape}; expected {(len(size_U), options)}")
    if not np.isfinite(probs_UO).all():
        raise CumaError(
            f"the model predicted {int((~np.isfinite(probs_UO)).any(-1).sum())} distributions that are not finite; "
            "the checkpoint is broken (look for a diverged loss in metrics.jsonl) or the dtype overflows"
        )
    outside_UO = np.arange(options) >= size_U[:, None]
    if (probs_UO < 0).any() or (probs_UO[outside_UO] != 0).any() or (np.abs(probs_UO.sum(-1) - 1) > 1e-3).any():
        raise ValueError("predict must return rows of probabilities that sum to 1 and are 0 past the options")
    return probs_UO


def _fit(survey: Survey, groups: Groups, train_A: np.ndarray) -> Baselines:
    respondent_A = survey.respondent_A[train_A]
    return fit_baselines(
        np.array([len(q.options) for q in survey.questions]),
        len(groups.names),
        survey.question_A[train_A],
        groups.group_R[respondent_A],
        survey.option_A[train_A],
        survey.respondents["weight"].to_numpy(np.float64)[respondent_A],
    )


def _score_split(
    survey: Survey,
    groups: Groups,
    cells: SplitCells,
    cluster_R: np.ndarray,
    baselines: Baselines,
    predicted_AO: np.ndarray,
    config: EvaluationConfig,
    name: str,
) -> tuple[dict[str, Any], pd.DataFrame]:
    question_Q, question_C = np.unique(cells.question_C, return_inverse=True)
    asked = [survey.questions[q] for q in question_Q]
    size_C = np.array([len(q.options) for q in asked])[question_C]
    ordered_C = np.array([q.ordered for q in asked])[question_C]
    clusters, cluster_A = np.unique(cluster_R[cells.respondent_A], return_inverse=True)
    parts = Ingredients(
        sums=cluster_sums(
            cells, cluster_A, predicted_AO, nll(predicted_AO, cells.option_A),
            accuracy(predicted_AO, size_C[cells.cell_A], cells.option_A),
        ),
        baseline_MCO=np.stack([baselines.predict(b, cells.question_C, cells.group_C) for b in BASELINES]),
        question_C=question_C,
        size_C=size_C,
        ordered_C=ordered_C,
        count_C=cells.count_C.astype(np.float64),
        n_effective_C=kish_effective_n(cells.weight_A, cells.cell_A, len(cells.question_C)),
        num_questions=len(question_Q),
    )  # fmt: skip
    true_CO, model_CO = cell_distributions(parts)
    seed = (config.seed, SPLITS.index(name))
    floor_C = noise_floor(true_CO, parts.n_effective_C, size_C, ordered_C, seed=config.seed * len(SPLITS) + seed[1])
    floor_Q = np.bincount(question_C, floor_C) / np.bincount(question_C)

    point = {key: value_Q1[:, 0] for key, value_Q1 in figures(parts, np.ones((len(clusters), 1), np.float32)).items()}
    resampled = _bootstrap(parts, len(clusters), config.bootstrap, seed)
    count = _Counter(cells, question_C)

    def block(rows: np.ndarray) -> dict[str, Any]:
        """Every figure over the mean of the questions in `rows`."""
        return _block(
            {k: v[rows] for k, v in point.items()}, {k: v[rows] for k, v in resampled.items()}, floor_Q[rows],
            lambda known: count(rows[known]),
        )  # fmt: skip

    def describe(row: int) -> dict[str, Any]:
        index, question = int(question_Q[row]), asked[row]
        kept, every = cells.profiles[index]
        return {
            "text": question.text,
            "options": list(question.options),
            "source": question.source,
            "distance": "emd" if question.ordered else "total_variation",
            "train_answers": int(baselines.n_QG[index].sum()),
            "n_profiles_kept": kept,
            "n_profiles": every,
            **block(np.array([row])),
        }

    several_Q = np.bincount(question_C) >= MIN_GROUPS
    seen_C = baselines.n_QG[cells.question_C, cells.group_C] > 0
    summary = {
        "n": {
            **count(np.arange(len(question_Q))),
            "clusters": len(clusters),
            "cells_without_training_answers": int((~seen_C).sum()),
            "answers_in_small_cells": cells.small[0],
            "small_cells": cells.small[1],
            "answers_of_profiles_not_sampled": cells.not_sampled,
            "answers_without_group": cells.no_group,
        },
        "overall": block(np.arange(len(question_Q))),
        "several_groups": block(np.flatnonzero(several_Q)) if several_Q.any() else None,
        "few_groups": None if several_Q.all() else block(np.flatnonzero(~several_Q)),
        "questions": {question.id: describe(row) for row, question in enumerate(asked)},
    }
    table = pd.DataFrame({
        "split": name,
        "question": [asked[q].id for q in question_C],
        "group": [groups.names[g] for g in cells.group_C],
        "n": cells.count_C.astype(np.int64),
        "n_effective": parts.n_effective_C,
        "n_train": baselines.n_QG[cells.question_C, cells.group_C].astype(np.int64),
        "true": [row[:size].tolist() for row, size in zip(true_CO, size_C, strict=True)],
        "predicted": [row[:size].tolist() for row, size in zip(model_CO, size_C, strict=True)],
        "pooled": [row[:size].tolist() for row, size in zip(parts.baseline_MCO[1], size_C, strict=True)],
        "emd": distance(true_CO, model_CO, size_C, ordered_C),
        "js": jensen_shannon(true_CO, model_CO),
        "floor": floor_C,
        **{
            f"emd_{b}": distance(true_CO, parts.baseline_MCO[m], size_C, ordered_C) for m, b in enumerate(BASELINES)
        },
    })  # fmt: skip
    return summary, table


class _Counter:
    """Answers, respondents, cells and questions behind a set of the split's questions."""

    def __init__(self, cells: SplitCells, question_C: np.ndarray) -> None:
        self._cells, self._question_C = cells, question_C
        self._known: dict[bytes, dict[str, int]] = {}

    def __call__(self, rows: np.ndarray) -> dict[str, int]:
        key = np.sort(rows).tobytes()
        if key not in self._known:
            in_C = np.isin(self._question_C, rows)
            in_A = in_C[self._cells.cell_A]
            self._known[key] = {
                "answers": int(in_A.sum()),
                "respondents": len(np.unique(self._cells.respondent_A[in_A])),
                "cells": int(in_C.sum()),
                "questions": len(rows),
            }
        return self._known[key]


def _bootstrap(parts: Ingredients, clusters: int, resamples: int, seed: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Every figure [Q, B] in every resample, a chunk of resamples at a time to bound the memory."""
    chunk = int(np.clip(_CHUNK_BYTES // (4 * max(clusters, parts.sums.shape[0])), 1, 128))
    drawn = [figures(parts, weight_KB) for weight_KB in resample_weights(clusters, resamples, seed, chunk)]
    if not drawn:
        keys = figures(parts, np.ones((clusters, 1), np.float32))
        return {key: np.zeros((parts.num_questions, 0)) for key in keys}
    return {key: np.concatenate([d[key] for d in drawn], axis=1) for key in drawn[0]}


def _block(
    point: dict[str, np.ndarray],
    resampled: dict[str, np.ndarray],
    floor_Q: np.ndarray,
    count: Callable[[np.ndarray], dict[str, int]],
) -> dict[str, Any]:
    """Figures of the mean over some questions, as plain JSON values."""

    def mean(key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        known_Q = np.isfinite(point[key])
        if not known_Q.any():
            return known_Q, np.array(np.nan), np.full(resampled[key].shape[1], np.nan)
        part_QB = resampled[key][known_Q]
        some_B = np.isfinite(part_QB).any(0)
        mean_B = np.full(part_QB.shape[1], np.nan)
        mean_B[some_B] = np.nanmean(part_QB[:, some_B], axis=0)
        return known_Q, point[key][known_Q].mean(), mean_B

    def figure(known_Q: np.ndarray, value: np.ndarray, drawn_B: np.ndarray, low: float, high: float) -> dict[str, Any]:
        bounds = centred_interval(np.asarray(value)[None], drawn_B[None], low, high)
        return {"value": _number(value), "low": _number(bounds[0][0]), "high": _number(bounds[1][0]), **count(known_Q)}

    def pair(method: str, baseline: str) -> dict[str, Any]:
        known_Q, a, a_B = mean(f"{method}.emd")
        _, b, b_B = mean(f"{baseline}.emd")
        return figure(known_Q, a - b, a_B - b_B, -1.0, 1.0)

    every_Q, floor = np.ones(len(floor_Q), bool), floor_Q.mean()

    def closed(method: str) -> dict[str, Any]:
        (_, a, a_B), (_, b, b_B) = mean(f"{method}.emd"), mean("pooled.emd")
        share = share_closed(a, b, floor)
        # Centred before the division: the bootstrap's bias would otherwise count as distance not closed.
        share_B = share_closed(centre(a[None], a_B[None])[0], centre(b[None], b_B[None])[0], floor)
        return figure(every_Q, share, share_B, -np.inf, np.inf)

    return {
        "methods": {
            method: {metric: figure(*mean(f"{method}.{metric}"), *_RANGE[metric]) for metric in METRICS}
            for method in METHODS
        },
        "floor": {"value": _number(floor), **count(every_Q)},
        "share_closed": {method: closed(method) for method in METHODS if method not in ("uniform", "pooled")},
        "difference": {baseline: pair("model", baseline) for baseline in BASELINES},
        "spread": {key: figure(*mean(key), 0.0, np.inf) for key in _SPREAD},
    }


def _number(value: Any) -> float | None:
    """A float for JSON; None where the figure is not defined."""
    return float(value) if np.isfinite(value) else None
