import dataclasses
from collections import defaultdict

import numpy as np
import pytest

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.cells import build_cells
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.sources.invented import QUESTIONS, make_invented


def weighted_survey():
    survey = make_invented(3)
    weight = np.random.default_rng(0).uniform(0.2, 4, len(survey.respondents))
    return dataclasses.replace(survey, respondents=survey.respondents.assign(weight=weight))


def test_cells_equal_counting_one_answer_at_a_time():
    survey = weighted_survey()
    profiles = build_profiles(survey)
    mask_A = np.random.default_rng(1).random(survey.num_answers) < 0.7
    cells = build_cells(survey, profiles, mask_A)
    count, mass = defaultdict(int), defaultdict(lambda: np.zeros(5))
    for a in np.flatnonzero(mask_A):
        r = survey.respondent_A[a]
        key = (int(profiles.profile_R[r]), int(survey.question_A[a]))
        count[key] += 1
        mass[key][survey.option_A[a]] += survey.respondents["weight"][r]
    assert list(zip(cells.profile_N.tolist(), cells.question_N.tolist(), strict=True)) == sorted(count)
    assert cells.target_NO.dtype == np.float32
    for n, key in enumerate(sorted(count)):
        assert cells.count_N[n] == count[key]
        np.testing.assert_allclose(cells.target_NO[n], mass[key] / mass[key].sum(), atol=1e-6)


def test_cells_do_not_depend_on_how_answers_are_ordered():
    """By question, as the readers write them, or not: bit for bit the same."""
    survey = weighted_survey()
    survey = survey.with_answers(np.argsort(survey.question_A, kind="stable"))
    profiles = build_profiles(survey)
    mask_A = np.random.default_rng(2).random(survey.num_answers) < 0.6
    # Whole questions apart, so that the answers of a cell stay in order and their float sums are the same.
    moved_A = np.argsort((survey.question_A * 7) % len(survey.questions), kind="stable")
    moved = survey.with_answers(moved_A)
    assert (np.diff(moved.question_A) < 0).any()
    for a, b in (
        (build_cells(survey, profiles), build_cells(moved, profiles)),
        (build_cells(survey, profiles, mask_A), build_cells(moved, profiles, mask_A[moved_A])),
    ):
        for field in dataclasses.fields(a):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))


def test_a_question_of_few_answers_among_many_profiles():
    survey, rng = weighted_survey(), np.random.default_rng(3)
    profiles = build_profiles(survey)
    keep = np.concatenate([np.flatnonzero(survey.question_A == q)[: 1 if q else None] for q in range(len(QUESTIONS))])
    few = survey.with_answers(rng.permutation(keep))
    cells = build_cells(few, profiles)
    pairs = zip(profiles.profile_R[few.respondent_A].tolist(), few.question_A.tolist(), strict=True)
    assert list(zip(cells.profile_N.tolist(), cells.question_N.tolist(), strict=True)) == sorted(set(pairs))


def test_no_answers_or_worthless_weights_are_errors():
    survey = make_invented()
    profiles = build_profiles(survey)
    with pytest.raises(CumaError, match="no answers"):
        build_cells(survey, profiles, np.zeros(survey.num_answers, bool))
    worthless = dataclasses.replace(survey, respondents=survey.respondents.assign(weight=0.0))
    with pytest.raises(CumaError, match="weights"):
        build_cells(worthless, profiles)
