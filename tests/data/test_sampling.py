"""How often rows are drawn: the masses by question, weight and group, and what they come to. Shapes: A answers."""

import dataclasses
import itertools

import numpy as np
import pytest

from cuma_jax.config import DataConfig
from cuma_jax.data.sampling import (
    answer_rows,
    balance_groups,
    cell_rows,
    describe_sampling,
    kish_size,
    question_passes,
)
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.cells import build_cells
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.sources.invented import make_invented


@pytest.fixture(scope="module")
def survey():
    survey = make_invented()
    return survey, build_profiles(survey)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("build", [cell_rows, answer_rows])
def test_a_question_weighs_its_number_of_answers_to_the_power(survey, build, power):
    survey, profiles = survey
    rng = np.random.default_rng(0)
    # Questions with different numbers of answers.
    mask_A = rng.random(len(survey.question_A)) < np.array([0.9, 0.2, 0.5, 0.7, 0.1])[survey.question_A]
    rows = build(survey, profiles, mask_A, DataConfig(question_power=power))
    for q in range(5):
        answers = (survey.question_A[mask_A] == q).sum()
        np.testing.assert_allclose(rows.mass_N[rows.question_N == q].sum(), answers**power)


def test_cells_weigh_the_root_of_their_n_within_a_question(survey):
    survey, profiles = survey
    mask_A = np.ones(len(survey.question_A), bool)
    rows = cell_rows(survey, profiles, mask_A, DataConfig(question_power=0.5))
    cells = build_cells(survey, profiles, mask_A)
    for q in range(5):
        of_q = cells.question_N == q
        ratio = rows.mass_N[of_q] / np.sqrt(cells.count_N[of_q])
        np.testing.assert_allclose(ratio, ratio[0])


def test_answer_rows_are_the_answers(survey):
    survey, profiles = survey
    mask_A = np.random.default_rng(1).random(len(survey.question_A)) < 0.3
    rows = answer_rows(survey, profiles, mask_A, DataConfig(question_power=0.5))
    assert len(rows) == mask_A.sum()
    for n, a in itertools.islice(enumerate(np.flatnonzero(mask_A)), 50):
        assert rows.profile_N[n] == profiles.profile_R[survey.respondent_A[a]]
        assert (rows.question_N[n], rows.option_N[n]) == (survey.question_A[a], survey.option_A[a])


@pytest.fixture(scope="module")
def weighted(survey):
    """The survey with weights that differ, some of them zero."""
    survey, profiles = survey
    rng = np.random.default_rng(3)
    weight_R = rng.uniform(0, 3, len(survey.respondents)) * (rng.random(len(survey.respondents)) > 0.1)
    return dataclasses.replace(survey, respondents=survey.respondents.assign(weight=weight_R)), profiles


def test_by_survey_weight_an_answer_is_drawn_by_its_respondents_weight_within_a_question(weighted):
    survey, profiles = weighted
    mask_A = np.random.default_rng(1).random(len(survey.question_A)) < 0.5
    rows = answer_rows(survey, profiles, mask_A, DataConfig(question_power=0.5, sample_weights=True))
    weight_N = survey.respondents["weight"].to_numpy()[survey.respondent_A[mask_A]]
    for q in range(len(survey.questions)):
        of_q = rows.question_N == q
        np.testing.assert_allclose(rows.mass_N[of_q].sum(), of_q.sum() ** 0.5)
        np.testing.assert_allclose(rows.mass_N[of_q] / rows.mass_N[of_q].sum(), weight_N[of_q] / weight_N[of_q].sum())


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, 0.0])
def test_weights_that_cannot_be_drawn_by_are_one_message(survey, bad):
    survey, profiles = survey
    weight_R = np.full(len(survey.respondents), bad if bad == 0 else 1.0)
    weight_R[0] = bad
    broken = dataclasses.replace(survey, respondents=survey.respondents.assign(weight=weight_R))
    mask_A = np.ones(survey.num_answers, bool)
    with pytest.raises(CumaError, match=r"negative or missing, or all are zero.*data\.sample_weights"):
        answer_rows(broken, profiles, mask_A, DataConfig(sample_weights=True))
    assert len(answer_rows(broken, profiles, mask_A, DataConfig())) == survey.num_answers


@pytest.mark.parametrize("build", [cell_rows, answer_rows])
@pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
def test_a_group_is_drawn_by_its_share_to_the_power(survey, build, power):
    survey, profiles = survey
    mask_A = np.random.default_rng(1).random(survey.num_answers) < 0.5
    plain = build(survey, profiles, mask_A, DataConfig(question_power=0.5))
    rows = build(survey, profiles, mask_A, DataConfig(question_power=0.5, group_by="country", group_power=power))
    group_N = profiles.codes_PF[rows.profile_N, profiles.fields.index("country")]
    groups = np.unique(group_N)
    assert len(groups) > 1
    before, after = (np.array([r.mass_N[group_N == g].sum() for g in groups]) for r in (plain, rows))
    before, after = before / before.sum(), after / after.sum()
    np.testing.assert_allclose(after, before**power / (before**power).sum())
    if power == 1:
        np.testing.assert_array_equal(rows.mass_N, plain.mass_N)
    for g in groups:  # within a group nothing changes
        ratio = rows.mass_N[group_N == g] / plain.mass_N[group_N == g]
        np.testing.assert_allclose(ratio, ratio[0])


def test_rows_without_a_group_are_a_group_of_their_own_and_an_empty_one_has_no_share():
    mass_N = balance_groups(np.array([1.0, 1, 2, 4, 0]), np.array([-1, 0, 0, 2, 3]), 0.0)
    np.testing.assert_allclose(mass_N / mass_N.sum(), [1 / 3, 1 / 9, 2 / 9, 1 / 3, 0])


def test_a_group_field_that_is_not_there_is_one_message(survey):
    survey, profiles = survey
    mask_A = np.ones(survey.num_answers, bool)
    with pytest.raises(CumaError, match="unknown profile field 'planet'"):
        answer_rows(survey, profiles, mask_A, DataConfig(group_by="planet", group_power=0.5))
    few = build_profiles(survey, ("country",))
    with pytest.raises(CumaError, match=r"data\.group_by is 'sex'.*profile\.fields"):
        cell_rows(survey, few, mask_A, DataConfig(group_by="sex", group_power=0.5))


def test_kish_size_is_the_number_of_rows_that_count():
    assert kish_size(np.full(7, 0.3)) == pytest.approx(7)
    assert kish_size(np.array([1.0, 0, 0])) == 1
    mass_N = np.random.default_rng(0).uniform(0, 1, 50)
    # Source: Kish 1965, n_eff = n / (1 + cv^2).
    assert kish_size(mass_N) == pytest.approx(50 / (1 + (mass_N.std() / mass_N.mean()) ** 2))


def test_passes_are_what_is_drawn_in_the_long_run():
    rng = np.random.default_rng(2)
    question_N, mass_N = rng.integers(0, 4, 200), rng.uniform(0, 2, 200)
    question_N[question_N == 2] = 3  # question 2 has no rows
    drawn_N = np.bincount(rng.choice(200, 400_000, p=mass_N / mass_N.sum()), minlength=200)
    passes_Q = question_passes(mass_N, question_N, 400_000)
    for q in (0, 1, 3):
        assert passes_Q[q] == pytest.approx(drawn_N[question_N == q].mean(), rel=0.02)
    assert np.isnan(passes_Q[2])
    assert np.nansum(passes_Q * np.bincount(question_N)) == pytest.approx(400_000)


def test_sampling_is_described_in_passes(survey):
    survey, profiles = survey
    rows = answer_rows(survey, profiles, np.ones(survey.num_answers, bool), DataConfig(question_power=0.0))
    ids = [q.id for q in survey.questions]
    text = describe_sampling(rows.mass_N, 2 * len(rows), rows.question_N, ids)
    count_Q = np.bincount(rows.question_N)
    first, second = text.split("\n")
    assert f"{len(rows):,} rows" in first
    assert "2.00 passes" in first
    if count_Q.min() < count_Q.max():  # all questions alike: a row of the smallest is drawn most
        assert f"question {ids[int(count_Q.argmin())]} is drawn" in second
    assert "every row once" in describe_sampling(rows.mass_N, 10, order="epochs")
    assert "\n" not in describe_sampling(rows.mass_N, 10)
