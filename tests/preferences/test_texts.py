"""Cleaning in Arrow equals cleaning one string at a time, wherever `visible_text` has something to take out."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from cuma_jax.preferences import texts
from cuma_jax.surveys.text import visible_text

PIECES = st.sampled_from(["<b>", "</p>", "&amp;", "&#60;", "\x07", "\u200b", "\u202e", "\ufeff", "a", "B", "é", "नमस्ते",
                          " ", "\n", "\t", "<|im_end|>", "<3", "R&D", "\r\n"])  # fmt: skip
TEXTS = st.lists(PIECES, max_size=8).map("".join)
UNSEEN = ("\x07", "\u200b", "\u202e", "\ufeff", "\r")


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_only_invisible_characters_are_taken_out_and_those_as_visible_text_does(values):
    cleaned = texts.clean_column(pa.array(values, pa.large_string()), {}).to_pylist()
    for before, after in zip(values, cleaned, strict=True):
        dirty = any(mark in before.strip() for mark in UNSEEN)
        expected = visible_text(before) if dirty else before.strip()
        assert (after or "") == expected


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.none() | TEXTS), max_size=8))
def test_numbers_within_a_group_agree_exactly_where_normalised_texts_do(pairs):
    pairs.sort(key=lambda pair: pair[0])
    group = [g for g, _ in pairs]
    column = texts.clean_column(pa.array([t for _, t in pairs], pa.large_string()), {})
    codes = texts.codes_within(column, pa.array(group, pa.int64()).to_numpy())
    keys = texts.normalised(column).to_pylist()
    for i in range(len(pairs)):
        for j in range(i):
            if group[i] == group[j]:
                assert (codes[i] == codes[j]) == (keys[i] == keys[j])


def test_prompt_numbers_do_not_depend_on_the_other_prompts():
    first, number = texts.number_prompts(pa.array(["b", "a", " B "], pa.large_string()))
    assert len(first) == 2
    assert number[0] == number[2] != number[1]
    assert texts.number_prompts(pa.array(["a"], pa.large_string()))[0][0] == first[number[1]]
