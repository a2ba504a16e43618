"""A user's function: found in the working directory, and every way in which it can be wrong is one message."""

import numpy as np
import pytest

from cuma_jax.rewards import Sample, Scores
from cuma_jax.rewards.function import Function
from cuma_jax.rewards.total import WeightedSum, check_failed
from cuma_jax.runtime.errors import CumaError

SAMPLES = [Sample(0, "A person.", (), text) for text in ("short", "a longer reply", "x")]
CODE = """
def length(samples):
    return [len(s.reply) for s in samples]
def one(samples):
    return [1.0]
def single(samples):
    return 3.0
def words(samples):
    return ["good"] * len(samples)
def raises(samples):
    return [1 / 0 for _ in samples]
def nan(samples):
    return [0.0, float("nan"), 0.0]
def inf(samples):
    return [0.0, 1.0, float("inf")]
constant = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my_rewards_of_test.py").write_text(CODE)
    (tmp_path / "broken_rewards_of_test.py").write_text("import nothing_of_this_name\n")
    monkeypatch.chdir(tmp_path)


def test_a_function_of_the_working_directory_is_called(here):
    assert Function("my_rewards_of_test:length").score(SAMPLES).values.tolist() == [5, 14, 1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_rewards_of_test:one", "returned 1 numbers for 3 replies"),
        ("my_rewards_of_test:single", r"returned an array of shape \(\) for 3 replies"),
        ("my_rewards_of_test:words", "must return a list of numbers"),
        ("my_rewards_of_test:raises", r"raised ZeroDivisionError: division by zero \(.*of_test.py, line 11\)"),
        ("my_rewards_of_test:nan", r"returned nan for reply 1 of 3 \('a longer reply'\)"),
        ("my_rewards_of_test:inf", "returned inf for reply 2 of 3"),
        ("my_rewards_of_test", "must be package.module:name"),
        ("absent_rewards:x", "absent_rewards cannot be imported"),
        ("broken_rewards_of_test:x", "No module named 'nothing_of_this_name'"),
        ("my_rewards_of_test:constant", "has no function 'constant'"),
    ],
)
def test_what_is_no_reward_or_cannot_be_loaded_is_an_error_that_says_why(here, name, message):
    with pytest.raises(CumaError, match=message):
        Function(name).score(SAMPLES)


class Fixed:
    def __init__(self, values, metrics, reason=""):
        self._scores = Scores(np.array(values), metrics, reason)

    def score(self, samples):
        return self._scores


def test_a_sum_adds_its_parts_and_fails_where_one_does():
    parts = {"a": (2.0, Fixed([1, 2, 3], {"x": 1.0})), "b": (0.5, Fixed([0, np.nan, 4], {"y": 2.0}, "no answer"))}
    scores = WeightedSum(parts).score(SAMPLES)
    np.testing.assert_array_equal(scores.values, [2, np.nan, 8])
    assert scores.metrics == {"x": 1.0, "y": 2.0, "reward_a": 2.0, "reward_b": 2.0}
    assert scores.reason == "no answer"


def test_training_stops_when_too_many_replies_have_no_reward():
    check_failed(1, 4, 0.25, 3)
    with pytest.raises(CumaError, match=r"at step 3 2 of 4 replies have no reward, more than .* \(HTTP 500\)"):
        check_failed(2, 4, 0.25, 3, "HTTP 500")
    with pytest.raises(CumaError, match="1 of 1"):
        check_failed(1, 1, 0.999, 3)
