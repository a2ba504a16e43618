"""Hints for unknown words."""

from cuma_jax.runtime.near_matches import alike, near, near_hint

KNOWN = ["country", "sex", "Age", "household_income"]


def test_what_a_word_may_have_meant_comes_first():
    assert alike("AGE", KNOWN) == ["Age"]  # in other capitals: nothing else is meant
    assert alike("contry", KNOWN) == ["country"]
    assert alike("gender", KNOWN) == ["sex"]  # another name of the same
    assert alike("income", KNOWN) == ["household_income"]
    assert alike("zz", KNOWN) == []
    assert near("gender", KNOWN, 2) == "sex, country and 2 more"


def test_a_hint_asks_or_says_what_there_is():
    assert near_hint("contry", KNOWN) == "did you mean 'country'?"
    assert near_hint("ab", ["abc", "abd", "abe", "abf"]).count(" or ") == 2
    assert near_hint("zz", KNOWN, 2) == "there are: 'country', 'sex', ..."
    assert near_hint("zz", KNOWN, 0) == ""
    assert len(near_hint("zz", ["x" * 10_000])) < 100
