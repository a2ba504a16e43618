import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuma_jax.serving.groups import number_bounds
from cuma_jax.surveys.fields.numbers import bin_labels, bin_numbers, missing_codes, number_text, read_numbers


def test_labels_say_what_is_in_a_bin():
    assert bin_labels((18.0, 30.0, 45.0, 60.0)) == ("under 18", "18-29", "30-44", "45-59", "60 and over")
    assert bin_labels((0.0, 1.0, 2.5, 4.0)) == ("under 0", "0", "1 to under 2.5", "2.5 to under 4", "4 and over")
    assert bin_labels((-10.0, -5.0, 5.0)) == ("under -10", "-10 to -6", "-5 to 4", "5 and over")


@given(
    edges=st.lists(st.integers(-50, 500).map(lambda n: n / 2), min_size=1, max_size=8, unique=True).map(sorted),
    numbers=st.lists(st.integers(-200, 2000).map(lambda n: n / 4), min_size=1, max_size=20),
)
def test_every_number_is_in_the_bin_whose_label_holds_it(edges, numbers):
    labels = bin_labels(edges)
    for number, b in zip(numbers, bin_numbers(np.array(numbers), edges), strict=True):
        low, high = number_bounds(labels[b])
        assert low <= number or labels[b].startswith("under")
        assert number < high + 1  # a label's whole number stands for all that begin with it


def test_numbers_are_read_and_written():
    assert read_numbers(["1.5", "", "x", "1_0"]).tolist()[:1] == [1.5]
    assert np.isnan(read_numbers(["", "x", "1_0", "nan"])).all()
    assert read_numbers(["1,5", "2"]).tolist() == [1.5, 2.0]
    assert [number_text(x) for x in (37.0, 0.25, 1e21, 1e-7, -0.0)] == ["37", "0.25", "1" + "0" * 21, "0.0000001", "0"]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([*range(18, 91), 998, 999], [998, 999]),
        ([*range(18, 91), -1, -2], [-1, -2]),
        ([*range(18, 100)], []),  # people of 97 to 99
        ([*range(26), 98, 99], [98, 99]),  # years of school
        ([*range(-5, 6)], []),  # a scale around zero
        ([-3, -1], []),
        ([], []),
    ],
)
def test_codes_for_no_answer_among_numbers_are_suspected(numbers, expected):
    assert sorted(missing_codes(np.array(numbers, float))) == sorted(expected)
