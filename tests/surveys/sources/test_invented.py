import numpy as np
import pandas as pd

from cuma_jax.surveys.sources.invented import COUNTRIES, make_invented, planted_distribution


def test_same_seed_same_survey_other_seed_another():
    a, b, c = make_invented(1), make_invented(1), make_invented(2)
    pd.testing.assert_frame_equal(a.respondents, b.respondents)
    np.testing.assert_array_equal(a.option_A, b.option_A)
    assert (a.option_A != c.option_A).any()


def test_answers_follow_the_planted_distributions():
    survey, planted = make_invented(), planted_distribution()
    np.testing.assert_allclose(planted.sum(axis=-1), 1)
    country_A = survey.respondents["country"].cat.codes.to_numpy()[survey.respondent_A]
    for c in range(len(COUNTRIES)):
        for q in range(len(survey.questions)):
            option_N = survey.option_A[(country_A == c) & (survey.question_A == q)]
            share_O = np.bincount(option_N, minlength=5) / len(option_N)
            # Three standard errors of a share among 60 people are below 0.2.
            np.testing.assert_allclose(share_O, planted[c, q], atol=0.2)
            assert not share_O[len(survey.questions[q].options) :].any()


def test_countries_differ_enough_to_be_learned_and_all_is_marked_as_invented():
    planted = planted_distribution()
    assert np.abs(planted - planted.mean(axis=0, keepdims=True)).sum(axis=-1).mean() > 0.5
    assert all("invented" in q.source for q in make_invented().questions)
