"""The metrics of the CuMA paper's evaluation, of the same predictions as all others, so that numbers can be compared.

They are of single respondents: each is predicted by the likeliest option (the first of ties). No survey weights, no
intervals, and no noise floor. docs/evaluation.md lists them ("As the paper measures"); the definitions are those of the
official code (github.com/Throll/CuMA, evaluate/evaluate_wvs.py).

Legend: A answers, R respondents, Q questions, L letters, G groups of a field.
"""

from typing import Any

import numpy as np

from cuma_jax.evaluation.surveys.grouping import SplitCells
from cuma_jax.evaluation.surveys.wvb_emd import multiset_emd, threshold_auc
from cuma_jax.surveys.profiles import REFERENCE_FIELDS
from cuma_jax.surveys.survey import Survey

MIN_SUBGROUP = 5
"""Answers a subgroup needs to count in `sigma_inequity`, which is of fields with two or more such groups."""


def paper_metrics(survey: Survey, cells: SplitCells, predicted_AO: np.ndarray) -> dict[str, Any]:
    """The metrics above, of a split's scored answers, as plain JSON values; None where one is not defined."""
    from sklearn.metrics import f1_score  # here and not above: importing it takes a second

    choice_A = predicted_AO.argmax(-1)
    hit_A = choice_A == cells.option_A
    emd_Q = _question_emds(survey, cells, choice_A)
    found = {field: _subgroup_accuracy(survey, cells, hit_A, field, MIN_SUBGROUP) for field in sigma_fields(survey)}
    sigmas = {field: float(accuracy_G.std()) for field, accuracy_G in found.items() if len(accuracy_G) > 1}
    country = next((c for c in ("country", REFERENCE_FIELDS["country"]) if c in survey.respondents), None)
    right_G = np.zeros(0) if country is None else _subgroup_accuracy(survey, cells, hit_A, country, 1)
    return {
        "answers": len(hit_A),
        "accuracy": float(hit_A.mean()),
        "macro_f1": float(f1_score(cells.option_A, choice_A, average="macro")),
        "emd": float(emd_Q.mean()) if len(emd_Q) else None,
        "emd_auc": threshold_auc(emd_Q) if len(emd_Q) else None,
        "emd_questions": len(emd_Q),
        "country_accuracy": float(right_G.mean()) if len(right_G) else None,
        "countries": len(right_G),
        "sigma_inequity": float(np.mean(list(sigmas.values()))) if sigmas else None,
        "sigma_fields": list(sigmas),
    }


def sigma_fields(survey: Survey) -> tuple[str, ...]:
    """The paper's eight profile fields where the survey has them all (readable or official names), else all its own."""
    for eight in (tuple(REFERENCE_FIELDS), tuple(REFERENCE_FIELDS.values())):
        if set(eight) <= set(survey.respondents.columns):
            return eight
    return survey.profile_fields


def _question_emds(survey: Survey, cells: SplitCells, choice_A: np.ndarray) -> np.ndarray:
    """EMD of each question whose options are a scale, float64 [Q]."""
    order_A = np.argsort(cells.question_A, kind="stable")
    asked, start_Q = np.unique(cells.question_A[order_A], return_index=True)
    found = []
    for question, rows in zip(asked, np.split(order_A, start_Q[1:]), strict=True):
        if survey.questions[question].ordered:
            last = len(survey.questions[question].options) - 1
            found.append(multiset_emd(cells.option_A[rows], choice_A[rows], 0, last))
    return np.array(found)


def _subgroup_accuracy(survey: Survey, cells: SplitCells, hit_A: np.ndarray, field: str, least: int) -> np.ndarray:
    """Accuracy of each value of `field` with at least `least` answers; people without one are left out."""
    code_R = survey.respondents[field].astype("category").cat.codes.to_numpy()
    code_A = code_R[cells.respondent_A] + 1
    count_G = np.bincount(code_A)[1:]
    right_G = np.bincount(code_A, hit_A, minlength=len(count_G) + 1)[1:]
    return right_G[count_G >= least] / count_G[count_G >= least]
