"""Scores of a model on a survey: per question and overall, beside baselines, with bootstrap intervals.

docs/evaluation.md says what each metric, `overall`, `several_groups` and `few_groups` are. Each metric has its number
of answers, respondents, cells and questions, and a 95% interval over respondents. `emd`, `js` and `tv` are means over a
question's cells; `nll`, `brier` and `accuracy` are per answer, survey-weighted.

Predictions, baselines, groups and questions are held fixed while respondents are resampled, so an interval says how
sure the sample makes us of these weights on these groups, not how another training run or another set of countries
would do.

Legend: A answers, C cells, U distinct (profile, question) pairs, O options, Q questions, K clusters, B resamples.
"""

from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.config import EvaluationConfig
from cuma_jax.evaluation.metrics.baselines import Marginals, fit_marginals
from cuma_jax.evaluation.results import SCHEMA, Results
from cuma_jax.evaluation.surveys.grouping import Selection, SplitCells, pair_keys, whole_profiles
from cuma_jax.evaluation.surveys.logistic import Logistic
from cuma_jax.evaluation.surveys.prediction import Predictions
from cuma_jax.evaluation.surveys.split_scores import score_split
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import Profiles, build_profiles
from cuma_jax.surveys.survey import Survey


def evaluate(
    selection: Selection,
    predictions: Predictions,
    config: EvaluationConfig,
    about: dict[str, Any] | None = None,
    logistic: Logistic | None = None,
) -> Results:
    """Scores predictions, of `selection.pairs`, and the baselines on every split of a selection.

    `about`, how it was measured (command, machine, versions), is kept as it is; `logistic` is made here where none is
    given, and fitted. A CumaError where predictions are not finite.
    """
    survey, profiles = selection.survey, selection.profiles
    groups = selection.groups
    marginals = survey_marginals(survey, selection.train_A, groups.group_R, len(groups.names))
    logistic = logistic or logistic_of(survey, profiles, selection.train_A, marginals.pooled_QO, config.seed)
    told = logistic.profiles
    pairs = selection.distinct_pairs(told)
    methods = {"model": (profiles, predictions), "logistic": (told, Predictions(*pairs, logistic(*pairs)))}
    for _, found in methods.values():
        _check(survey, found)
    tables, splits, resamples = [], {}, dict[str, np.ndarray]()
    for name, cells in selection.splits.items():
        predicted = {method: _of_answers(found, known, cells) for method, (known, found) in methods.items()}
        splits[name], table, drawn = score_split(selection, cells, marginals, predicted, config, name)
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
        **({} if survey.persons else {"persons": False}),  # shares of countries, not answers of persons
        "interval": "none over respondents, which are shares and no persons"
        if not survey.persons
        else "95%, percentile of the Poisson bootstrap over "
        + ("primary sampling units" if "psu" in survey.respondents else "respondents")
        + ", moved so that the resamples' mean falls on the estimate",
        "about": about or {},
        "splits": splits,
    }
    return Results(values, pd.concat(tables, ignore_index=True), resamples, predictions, logistic)


def logistic_of(survey: Survey, profiles: Profiles, train_A: np.ndarray, pooled_QO: np.ndarray, seed: int) -> Logistic:
    """The baseline `logistic` of a survey, not fitted yet; `profiles` are the model's."""
    return Logistic(survey, _told(survey, profiles), train_A, pooled_QO, seed)


def _told(survey: Survey, profiles: Profiles) -> Profiles:
    """Profiles of all the survey's fields and of whatever else (derived fields) the model is told: for `logistic`."""
    more = tuple(f for f in profiles.fields if f not in survey.profile_fields and f in survey.respondents)
    return build_profiles(survey, survey.profile_fields + more) if more else whole_profiles(survey, profiles)


def _of_answers(predictions: Predictions, profiles: Profiles, cells: SplitCells) -> np.ndarray:
    """Distribution [A, O] for each answer of `cells`, float32."""
    key_U = predictions.question_N.astype(np.int64) * len(profiles) + predictions.profile_N
    return np.asarray(predictions.probs_NO, np.float32)[np.searchsorted(key_U, pair_keys(profiles, cells))]


def _check(survey: Survey, predictions: Predictions) -> None:
    size_Q = np.array([len(q.options) for q in survey.questions])
    options, probs_UO = int(size_Q.max()), np.asarray(predictions.probs_NO, np.float32)
    if probs_UO.shape != (len(predictions.question_N), options):
        raise ValueError(f"predictions of shape {probs_UO.shape}; expected {(len(predictions.question_N), options)}")
    if not np.isfinite(probs_UO).all():
        raise CumaError(
            f"the model predicted {int((~np.isfinite(probs_UO)).any(-1).sum())} distributions that are not finite; "
            "the checkpoint is broken (look for a diverged loss in metrics.jsonl) or the dtype overflows"
        )
    outside_UO = np.arange(options) >= size_Q[predictions.question_N][:, None]
    if (probs_UO < 0).any() or (probs_UO[outside_UO] != 0).any() or (np.abs(probs_UO.sum(-1) - 1) > 1e-3).any():
        raise ValueError("predictions must be rows of probabilities that sum to 1 and are 0 past the options")


def survey_marginals(survey: Survey, train_A: np.ndarray, group_R: np.ndarray, groups: int) -> Marginals:
    """The marginals of a survey's training answers, by question and by the group [R] of the respondent."""
    size_Q = np.array([len(q.options) for q in survey.questions])
    question_A, option_A, respondent_A = (x[train_A] for x in (survey.question_A, survey.option_A, survey.respondent_A))
    weight_A = survey.respondents["weight"].to_numpy(np.float64)[respondent_A]
    return fit_marginals(size_Q, groups, question_A, group_R[respondent_A], option_A, weight_A)
