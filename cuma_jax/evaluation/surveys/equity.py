"""Whom a model serves worst: accuracy and distance by the values of every profile field.

docs/evaluation.md ("Whom it serves worst") says what a group, its accuracy, its distance (total variation where the
options have no order) and `std_corrected` are. Figures are survey-weighted; each group's sampling variance is estimated
by linearisation, summed over clusters of respondents.

Legend: A answers, R respondents, G groups of a field, C cells (group x question), O options, K clusters.
"""

import dataclasses
from typing import Any

import numpy as np

from cuma_jax.evaluation.metrics.distances import accuracy
from cuma_jax.evaluation.surveys.grouping import SplitCells
from cuma_jax.surveys.survey import Survey

_CHUNK = 1 << 18


@dataclasses.dataclass(frozen=True)
class AnswerResiduals:
    """The answers that groups are scored by.

    `hit_A` is the credit for the likeliest option, `residual_AO` the answer (0 or 1) less the prediction, or the
    running sum of that over the options where they are ordered.
    """

    cluster_A: np.ndarray
    question_A: np.ndarray
    weight_A: np.ndarray
    hit_A: np.ndarray
    residual_AO: np.ndarray
    size_Q: np.ndarray
    ordered_Q: np.ndarray


def equity(
    survey: Survey, cells: SplitCells, cluster_A: np.ndarray, predicted_AO: np.ndarray, min_cell: int
) -> dict[str, Any]:
    """By profile field with two or more groups: `groups`, and `accuracy` and `distance`, as plain JSON values.

    Each of the two has `worst` (group, answers, score), `best`, `std` and `std_corrected` over the groups. `cells` are
    the split's scored answers, `cluster_A` the cluster of each answer's respondent, from 0; `min_cell` answers are what
    a group, and a group's question, need.
    """
    answers = answer_residuals(survey, cells, cluster_A, predicted_AO)
    found: dict[str, Any] = {}
    for field in survey.profile_fields:
        column = survey.respondents[field].astype("category")
        group_A = column.cat.codes.to_numpy().astype(np.int64)[cells.respondent_A]
        count_G = np.bincount(group_A + 1, minlength=len(column.cat.categories) + 1)[1:]
        used_G = count_G >= min_cell
        if used_G.sum() < 2:
            continue
        names = [str(name) for name, used in zip(column.cat.categories, used_G, strict=True) if used]
        place_G = np.append(np.where(used_G, np.cumsum(used_G) - 1, -1), -1)  # the last: of code -1
        scored = group_scores(answers, place_G[group_A], len(names), min_cell)
        if not survey.persons:  # shares are no sample: there is no variance to take off
            scored = {key: (score_G, np.full(len(names), np.nan)) for key, (score_G, _) in scored.items()}
        found[field] = {"groups": len(names)} | {
            key: _summary(names, count_G[used_G], *scored[key], worst_is_high=key == "distance") for key in scored
        }
    return found


def answer_residuals(
    survey: Survey, cells: SplitCells, cluster_A: np.ndarray, predicted_AO: np.ndarray
) -> AnswerResiduals:
    """What groups are scored by, of a split's answers; the arguments are those of `equity`."""
    size_Q = np.array([len(q.options) for q in survey.questions])
    ordered_Q = np.array([q.ordered for q in survey.questions])
    residual_AO = -predicted_AO.astype(np.float32)
    residual_AO[np.arange(len(residual_AO)), cells.option_A] += 1.0
    ordered_A = ordered_Q[cells.question_A]
    residual_AO[ordered_A] = np.cumsum(residual_AO[ordered_A], axis=-1)
    hit_A = accuracy(predicted_AO, size_Q[cells.question_A], cells.option_A)
    return AnswerResiduals(cluster_A, cells.question_A, cells.weight_A, hit_A, residual_AO, size_Q, ordered_Q)


def group_scores(
    answers: AnswerResiduals, group_A: np.ndarray, groups: int, min_cell: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`accuracy` and `distance` of each group, and their sampling variances, [G] each; NaN where one is not defined.

    `group_A` is the group of each answer's respondent, -1: none; `min_cell` answers are what a group's question needs.
    """
    inside_A = group_A >= 0
    index_A, group_A = np.flatnonzero(inside_A), group_A[inside_A]
    weight_A, cluster_A = answers.weight_A[index_A], answers.cluster_A[index_A]
    mass_G = np.bincount(group_A, weight_A, groups)
    accuracy_G = np.bincount(group_A, weight_A * answers.hit_A[index_A], groups) / mass_G
    share_A = weight_A / mass_G[group_A] * (answers.hit_A[index_A] - accuracy_G[group_A])
    variance_G = _cluster_variance(share_A, group_A, cluster_A, groups)

    key_C, cell_A, count_C = np.unique(
        group_A * len(answers.size_Q) + answers.question_A[index_A], return_inverse=True, return_counts=True
    )
    group_C, question_C = np.divmod(key_C, len(answers.size_Q))
    mass_C = np.bincount(cell_A, weight_A)
    residuals = (answers.residual_AO[index_A, option] for option in range(answers.residual_AO.shape[1]))
    gap_CO = np.stack([np.bincount(cell_A, weight_A * x_A, len(key_C)) / mass_C for x_A in residuals], axis=-1)
    # What one unit of each option's gap costs: a distance is the sum of absolute gaps times this.
    unit_C = np.where(answers.ordered_Q, 1.0 / (answers.size_Q - 1), 0.5)[question_C]
    distance_C = np.abs(gap_CO).sum(-1) * unit_C
    used_C = count_C >= min_cell
    questions_G = np.bincount(group_C, used_C, groups)
    per_C = np.where(used_C, 1.0 / np.maximum(questions_G[group_C], 1), 0.0)
    distance_G = np.where(questions_G > 0, np.bincount(group_C, distance_C * per_C, groups), np.nan)
    # Derivative of the distance by one answer: the sign of each gap times the answer's own residual, less the mean.
    influence_A = np.empty(len(index_A))
    for start in range(0, len(index_A), _CHUNK):
        part = slice(start, start + _CHUNK)
        cell = cell_A[part]
        own = np.einsum("ao,ao->a", np.sign(gap_CO)[cell], answers.residual_AO[index_A[part]]) * unit_C[cell]
        influence_A[part] = weight_A[part] / mass_C[cell] * per_C[cell] * (own - distance_C[cell])
    spread_G = _cluster_variance(influence_A, group_A, cluster_A, groups)
    return {"accuracy": (accuracy_G, variance_G), "distance": (distance_G, np.where(questions_G > 0, spread_G, np.nan))}


def _cluster_variance(x_A: np.ndarray, group_A: np.ndarray, cluster_A: np.ndarray, groups: int) -> np.ndarray:
    """Sum over clusters of the squared sum of `x_A`, by group: the variance of a sum of independent clusters."""
    clusters = int(cluster_A.max()) + 1
    key, place_A = np.unique(group_A * clusters + cluster_A, return_inverse=True)
    return np.bincount(key // clusters, np.bincount(place_A, x_A) ** 2, groups)


def _summary(
    names: list[str], count_G: np.ndarray, score_G: np.ndarray, variance_G: np.ndarray, worst_is_high: bool
) -> dict[str, Any] | None:
    """Worst and best group, and the spread over groups; None with fewer than two groups."""
    known = np.flatnonzero(np.isfinite(score_G))
    if len(known) < 2:
        return None
    order = known[np.argsort(score_G[known], kind="stable")]
    low, high = (
        {"group": names[g], "answers": int(count_G[g]), "score": float(score_G[g])} for g in (order[0], order[-1])
    )
    noise = (1 - 1 / len(known)) * variance_G[known].mean()
    return {
        "worst": high if worst_is_high else low,
        "best": low if worst_is_high else high,
        "std": float(score_G[known].std()),
        "std_corrected": float(np.sqrt(max(0.0, score_G[known].var() - noise))) if np.isfinite(noise) else None,
    }
