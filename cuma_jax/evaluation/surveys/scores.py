"""Scores of a model on a survey: per question and overall, beside baselines, with bootstrap intervals.

Figures, each with its number of answers, respondents, cells and questions, and a 95% interval over respondents:

- `emd`: earth mover's distance between the true (survey-weighted) and predicted distribution of a (group, question)
  cell, averaged over the question's cells; total variation for questions whose options have no order.
- `js`, `tv`: Jensen-Shannon divergence in bits and total variation, averaged likewise.
- `nll` (nats), `brier` and `accuracy` (of the likeliest option): per answer, survey-weighted.
- `ece`: expected calibration error: answers in ten bins of equal width by the probability of the likeliest option;
  the mean over answers of each bin's |mean probability - accuracy|, every question with the same weight.
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
from cuma_jax.evaluation.metrics.baselines import Marginals, fit_marginals
from cuma_jax.evaluation.results import SCHEMA, Results
from cuma_jax.evaluation.surveys.grouping import (
    Groups,
    SplitCells,
    build_clusters,
    build_groups,
    build_split_cells,
    whole_profiles,
)
from cuma_jax.evaluation.surveys.logistic import Logistic
from cuma_jax.evaluation.surveys.split_scores import score_split
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import Profiles, build_profiles
from cuma_jax.surveys.splits import SPLITS
from cuma_jax.surveys.survey import Survey

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`predict(profile_U int32, question_U int32) -> probabilities [U, O]`, zero past each question's options."""


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
    whole = whole_profiles(survey, profiles)
    by_split = {
        name: build_split_cells(survey, whole, groups, split_A == SPLITS.index(name), config, name)
        for name in config.splits
    }
    train_A = split_A == SPLITS.index("train")
    marginals = _fit(survey, groups, train_A)
    told = _told(survey, profiles)
    logistic = Logistic(survey, told, train_A, marginals.pooled_QO, config.seed)
    sources = {
        "model": _Predictions(survey, profiles, predict, list(by_split.values())),
        "logistic": _Predictions(survey, told, logistic, list(by_split.values())),
    }
    tables, splits, resamples = [], {}, dict[str, np.ndarray]()
    for name, cells in by_split.items():
        predicted = {method: source.of(cells) for method, source in sources.items()}
        splits[name], table, drawn = score_split(survey, groups, cells, cluster_R, marginals, predicted, config, name)
        tables.append(table)
        resamples |= drawn
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
    return Results(values, pd.concat(tables, ignore_index=True), resamples)


def _told(survey: Survey, profiles: Profiles) -> Profiles:
    """Profiles of all the survey's fields and of whatever else (derived fields) the model is told: for `logistic`."""
    more = tuple(f for f in profiles.fields if f not in survey.profile_fields and f in survey.respondents)
    return build_profiles(survey, survey.profile_fields + more) if more else whole_profiles(survey, profiles)


class _Predictions:
    """A method's distributions for every distinct (profile, question) pair of all splits, from one call."""

    def __init__(self, survey: Survey, profiles: Profiles, predict: Predict, splits: list[SplitCells]) -> None:
        self._profiles = profiles
        self._key_U = np.unique(np.concatenate([self._key(c) for c in splits]))
        question_U, profile_U = np.divmod(self._key_U, len(profiles))
        size_Q = np.array([len(q.options) for q in survey.questions])
        self._probs_UO = _check_probabilities(
            predict(profile_U.astype(np.int32), question_U.astype(np.int32)), size_Q[question_U], int(size_Q.max())
        )

    def _key(self, cells: SplitCells) -> np.ndarray:
        return cells.question_A * len(self._profiles) + self._profiles.profile_R[cells.respondent_A]

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


def _fit(survey: Survey, groups: Groups, train_A: np.ndarray) -> Marginals:
    respondent_A = survey.respondent_A[train_A]
    return fit_marginals(
        np.array([len(q.options) for q in survey.questions]),
        len(groups.names),
        survey.question_A[train_A],
        groups.group_R[respondent_A],
        survey.option_A[train_A],
        survey.respondents["weight"].to_numpy(np.float64)[respondent_A],
    )
