"""A user's function: found in the working directory, and every way in which it can be wrong is one message."""

import sys

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
def digits(samples):
    return ["1.5"] * len(samples)
def nothing(samples):
    print("scored", len(samples))
def some_none(samples):
    return [1.0, None, 2.0]
def mixed(samples):
    return [1.0, "2", 3.0]
def dates(samples):
    import numpy as np
    return np.array(["2020"] * len(samples), "M8[D]")
def imaginary(samples):
    import numpy as np
    return np.ones(len(samples)) * 1j
def huge(samples):
    return [10 ** 400] * len(samples)
def large(samples):
    return [1.0, 1e30, 1.0]
def table(samples):
    return [[1.0]] * len(samples)
def ragged(samples):
    return [[1.0], [1.0, 2.0], 3.0]
def lazy(samples):
    yield from range(len(samples))
def by_name(samples):
    return {n: 1.0 for n in range(len(samples))}
def leaves(samples):
    raise SystemExit(0)
def deep(samples):
    return deep(samples)
def in_a_library(samples):
    import json
    return [json.loads(s.reply) for s in samples]
class Mute(Exception):
    def __str__(self):
        raise ValueError
def mute(samples):
    raise Mute
def lines(samples):
    raise ValueError("one\\ntwo")
class Odd:
    def __repr__(self):
        raise ValueError
    def __array__(self, *args, **kwargs):
        raise KeyError
def odd(samples):
    return Odd()
def fractions(samples):
    from fractions import Fraction
    return [Fraction(1, 2), True, 3]
def wide(samples):
    import jax.numpy as jnp
    return jnp.ones(len(samples), jnp.bfloat16)
constant = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my_rewards_of_test.py").write_text(CODE)
    (tmp_path / "broken_rewards_of_test.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "typo_rewards_of_test.py").write_text("def f(samples:\n")
    (tmp_path / "script_of_test.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "fails_of_test.py").write_text("x = 1\ny = 1 / 0\n")
    monkeypatch.chdir(tmp_path)


def test_a_function_of_the_working_directory_is_called(here):
    before = list(sys.path)
    assert Function("my_rewards_of_test:length").score(SAMPLES).values.tolist() == [5, 14, 1]
    assert Function("my_rewards_of_test:fractions").score(SAMPLES).values.tolist() == [0.5, 1, 3]
    assert Function("my_rewards_of_test:wide").score(SAMPLES).values.tolist() == [1, 1, 1]
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_rewards_of_test:one", "returned 1 numbers for 3 replies"),
        ("my_rewards_of_test:single", r"returned an array of shape \(\) for 3 replies"),
        ("my_rewards_of_test:words", "must return a list of numbers"),
        ("my_rewards_of_test:raises", r"raised ZeroDivisionError: division by zero \(.*of_test.py, line 11\)"),
        ("my_rewards_of_test:nan", r"returned nan for reply 1 of 3 \('a longer reply'\)"),
        ("my_rewards_of_test:inf", "returned inf for reply 2 of 3"),
        ("my_rewards_of_test:digits", r"returned \['1.5', '1.5', '1.5'\]; it must return a list of numbers"),
        ("my_rewards_of_test:nothing", "returned None; it must return a list of numbers"),
        ("my_rewards_of_test:some_none", r"returned \[1.0, None, 2.0\]; it must"),
        ("my_rewards_of_test:mixed", "must return a list of numbers"),
        ("my_rewards_of_test:dates", "must return a list of numbers"),
        ("my_rewards_of_test:imaginary", "must return a list of numbers"),
        ("my_rewards_of_test:huge", r"returned \[1000+ \.\.\. \(\d+ characters\); it must return a list of numbers"),
        ("my_rewards_of_test:large", "returned 1e\\+30 for reply 1 of 3"),
        ("my_rewards_of_test:table", r"returned an array of shape \(3, 1\) for 3 replies"),
        ("my_rewards_of_test:ragged", "must return a list of numbers"),
        ("my_rewards_of_test:lazy", "returned <generator object"),
        ("my_rewards_of_test:by_name", "must return a list of numbers"),
        ("my_rewards_of_test:leaves", r"raised SystemExit: 0 \(.*of_test.py, line"),
        ("my_rewards_of_test:deep", "raised RecursionError"),
        ("my_rewards_of_test:in_a_library", r"raised JSONDecodeError: .*my_rewards_of_test.py, line 48\)"),
        ("my_rewards_of_test:mute", r"raised Mute: \(an error without words\)"),
        ("my_rewards_of_test:lines", r"raised ValueError: one two \("),
        ("my_rewards_of_test:odd", "returned an object of Odd that cannot be shown; it must"),
        ("my_rewards_of_test:Odd", "raised TypeError"),
        ("sys:nothing", "sys has no function 'nothing'"),
        ("..sys:exit", "cannot be imported"),
        ("typo_rewards_of_test:f", r"SyntaxError: .*typo_rewards_of_test.py, line 1"),
        ("script_of_test:f", r"SystemExit: 3 \(.*script_of_test.py, line 2\)"),
        ("fails_of_test:f", r"ZeroDivisionError: division by zero \(.*fails_of_test.py, line 2\)"),
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


@pytest.mark.parametrize("weight", [np.nan, np.inf, -np.inf, 1e300])
def test_a_weight_that_is_no_number_is_found_before_anything_is_scored(weight):
    with pytest.raises(CumaError, match=r"reward\.judge is .*must be a finite number"):
        WeightedSum({"judge": (weight, Fixed([1.0], {}))})


def test_a_sum_that_float32_cannot_square_is_an_error():
    with pytest.raises(CumaError, match=r"a reward is 2e\+15 with reward\.a's weight of 1e\+10"):
        WeightedSum({"a": (1e10, Fixed([1, np.nan, 2e5], {}))}).score(SAMPLES)
