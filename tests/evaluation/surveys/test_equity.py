"""Groups of each profile field: scores against loops, and a spread of which the sampling noise is taken off."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cuma_jax.evaluation.metrics.distances import distance
from cuma_jax.evaluation.surveys.equity import answer_residuals, equity, group_scores
from cuma_jax.evaluation.surveys.grouping import SplitCells
from cuma_jax.evaluation.surveys.summaries import reliability
from cuma_jax.surveys.survey import Question, Survey

SIZES = np.array([4, 2, 3])
ORDERED = np.array([True, True, False])


def make(people: int, seed: int, asked: int = 3, unequal: float = 0.0):
    """A survey, its answers as scored, predictions, and clusters; one group is served worse by `unequal`."""
    rng = np.random.default_rng(seed)
    group_R, side_R = rng.integers(0, 6, people), rng.integers(0, 2, people)
    frame = pd.DataFrame({
        "respondent_id": [f"r{i}" for i in range(people)],
        "weight": rng.gamma(4, 0.25, people),
        "place": pd.Categorical(np.where(rng.random(people) < 0.05, None, np.array(list("abcdef"))[group_R])),
        "side": pd.Categorical(np.array(["left", "right"])[side_R]),
        "alone": pd.Categorical(["x"] * people),
    })  # fmt: skip
    questions = tuple(
        Question(f"q{i}", "?", tuple("abcd"[:n]), tuple("1234"[:n]), ordered=bool(ORDERED[i]))
        for i, n in enumerate(SIZES[:asked])
    )
    respondent_A = np.repeat(np.arange(people), asked)
    question_A = np.tile(np.arange(asked), people)
    predicted_AO = rng.random((asked, 4)) + 0.2
    predicted_AO = (predicted_AO * (np.arange(4) < SIZES[:asked, None]))[question_A]
    predicted_AO /= predicted_AO.sum(-1, keepdims=True)
    cumulative_AO = np.cumsum(predicted_AO, -1)
    option_A = (rng.random(len(respondent_A))[:, None] > cumulative_AO).sum(-1)
    wrong_A = (group_R[respondent_A] == 0) & (rng.random(len(respondent_A)) < unequal)
    option_A = np.where(wrong_A, predicted_AO.argmax(-1) == 0, option_A).astype(np.int64)
    survey = Survey("made", questions, frame, ("place", "side", "alone"), respondent_A.astype(np.int32),
                    question_A.astype(np.int32), option_A.astype(np.int32))  # fmt: skip
    none = np.zeros(1, np.int64)
    cells = SplitCells(
        respondent_A=respondent_A, question_A=question_A, option_A=option_A, cell_A=question_A,
        weight_A=frame["weight"].to_numpy()[respondent_A], question_C=none, group_C=none, count_C=none, profiles={},
        small=(0, 0), not_sampled=0, no_group=0,
    )  # fmt: skip
    return survey, cells, predicted_AO, respondent_A


def slow(survey, cells, predicted_AO, field, min_cell):
    """Accuracy and distance of each group by loops."""
    value_A = survey.respondents[field].to_numpy()[cells.respondent_A]
    found = {}
    for group in survey.respondents[field].cat.categories:
        rows = value_A == group
        if rows.sum() < min_cell:
            continue
        weight, right = cells.weight_A[rows], predicted_AO[rows].argmax(-1) == cells.option_A[rows]
        gaps = []
        for q, size in enumerate(SIZES):
            asked = rows & (cells.question_A == q)
            if asked.sum() >= min_cell:
                true = np.bincount(cells.option_A[asked], cells.weight_A[asked], 4) / cells.weight_A[asked].sum()
                told = np.average(predicted_AO[asked], axis=0, weights=cells.weight_A[asked])
                gaps.append(distance(true, told, np.array(size), np.array(ORDERED[q])))
        found[group] = (int(rows.sum()), np.average(right, weights=weight), np.mean(gaps))
    return found


def test_worst_and_best_group_and_their_spread_equal_a_slow_twin():
    survey, cells, predicted_AO, cluster_A = make(300, 0, unequal=0.7)
    found = equity(survey, cells, cluster_A, predicted_AO, min_cell=20)
    assert list(found) == ["place", "side"], "one group is nothing to compare"
    for field, parts in found.items():
        expected = slow(survey, cells, predicted_AO, field, 20)
        assert parts["groups"] == len(expected)
        for key, column, worst in (("accuracy", 1, min), ("distance", 2, max)):
            scores = {group: row[column] for group, row in expected.items()}
            name = worst(scores, key=scores.__getitem__)
            got = parts[key]
            assert (got["worst"]["group"], got["worst"]["answers"]) == (name, expected[name][0])
            assert got["worst"]["score"] == pytest.approx(scores[name], abs=1e-6)
            assert got["std"] == pytest.approx(np.std(list(scores.values())), abs=1e-6)
            assert got["std_corrected"] < got["std"]
            assert abs(got["best"]["score"] - got["worst"]["score"]) <= np.ptp(list(scores.values())) + 1e-6
    assert found["place"]["distance"]["worst"]["group"] == "a"


def test_small_groups_do_not_count():
    survey, cells, predicted_AO, cluster_A = make(300, 0)
    assert equity(survey, cells, cluster_A, predicted_AO, min_cell=300).keys() == {"side"}
    assert equity(survey, cells, cluster_A, predicted_AO, min_cell=2000) == {}


def test_estimated_sampling_variance_is_that_of_samples_drawn_anew():
    survey, cells, predicted_AO, cluster_A = make(400, 1)
    truth_AO = np.roll(predicted_AO, 1, axis=-1) * (np.arange(4) < SIZES[cells.question_A][:, None])  # a wrong model
    truth_AO /= truth_AO.sum(-1, keepdims=True)
    place_A = survey.respondents["place"].cat.codes.to_numpy()[cells.respondent_A].astype(np.int64)
    rng = np.random.default_rng(0)
    drawn = {"accuracy": [], "distance": []}
    for _ in range(150):
        option_A = (rng.random(len(truth_AO))[:, None] > np.cumsum(truth_AO, -1)).sum(-1)
        answers = answer_residuals(survey, dataclasses.replace(cells, option_A=option_A), cluster_A, predicted_AO)
        for key, pair in group_scores(answers, place_A, 6, min_cell=5).items():
            drawn[key].append(np.stack(pair))
    for key, found in drawn.items():
        score_DG, variance_DG = np.stack(found, axis=1)
        assert variance_DG.mean() == pytest.approx(score_DG.var(axis=0).mean(), rel=0.15), key


def test_people_of_one_cluster_that_answer_alike_are_no_more_evidence_than_one():
    survey, cells, predicted_AO, cluster_A = make(200, 0, unequal=0.7)
    answers = ("respondent_A", "question_A", "option_A", "cell_A", "weight_A")
    five = dataclasses.replace(cells, **{name: np.repeat(getattr(cells, name), 5) for name in answers})
    once = equity(survey, cells, cluster_A, predicted_AO, min_cell=10)
    more = equity(survey, five, np.repeat(cluster_A, 5), np.repeat(predicted_AO, 5, axis=0), min_cell=50)
    apart = equity(survey, five, np.arange(5 * len(cluster_A)), np.repeat(predicted_AO, 5, axis=0), min_cell=50)
    for field in once:
        for key in ("accuracy", "distance"):
            for figure in ("std", "std_corrected"):
                assert more[field][key][figure] == pytest.approx(once[field][key][figure], abs=1e-6)
            assert apart[field][key]["std_corrected"] > more[field][key]["std_corrected"]


def test_reliability_bins_add_up_to_the_calibration_error():
    _, cells, predicted_AO, _ = make(300, 3)
    bins = reliability(cells, predicted_AO, SIZES[cells.question_A])
    assert sum(b["answers"] for b in bins) == len(cells.option_A)
    assert sum(b["share"] for b in bins) == pytest.approx(1)
    top_A, right_A = predicted_AO.max(-1), predicted_AO.argmax(-1) == cells.option_A
    for b in bins:
        inside = (top_A >= b["low"]) & (top_A < b["high"])
        total_Q = np.bincount(cells.question_A, cells.weight_A)
        weight = (cells.weight_A / total_Q[cells.question_A])[inside]
        assert b["confidence"] == pytest.approx(np.average(top_A[inside], weights=weight))
        assert b["accuracy"] == pytest.approx(np.average(right_A[inside], weights=weight))
