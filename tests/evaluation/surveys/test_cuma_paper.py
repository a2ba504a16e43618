"""The paper's figures against pandas, scipy and scikit-learn, row by row as the official evaluation has them."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from guessing import evaluate_guess
from scipy.stats import wasserstein_distance
from sklearn.metrics import accuracy_score, f1_score

from cuma_jax.config import EvaluationConfig
from cuma_jax.evaluation.surveys.cuma_paper import sigma_fields
from cuma_jax.surveys.profiles import REFERENCE_FIELDS, build_profiles
from cuma_jax.surveys.sources.invented import make_invented
from cuma_jax.surveys.splits import SPLITS


@pytest.fixture(scope="module")
def survey():
    made = make_invented()
    people = made.respondents.copy()
    people["weight"] = np.random.default_rng(1).gamma(2, 0.5, len(people))
    # One person of each kind: subgroups of fewer than five answers, and one nobody knows anything of.
    people["sex"] = people["sex"].astype(object)
    people.loc[0, "sex"], people.loc[3, "sex"] = "another", None
    people["sex"] = people["sex"].astype("category")
    return dataclasses.replace(made, respondents=people)


def guess(survey):
    sizes_Q = np.array([len(q.options) for q in survey.questions])

    def predict(profile_N, question_N):
        raw_NO = np.abs(np.sin(profile_N[:, None] * 2.3 + question_N[:, None] + np.arange(sizes_Q.max()))) + 0.01
        raw_NO *= np.arange(sizes_Q.max()) < sizes_Q[question_N][:, None]
        return (raw_NO / raw_NO.sum(-1, keepdims=True)).astype(np.float32)

    return predict


def test_every_figure_equals_the_official_definition(survey):
    profiles = build_profiles(survey)
    split_A = np.full(survey.num_answers, SPLITS.index("test"))
    split_A[::3] = SPLITS.index("train")
    config = EvaluationConfig(splits=("test",), min_cell=1, bootstrap=0)
    found = evaluate_guess(survey, profiles, split_A, guess(survey), config).values["splits"]["test"]["paper"]
    rows = np.flatnonzero(split_A == SPLITS.index("test"))
    person, question = survey.respondent_A[rows], survey.question_A[rows]
    table = survey.respondents.iloc[person].reset_index(drop=True)
    table = table.assign(question=question, truth=survey.option_A[rows])
    table["choice"] = guess(survey)(profiles.profile_R[person], question).argmax(-1)
    assert found["answers"] == len(table)
    assert found["accuracy"] == pytest.approx(accuracy_score(table.truth, table.choice))
    assert found["macro_f1"] == pytest.approx(f1_score(table.truth, table.choice, average="macro"))
    emds = []
    for q, part in table.groupby("question"):
        if survey.questions[q].ordered:
            last = len(survey.questions[q].options) - 1
            emds.append(wasserstein_distance(part.truth / last, part.choice / last))
    assert len(emds) > 2
    assert found["emd"] == pytest.approx(np.mean(emds))
    below = [np.mean(np.array(emds) <= t) * 100 for t in np.arange(0, 0.6 + 1e-8, 0.05)]
    assert found["emd_auc"] == pytest.approx(sum((a + b) / 2 * 0.05 for a, b in itertools.pairwise(below)))
    right = table.groupby("country", observed=True)[["truth", "choice"]].apply(lambda g: (g.truth == g.choice).mean())
    assert found["country_accuracy"] == pytest.approx(right.mean())
    sigmas = []
    for field in survey.profile_fields:
        parts = [part for _, part in table.groupby(field, observed=True) if len(part) >= 5]
        sigmas.append(np.std([(part.truth == part.choice).mean() for part in parts]))
    assert table["sex"].eq("another").sum() < 5, "a subgroup too small to count"
    assert found["sigma_inequity"] == pytest.approx(np.mean(sigmas))
    assert found["sigma_fields"] == list(survey.profile_fields)


def test_sigma_is_of_the_papers_eight_fields_where_they_are_known(survey):
    people = survey.respondents
    readable = people.assign(**{f: pd.Categorical(["x"] * len(people)) for f in REFERENCE_FIELDS if f not in people})
    assert sigma_fields(dataclasses.replace(survey, respondents=readable)) == tuple(REFERENCE_FIELDS)
    official = people.assign(**{f: pd.Categorical(["x"] * len(people)) for f in REFERENCE_FIELDS.values()})
    assert sigma_fields(dataclasses.replace(survey, respondents=official)) == tuple(REFERENCE_FIELDS.values())
    assert sigma_fields(survey) == survey.profile_fields
