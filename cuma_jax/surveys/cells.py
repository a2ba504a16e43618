"""Cells: the answers of all respondents who share a profile and a question, as one distribution.

Training on a cell's distribution has the same expected gradient as training on its answers one by one, with less
noise (method: `objective.aggregate = cell`).

Shapes: A answers, N cells, Q questions, O the most options any question has.
"""

import dataclasses

import numpy as np

from cuma_jax.errors import CumaError
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

    Raises:
        CumaError: no answer is selected, or a cell's weights add up to nothing.
    """
    keep_A = slice(None) if mask_A is None else mask_A
    respondent_A, question_A, option_A = survey.respondent_A[keep_A], survey.question_A[keep_A], survey.option_A[keep_A]
    if len(respondent_A) == 0:
        raise CumaError(f"survey {survey.name!r}: no answers to aggregate; the split or the question filter is empty")
    num_questions, num_options = len(survey.questions), max(len(q.options) for q in survey.questions)
    weight_A = survey.respondents["weight"].to_numpy(np.float64)[respondent_A]
    key_A = profiles.profile_R[respondent_A].astype(np.int64) * num_questions + question_A
    key_N, cell_A, count_N = np.unique(key_A, return_inverse=True, return_counts=True)
    total_NO = np.bincount(
        cell_A * num_options + option_A, weights=weight_A, minlength=len(key_N) * num_options
    ).reshape(len(key_N), num_options)
    sum_N = total_NO.sum(axis=1, keepdims=True)
    if not (np.isfinite(sum_N) & (sum_N > 0)).all():
        raise CumaError(f"survey {survey.name!r}: some weights are negative, missing, or add up to zero in a cell")
    return Cells(
        profile_N=(key_N // num_questions).astype(np.int32),
        question_N=(key_N % num_questions).astype(np.int32),
        count_N=count_N.astype(np.int32),
        target_NO=(total_NO / sum_N).astype(np.float32),
    )
