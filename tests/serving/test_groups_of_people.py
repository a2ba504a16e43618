"""Groups as filters: what is read, what is refused, and that a group's text reads back as the group."""

import contextlib
import types

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving import Group, parse_group, parse_groups
from cuma_jax.serving.asking.plans import Planner
from cuma_jax.serving.groups import MOST_GROUPS, make_field, number_bounds

FIELDS = {
    name: make_field(name, dict.fromkeys(values, 1))
    for name, values in {
        "country": ("Japan", "Peru", "Congo", "Congo, Dem. Rep."),
        "sex": ("female", "male"),
        "age": ("55 and over", "18-34", "under 18", "35-54"),
        "marital_status": ("a; b", "single", "=cmd"),
    }.items()
}


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("country=Japan,Peru; age>=35", "country=Japan,Peru; age>=35"),
        ("age>=35, country=Peru", "country=Peru; age>=35"),
        ("Country: japan; SEX: Female", "country=Japan; sex=female"),
        ("country=Congo, Dem. Rep.,Peru", "country=Congo, Dem. Rep.,Peru"),
        ("age>=18; age<55", "age>=18; age<55"),
        ("marital status=a; b", "marital_status=a; b"),
        ({"country": ["Peru", "Japan", "peru"], "age": ">=35"}, "country=Japan,Peru; age>=35"),
        ({"country": "Japan,Peru"}, "country=Japan,Peru"),
        ({"age": [">=18", "<55"]}, "age>=18; age<55"),
        ({}, ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_group_is_read_and_reads_back(where, text):
    group = parse_group(where, FIELDS)
    assert group.text == text
    assert parse_group(group.text, FIELDS) == group == parse_group(group, FIELDS)


def test_bands_compare_by_their_lower_bound_and_are_in_order():
    assert list(FIELDS["age"].values) == ["under 18", "18-34", "35-54", "55 and over"]
    assert parse_group("age>=18", FIELDS).conditions[0].values == ("18-34", "35-54", "55 and over")
    assert parse_group("age<=35", FIELDS).conditions[0].values == ("under 18", "18-34", "35-54")
    assert parse_group("age<18", FIELDS).conditions[0].values == ("under 18",)


@pytest.mark.parametrize(
    ("value", "bounds"),
    [("30-39", (30, 39)), ("60+", (60, np.inf)), ("60 and over", (60, np.inf)), ("45", (45, 45)),
     ("18 to 24 years", (18, 24)), ("under 18", (-np.inf, 17)), ("up to 18", (-np.inf, 18)), ("over 60", (61, np.inf)),
     ("Level 3", None), ("male", None), ("", None)],
)  # fmt: skip
def test_numbers_of_values(value, bounds):
    assert number_bounds(value) == bounds


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("gender=male", "unknown field 'gender'; this run knows its people by sex, "),
        ("country=Japn", "nobody in the data has country 'Japn'; its values are Japan, "),
        ("age>=99", "nobody in the data has age>=99"),
        ("sex>3", "sex is no number"),
        ("country", "cannot read 'country'"),
        ("country=", "cannot read"),
        ("country=Japan; country=Peru", "names the field country twice"),
        ({"country": []}, "no value of country"),
        ({"country": [""]}, "empty value"),
        ({"country": None}, "a value is a text"),
        ({"country": {"a": 1}}, "a value is a text"),
        ({1: "Japan"}, "it must be a text"),
        (3, "a group is 3"),
        ("country=" + "x" * 30_000, "30,008 characters"),
    ],
)
def test_what_is_no_group_is_refused_in_one_line(where, message):
    with pytest.raises(CumaError) as caught:
        parse_group(where, FIELDS)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_too_many_groups_are_refused():
    assert len(parse_groups(["country=Japan"] * 3, FIELDS)) == 3
    with pytest.raises(CumaError, match="10,000 groups"):
        parse_groups(["country=Japan"] * 10_000, FIELDS)
    assert MOST_GROUPS < 10_000
    with pytest.raises(CumaError, match="no group"):
        parse_groups([], FIELDS)


def test_a_value_that_nobody_has_is_taken_where_it_may_be():
    group = parse_group({"country": "Atlantis, upper; part"}, FIELDS, unknown=True)
    assert group.profile == {"country": "Atlantis, upper; part"}
    assert parse_group("age>=18", FIELDS).profile is None
    assert Group().profile == {}


@hypothesis.given(st.text(max_size=60))
def test_any_text_is_a_group_or_one_message(text):
    with contextlib.suppress(CumaError):
        group = parse_group(text, FIELDS)
        assert parse_group(group, FIELDS) == group


def test_the_mask_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    vocab = {name: tuple(sorted(field.values)) for name, field in FIELDS.items()}
    codes_KF = np.stack([rng.integers(-1, len(values), 50) for values in vocab.values()], axis=1)
    group = parse_group("country=Japan,Peru; age>=35", FIELDS)
    mask_K = group.mask(list(vocab), vocab, codes_KF)
    for row, inside in zip(codes_KF, mask_K, strict=True):
        person = {f: vocab[f][c] for f, c in zip(vocab, row, strict=True) if c >= 0}
        assert inside == all(person.get(c.field) in c.values for c in group.conditions)


def test_a_mask_is_there_though_another_thread_empties_the_cache():
    class Emptied(dict):
        """A cache that another thread empties at once."""

        def __setitem__(self, key, value):
            super().__setitem__(key, value)
            self.clear()

    people = types.SimpleNamespace(vocab={}, mask=lambda group: np.ones(3, bool))
    planner = Planner(types.SimpleNamespace(people=people))
    planner._masks = Emptied()
    assert planner.mask(Group()).all()
