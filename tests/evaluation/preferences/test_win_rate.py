"""Win-rates, intervals and the judge's bias against plain loops; how replies differ."""

import math

import numpy as np
import pandas as pd
import pytest

from cuma_jax.evaluation.preferences.replies import distinct, draw_options, same_share, spread_of_replies
from cuma_jax.evaluation.preferences.win_rate import (
    mean_share,
    order_metrics,
    respondents_judge,
    win_rate,
    win_rates,
)
from cuma_jax.judging import FIRST, SECOND, TIE, Judged


def test_counts_and_the_win_rate_by_hand():
    score_N = np.array([1.0, 0.5, np.nan, 0.0, 1.0, np.nan, 0.5, 1.0])
    found = win_rate(score_N, np.arange(8) // 2, 100, 0)
    assert found["n"] == {"comparisons": 8, "clusters": 4, "wins": 3, "ties": 2, "losses": 1, "failed": 2}
    assert found["win_rate"]["value"] == pytest.approx((3 + 2 / 2) / 6)
    assert found["win_rate"]["low"] < found["win_rate"]["value"] < found["win_rate"]["high"]


def test_nothing_known_is_no_figure():
    assert mean_share(np.full(3, np.nan), np.arange(3), 100, 0) == {"value": None, "low": None, "high": None}
    assert mean_share(np.ones(3), np.zeros(3), 100, 0) == {"value": 1.0, "low": None, "high": None}
    assert mean_share(np.ones(3), np.arange(3), 0, 0)["low"] is None


@pytest.mark.slow
def test_intervals_are_over_prompts_and_hold_what_they_say():
    """200 invented evaluations of 60 prompts asked 3 times: about 95% of the intervals hold the true mean.

    Intervals over single comparisons would not: those of a prompt go together.
    """
    rng = np.random.default_rng(0)
    prompt_N, held = np.repeat(np.arange(60), 3), [0, 0]
    for i in range(200):
        easy_C = rng.random(60)
        score_N = np.where(rng.random(180) < 0.15, 0.5, (easy_C[prompt_N] < 0.6).astype(float))
        truth = 0.15 * 0.5 + 0.85 * 0.6
        for which, clusters in enumerate((prompt_N, np.arange(180))):
            figure = mean_share(score_N, clusters, 300, i)
            held[which] += figure["low"] <= truth <= figure["high"]
    assert 0.90 <= held[0] / 200 <= 0.99
    assert held[1] / 200 < 0.85


def test_splits_and_groups_are_parts_of_the_whole():
    rng = np.random.default_rng(1)
    country_N, split_N = rng.choice(["x", "y", "z"], 50, p=[0.5, 0.46, 0.04]), np.where(np.arange(50) < 20, "a", "b")
    score_N = rng.choice([0, 0.5, 1], 50)
    frame = pd.DataFrame({"score": score_N, "cluster": np.arange(50), "split": split_N, "country": country_N})
    found = win_rates(frame, ("country",), 5, 50, 0)
    assert found["splits"]["a"]["n"]["comparisons"] == 20
    assert found["splits"]["b"]["win_rate"]["value"] == pytest.approx(frame["score"][20:].mean())
    assert set(found["groups"]["country"]) == {"x", "y"}, "groups of fewer than min_cell are not shown"
    assert found["groups"]["country"]["x"]["win_rate"]["value"] == pytest.approx(score_N[country_N == "x"].mean())


@pytest.mark.parametrize("bias", [0.5, 0.8])
def test_a_planted_position_bias_is_found(bias):
    """A judge that says nothing but `the first` with this chance."""
    rng = np.random.default_rng(2)

    def call(shown_first, shown_second):
        return shown_first if rng.random() < bias else shown_second

    judged = [Judged((call(FIRST, SECOND), call(SECOND, FIRST))) for _ in range(400)]
    found = order_metrics([*judged, Judged((TIE, TIE)), Judged((None, FIRST)), Judged((TIE, TIE), asked=False)],
                          np.arange(403), 300, 0)  # fmt: skip
    assert found["first_position"]["low"] <= bias <= found["first_position"]["high"]
    assert found["consistent"]["value"] == pytest.approx(2 * bias * (1 - bias), abs=0.07)
    calls = found["calls"]
    assert (calls["ties"], calls["failed"], found["equal_replies"]) == (2, 1, 1)
    assert calls["answered"] == calls["first_shown"] + calls["second_shown"] + 2 == 803
    assert (found["first_position"]["low"] > 0.5) is (bias > 0.5)


def test_people_judge_by_their_own_answers():
    option_N = np.array([2, 2, 2, 2, 0])
    first_N, second_N = np.array([2, 2, 1, 1, -1]), np.array([2, 1, 2, 0, -1])
    assert respondents_judge(option_N, first_N, second_N).tolist() == [0.5, 1.0, 0.0, 0.5, 0.5]


def test_options_are_drawn_as_their_probabilities_say():
    probs = np.array([[0.2, 0.5, 0.3, 0.0], [1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]], np.float32)
    uniform = (np.arange(1000) + 0.5) / 1000
    for temperature in (1.0, 0.5):
        for row in probs:
            drawn = draw_options(np.tile(row, (1000, 1)), uniform, temperature)
            expected = row.astype(np.float64) ** (1 / temperature)
            np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 1000, expected / expected.sum(), atol=2e-3)
    assert draw_options(probs, np.full(3, 0.99), 0.0).tolist() == [1, 0, 0]
    # The largest draw there is never falls past the last option.
    assert draw_options(probs, np.full(3, np.nextafter(1.0, 0)), 1.0).tolist() == [2, 0, 3]


def test_distinct_by_hand():
    replies = [[1, 2, 3], [1, 2, 4], [5]]
    assert distinct(replies, 1) == pytest.approx(5 / 7)
    assert distinct(replies, 2) == pytest.approx(3 / 4)
    assert math.isnan(distinct([[5]], 2))
    assert same_share(["a", "a", "b"]) == pytest.approx(1 / 3)
    assert math.isnan(same_share(["a"]))
    found = spread_of_replies([["a", "a"], ["b", "c"]], [[[1], [1]], [[2], [3]]])
    assert found == {"distinct_1": pytest.approx(0.75), "equal": pytest.approx(0.5)}
