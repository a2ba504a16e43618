"""Cells: the answers of a group of respondents to a question, as one distribution; a group is here a profile.

Training on a cell's distribution has the same expected gradient as training on its answers one by one, with less
noise (method: `objective.aggregate = cell`).

Shapes: A answers, N cells, R respondents, P profiles, Q questions, O the most options any question
has; of one question: n answers, c cells, o options.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey


@dataclasses.dataclass(frozen=True)
class Cells:
    """Distributions by (profile, question), sorted by profile and then question.

    Attributes:
        profile_N: int32 [N], row of the profile.
        question_N: int32 [N], index of the question.
        count_N: int32 [N], number of answers (unweighted).
        target_NO: float32 [N, O], survey-weighted share of each option; zero past the question's options.
    """

    profile_N: np.ndarray
    question_N: np.ndarray
    count_N: np.ndarray
    target_NO: np.ndarray

    def __len__(self) -> int:
        return len(self.profile_N)


def build_cells(survey: Survey, profiles: Profiles, mask_A: np.ndarray | None = None) -> Cells:
    """The cells of the answers that `mask_A` (bool [A]; None: all) selects.

    Question by question, twice: to count each profile's cells, which tells where they go, and to fill them in. So
    the only arrays of the size of the answers are those of the result (and, for answers that are not in the order of
    their questions, one order). A `CumaError` where no answer is selected, or a cell's weights add up to nothing.
    """
    num_questions, num_profiles = len(survey.questions), len(profiles)
    weight_R = survey.respondents["weight"].to_numpy(np.float64)
    cells_P = np.zeros(num_profiles + 1, np.int64)
    for rows_n in _rows_by_question(survey.question_A, num_questions, mask_A):
        cells_P[_distinct(profiles.profile_R[survey.respondent_A[rows_n]], num_profiles)[0] + 1] += 1
    if not cells_P.any():
        raise CumaError(f"survey {survey.name!r}: no answers to aggregate; the split or the question filter is empty")
    # The next free cell of each profile; questions come in order, so cells are sorted by profile, then question.
    next_P = np.cumsum(cells_P)
    num_cells, num_options = int(next_P[-1]), max(len(q.options) for q in survey.questions)
    profile_N, question_N = (np.empty(num_cells, np.int32) for _ in range(2))
    count_N, target_NO = np.empty(num_cells, np.int32), np.zeros((num_cells, num_options), np.float32)
    for q, rows_n in enumerate(_rows_by_question(survey.question_A, num_questions, mask_A)):
        size = len(survey.questions[q].options)
        respondent_n, option_n = survey.respondent_A[rows_n], survey.option_A[rows_n]
        profile_c, cell_n = _distinct(profiles.profile_R[respondent_n], num_profiles)
        total_co = np.bincount(
            cell_n * size + option_n, weights=weight_R[respondent_n], minlength=len(profile_c) * size
        ).reshape(len(profile_c), size)
        sum_c = total_co.sum(axis=1, keepdims=True)
        if not (np.isfinite(sum_c) & (sum_c > 0)).all():
            raise CumaError(f"survey {survey.name!r}: some weights are negative, missing, or add up to zero in a cell")
        place_c = next_P[profile_c]
        next_P[profile_c] += 1
        profile_N[place_c], question_N[place_c] = profile_c, q
        count_N[place_c] = np.bincount(cell_n, minlength=len(profile_c))
        target_NO[place_c, :size] = total_co / sum_c
    return Cells(profile_N, question_N, count_N, target_NO)


def _rows_by_question(
    question_A: np.ndarray, num_questions: int, mask_A: np.ndarray | None
) -> Iterator[slice | np.ndarray]:
    """The answers that each question has, in their order; those of one question at a time."""
    if np.any(question_A[1:] < question_A[:-1]):
        # A stable sort of int16 takes one pass.
        order_A = np.argsort(question_A.astype(np.int16) if num_questions < 2**15 else question_A, kind="stable")
        end_Q = np.cumsum(np.bincount(question_A, minlength=num_questions))
    else:
        order_A = None
        end_Q = np.searchsorted(question_A, np.arange(num_questions, dtype=question_A.dtype), side="right")
    start = 0
    for end in end_Q.tolist():
        if order_A is not None:
            rows = order_A[start:end]
            yield rows if mask_A is None else rows[mask_A[rows]]
        elif mask_A is None:
            yield slice(start, end)
        else:
            yield np.flatnonzero(mask_A[start:end]) + start
        start = end


def _distinct(profile_n: np.ndarray, num_profiles: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct profiles, sorted, and the position of each row's among them."""
    if len(profile_n) * 16 < num_profiles:
        return np.unique(profile_n, return_inverse=True)
    seen_P = np.zeros(num_profiles, bool)
    seen_P[profile_n] = True
    return np.flatnonzero(seen_P), (np.cumsum(seen_P) - 1)[profile_n]
