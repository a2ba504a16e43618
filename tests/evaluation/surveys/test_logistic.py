"""The logistic baseline against scikit-learn on rows written out one by one, and what it does at the edges."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from cuma_jax.evaluation.metrics.distances import nll
from cuma_jax.evaluation.surveys import logistic
from cuma_jax.evaluation.surveys.logistic import Logistic
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.survey import Question, Survey


def make_survey(people: int = 600, seed: int = 0) -> Survey:
    """Answers that depend on two of three fields; the last country is not in training, some sexes are missing."""
    rng = np.random.default_rng(seed)
    country_R, sex_R = rng.integers(0, 4, people), rng.integers(0, 2, people)
    frame = pd.DataFrame({
        "respondent_id": [f"r{i}" for i in range(people)],
        "weight": rng.gamma(3, 1 / 3, people),
        "country": pd.Categorical(np.array(list("ABCD"))[country_R]),
        "sex": pd.Categorical(np.where(rng.random(people) < 0.1, None, np.array(["f", "m"])[sex_R])),
        "noise": pd.Categorical(rng.choice(list("pqrstu"), people)),
    })  # fmt: skip
    logit_R3 = np.stack([np.zeros(people), 1.5 * (country_R == 1) - sex_R, 2.0 * (country_R == 2)], -1)
    draw_R = np.array([rng.choice(3, p=np.exp(z) / np.exp(z).sum()) for z in logit_R3])
    questions = tuple(Question(f"q{i}", "?", tuple("abc"), tuple("123")) for i in range(2))
    option_A = np.stack([draw_R, np.zeros(people)], -1).astype(np.int32).ravel()  # everybody gives q1 the same answer
    respondent_A = np.repeat(np.arange(people, dtype=np.int32), 2)
    question_A = np.tile(np.arange(2, dtype=np.int32), people)
    return Survey("made", questions, frame, ("country", "sex", "noise"), respondent_A, question_A, option_A)


@pytest.fixture(scope="module")
def survey():
    return make_survey()


def fitted(survey, train_A=None, seed=0):
    if train_A is None:
        train_A = (survey.respondents["country"] != "D").to_numpy()[survey.respondent_A]
    return Logistic(survey, build_profiles(survey), train_A, np.full((2, 3), [0.5, 0.3, 0.2]), seed)


def every_profile(survey, question=0):
    count = len(build_profiles(survey))
    return np.arange(count, dtype=np.int32), np.full(count, question, np.int32)


def test_predictions_equal_a_fit_on_single_weighted_rows_with_one_of_the_penalties(survey):
    found_PO = fitted(survey)(*every_profile(survey))
    assert found_PO.dtype == np.float32
    np.testing.assert_allclose(found_PO.sum(-1), 1, atol=1e-6)
    dummies = pd.get_dummies(survey.respondents[["country", "sex", "noise"]]).astype(float)
    train_R = (survey.respondents["country"] != "D").to_numpy()
    weight_R, option_R = survey.respondents["weight"].to_numpy(), survey.option_A[survey.question_A == 0]
    found_RO, errors = found_PO[build_profiles(survey).profile_R], []
    for strength in logistic.STRENGTHS:
        twin = LogisticRegression(C=strength, max_iter=5000, tol=1e-9)
        twin.fit(dummies[train_R], option_R[train_R], weight_R[train_R] / weight_R[train_R].mean())
        errors.append(np.abs(found_RO - twin.predict_proba(dummies)).max())
    assert min(errors) < 5e-3
    assert max(errors) > 0.02, "the penalty matters"


def test_it_learns_what_depends_on_the_profile_and_leans_on_what_is_known_of_a_new_country(survey):
    profiles, test = build_profiles(survey), make_survey(4000, seed=1)
    found_PO = fitted(survey)(*every_profile(survey))
    by_profile = {tuple(p.items()): found_PO[i] for i in range(len(profiles)) if (p := profiles.values(i))}
    others = build_profiles(test)
    known_R = np.array([tuple(others.values(p).items()) in by_profile for p in others.profile_R])
    told_RO = np.stack([by_profile[tuple(others.values(p).items())] for p in others.profile_R[known_R]])
    option_R = test.option_A[test.question_A == 0][known_R]
    pooled_O = np.bincount(survey.option_A[survey.question_A == 0], minlength=3) / len(survey.respondents)
    seen_R = (test.respondents["country"] != "D").to_numpy()[known_R]
    plain_R = nll(np.broadcast_to(pooled_O, told_RO.shape), option_R)
    assert nll(told_RO, option_R)[seen_R].mean() < plain_R[seen_R].mean() - 0.1
    # In country D, men and women differ as elsewhere, though nobody there was asked.
    women, men = (by_profile[("country", "D"), ("sex", s), ("noise", "p")] for s in "fm")
    assert women[1] > men[1] + 0.05


def test_nothing_to_learn_from_gives_the_fallback(survey):
    fallback_O = np.array([0.5, 0.3, 0.2], np.float32)
    np.testing.assert_allclose(
        fitted(survey)(*every_profile(survey, 1)), np.broadcast_to(fallback_O, (len(build_profiles(survey)), 3))
    )
    few_A = np.arange(survey.num_answers) < 12
    np.testing.assert_array_equal(fitted(survey, few_A)(*every_profile(survey))[0], fallback_O)


def test_only_training_answers_count_in_any_row_order_and_the_sample_is_capped(survey, monkeypatch):
    train_A = (survey.respondents["country"] != "D").to_numpy()[survey.respondent_A]
    found_PO = fitted(survey)(*every_profile(survey))
    flipped = dataclasses.replace(survey, option_A=np.where(train_A, survey.option_A, 2 - survey.option_A))
    np.testing.assert_array_equal(fitted(flipped)(*every_profile(survey)), found_PO)
    order = np.random.default_rng(0).permutation(survey.num_answers)
    shuffled = survey.with_answers(order)
    np.testing.assert_allclose(fitted(shuffled)(*every_profile(survey)), found_PO, atol=1e-6)
    sizes = []
    inner = logistic._rows
    monkeypatch.setattr(logistic, "_rows", lambda p, o, w: sizes.append(len(p)) or inner(p, o, w))
    monkeypatch.setattr(logistic, "MAX_ANSWERS", 100)
    monkeypatch.setattr(logistic, "MAX_CHOOSING", 60)
    fitted(survey)(*every_profile(survey))
    assert sizes == [100, 48, 12]


def test_neighbouring_numbers_share_an_input_and_every_value_has_its_coefficients(survey):
    age_R = np.random.default_rng(2).integers(8, 110, len(survey.respondents))
    frame = survey.respondents.assign(age=pd.Categorical(age_R.astype(str)))
    aged = dataclasses.replace(survey, respondents=frame, profile_fields=("age", "country"), numeric_fields=("age",))
    profiles, model = build_profiles(aged), fitted(aged)
    ages = np.array([int(value) for value in profiles.vocab["age"]])
    input_V = logistic.input_of_value(profiles)
    of_age_V = input_V[: len(ages)][np.argsort(ages)]
    assert set(of_age_V) == set(range(logistic.NUMBER_GROUPS))
    assert (np.diff(of_age_V) >= 0).all(), "groups are of neighbours"
    assert input_V[len(ages) :].tolist() == [10, 11, 12, 13], "a country has its own"
    # What the bundle keeps predicts what the model does.
    logits_VO = model.coefficients(np.array([0]))[0]
    place_PF = 1 + profiles.codes_PF + np.array([0, len(ages)])
    logits_PO = logits_VO[0] + logits_VO[place_PF].sum(1)
    probs_PO = np.exp(logits_PO - logits_PO.max(1, keepdims=True))
    found_PO = model(np.arange(len(profiles), dtype=np.int32), np.zeros(len(profiles), np.int32))
    np.testing.assert_allclose(probs_PO / probs_PO.sum(1, keepdims=True), found_PO, atol=1e-5)
