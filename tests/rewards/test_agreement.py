"""The survey reward: GRPO's expected gradient with it is that of the energy distance, by enumeration."""

import itertools

import numpy as np
import pytest

from cuma_jax.rewards import Sample
from cuma_jax.rewards.agreement import (
    INVALID,
    SurveyAgreement,
    distances,
    energy_distance,
    group_agreement,
    group_rewards,
)
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.cells import build_cells
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.sources.invented import make_invented

PEOPLE = {3: np.array([0.2, 0.5, 0.3]), 4: np.array([0.05, 0.15, 0.2, 0.6])}
LOGITS = {3: np.array([0.9, -0.4, 0.1]), 4: np.array([0.3, 1.2, -0.7, 0.0])}


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def expected_gradient(logits_O, people_O, ordered, samples):
    """Sum over every group that could be sampled of its probability times sum_i A_i grad log pi(o_i)."""
    p_O = softmax(logits_O)
    total_O = np.zeros(len(p_O))
    for group in itertools.product(range(len(p_O)), repeat=samples):
        option_G = np.array(group)
        reward_G = group_rewards(option_G, people_O, ordered)
        advantage_G = reward_G - reward_G.mean()
        score_GO = np.eye(len(p_O))[option_G] - p_O
        total_O += np.prod(p_O[option_G]) * (advantage_G @ score_GO)
    return total_O


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("options", "samples"), [(3, 3), (3, 4), (4, 3), (4, 4), (3, 5)])
def test_the_expected_gradient_is_that_of_minus_the_energy_distance(options, samples, ordered):
    people_O, logits_O = PEOPLE[options], LOGITS[options]
    d_OO, step = distances(options, ordered), 1e-5

    def negative(logits_O):
        p_O = softmax(logits_O)
        return -(2 * p_O @ d_OO @ people_O - p_O @ d_OO @ p_O)

    gradient_O = np.array(
        [(negative(logits_O + e_O) - negative(logits_O - e_O)) / (2 * step) for e_O in np.eye(options) * step]
    )
    found_O = expected_gradient(logits_O, people_O, ordered, samples)
    np.testing.assert_allclose(found_O, gradient_O * (samples - 1) / 2, atol=1e-8)
    assert np.abs(gradient_O).max() > 0.01
    # At people's own distribution nothing moves; rewarding p(o) would go on to the mode.
    assert np.abs(expected_gradient(np.log(people_O), people_O, ordered, samples)).max() < 1e-12


def test_invalid_replies_leave_the_gradient_of_the_valid_ones_where_it_was():
    """Of groups with a given pattern of valid replies (at least two), by enumeration."""
    people_O, logits_O, samples = PEOPLE[3], LOGITS[3], 4
    p_O, d_OO = softmax(logits_O), distances(3, True)
    gradient_O = -(2 * d_OO @ people_O - 2 * d_OO @ p_O)
    gradient_O = p_O * (gradient_O - p_O @ gradient_O)
    for valid in (2, 3, 4):
        total_O = np.zeros(3)
        for group in itertools.product(range(3), repeat=valid):
            option_G = np.append(np.array(group), np.full(samples - valid, -1))
            reward_G = group_rewards(option_G, people_O, True)
            advantage_G = (reward_G - reward_G.mean())[:valid]
            total_O += np.prod(p_O[list(group)]) * (advantage_G @ (np.eye(3)[list(group)] - p_O))
        np.testing.assert_allclose(total_O, gradient_O * valid * (samples - 1) / (2 * samples), atol=1e-12)


@pytest.mark.parametrize("ordered", [True, False])
def test_an_invalid_reply_is_worth_less_than_any_valid_one(ordered):
    for group in itertools.product(range(-1, 4), repeat=3):
        reward_G = group_rewards(np.array(group), PEOPLE[4], ordered)
        valid_G = np.array(group) >= 0
        assert (reward_G[valid_G] >= -1 - 1e-12).all()
        assert INVALID < -1
        assert (reward_G[~valid_G] == INVALID).all()
        if valid_G.sum() == 1:
            assert reward_G[valid_G] == 0


@pytest.mark.parametrize("ordered", [True, False])
def test_agreement_is_unbiased_and_zero_at_best(ordered):
    people_O, p_O = PEOPLE[3], softmax(LOGITS[3])
    mean = sum(
        np.prod(p_O[list(group)]) * group_agreement(np.array(group), people_O, ordered)
        for group in itertools.product(range(3), repeat=3)
    )
    assert mean == pytest.approx(-energy_distance(p_O, people_O, ordered))
    assert energy_distance(people_O, people_O, ordered) == pytest.approx(0)
    if ordered:
        squares = np.sum((np.cumsum(p_O) - np.cumsum(people_O)) ** 2)
        assert energy_distance(p_O, people_O, True) == pytest.approx(squares * 2 / 2)


def test_groups_of_a_survey_are_scored_against_their_own_cells():
    survey = make_invented()
    profiles = build_profiles(survey)
    cells = build_cells(survey, profiles)
    reward = SurveyAgreement(survey.questions, cells)
    cell_of, option_of = {7: 11, 3: 200}, {7: np.array([0, 1, -1, 1]), 3: np.array([1, 0, 1, 0])}
    samples = [
        Sample(group, "", (), "", profile_row=int(cells.profile_N[cell]), question=int(cells.question_N[cell]),
               option=option)
        for group, cell in cell_of.items() for option in option_of[group]
    ]  # fmt: skip
    scores = reward.score(samples)
    expected, agreement = [], []
    for group, option_G in option_of.items():
        question = survey.questions[cells.question_N[cell_of[group]]]
        people_O = cells.target_NO[cell_of[group], : len(question.options)].astype(np.float64)
        expected += list(group_rewards(option_G, people_O / people_O.sum(), question.ordered))
        agreement.append(group_agreement(option_G, people_O / people_O.sum(), question.ordered))
    np.testing.assert_allclose(scores.values, expected)
    assert scores.metrics["invalid"] == 1 / 8
    assert scores.metrics["agreement"] == pytest.approx(np.mean(agreement))
    assert agreement[0] != agreement[1]


def test_a_cell_that_nobody_answered_is_named():
    survey = make_invented()
    profiles = build_profiles(survey)
    reward = SurveyAgreement(survey.questions, build_cells(survey, profiles, survey.question_A > 0))
    with pytest.raises(CumaError, match=r"nobody with profile number 0 answered question invented\.tea"):
        reward.people(0, 0)
