import dataclasses
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest

from cuma_jax.errors import CumaError
from cuma_jax.surveys.cells import build_cells
from cuma_jax.surveys.invented import QUESTIONS, make_invented
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.survey import Survey


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
    for n, key in enumerate(sorted(count)):
        assert cells.count_N[n] == count[key]
        np.testing.assert_allclose(cells.target_NO[n], mass[key] / mass[key].sum(), atol=1e-6)


def test_rows_are_distributions_padded_with_zeros():
    survey = make_invented()
    cells = build_cells(survey, build_profiles(survey))
    np.testing.assert_allclose(cells.target_NO.sum(axis=1), 1, atol=1e-6)
    assert cells.target_NO.dtype == np.float32
    for n, q in enumerate(cells.question_N):
        assert not cells.target_NO[n, len(survey.questions[q].options) :].any()
    assert cells.count_N.sum() == survey.num_answers


def test_no_answers_or_worthless_weights_are_errors():
    survey = make_invented()
    profiles = build_profiles(survey)
    with pytest.raises(CumaError, match="no answers"):
        build_cells(survey, profiles, np.zeros(survey.num_answers, bool))
    worthless = dataclasses.replace(survey, respondents=survey.respondents.assign(weight=0.0))
    with pytest.raises(CumaError, match="weights"):
        build_cells(worthless, profiles)


def test_a_million_answers_all_land_in_a_cell():
    rng = np.random.default_rng(0)
    size, people = 1_000_000, 200_000
    respondents = pd.DataFrame({"respondent_id": pd.RangeIndex(people).astype(str), "weight": np.ones(people)})
    respondents["country"] = pd.Categorical.from_codes(rng.integers(100, size=people), [f"c{i}" for i in range(100)])
    respondents["age"] = pd.Categorical.from_codes(rng.integers(100, size=people), [f"a{i}" for i in range(100)])
    question_A = rng.integers(len(QUESTIONS), size=size).astype(np.int32)
    survey = Survey(
        "big", QUESTIONS, respondents, ("country", "age"), rng.integers(people, size=size).astype(np.int32),
        question_A, rng.integers(2, size=size).astype(np.int32),
    )  # fmt: skip
    profiles = build_profiles(survey)
    cells = build_cells(survey, profiles)
    assert cells.count_N.sum() == size
    np.testing.assert_allclose(cells.target_NO.sum(axis=1), 1.0, rtol=1e-5)
