"""Profile fields that are numbers: columns of their own in the vector."""

import dataclasses
import json

import numpy as np
import pytest
from made_up import survey_of
from test_profile_table import FakeEncoder

from cuma_jax.config import ProfileConfig
from cuma_jax.profile_encoders.profile_table import ProfileTable, build_profile_table
from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving.bundle.vectors import packed, unpacked
from cuma_jax.surveys.profiles import build_profiles, profile_text

AGES = ["20", "20", "20", "60", "1000", None]
COUNTRIES = ["Chile", "Chile", "Peru", "Peru", "Mali", "Peru"]
TRAIN = np.array([True, True, True, True, False, True])  # who was asked in training; Mali was not


def people():
    survey = survey_of({"country": COUNTRIES, "age": AGES})
    return dataclasses.replace(survey, numeric_fields=("age",))


def table_of(granularity="field", profiles=None, folder=None, **changes):
    profiles = profiles or build_profiles(people())
    people_P = np.bincount(profiles.profile_R[TRAIN], minlength=len(profiles))
    config = ProfileConfig(granularity=granularity, components=5, **changes)
    encoder = None if granularity == "categorical" else FakeEncoder()
    return profiles, build_profile_table(profiles, people_P > 0, config, encoder, folder, 0, False, people_P=people_P)


def numbers_of(profiles, table):
    """The age's two columns of each respondent."""
    return table.vectors_PM[profiles.profile_R, -2:]


@pytest.mark.parametrize("granularity", ["field", "profile", "categorical"])
def test_a_number_is_standardised_over_the_training_respondents(tmp_path, granularity):
    profiles, table = table_of(granularity, folder=tmp_path)
    asked = np.array([float(age) for age, trained in zip(AGES, TRAIN, strict=True) if age and trained])
    expected = [[(float(age) - asked.mean()) / asked.std(), 1.0] if age else [0.0, 0.0] for age in AGES]
    np.testing.assert_allclose(numbers_of(profiles, table), expected, rtol=1e-6)
    assert table.embedder.widths[-1] == 2
    assert sum(table.embedder.widths) == table.width


def test_a_number_is_in_the_sentence_and_not_among_the_encoded_texts(tmp_path):
    profiles = build_profiles(people())
    assert profile_text(profiles, profiles.profile_R[0]) == "A person from Chile; age: 20."
    encoder = FakeEncoder()
    for granularity in ("field", "profile"):
        train_P = np.ones(len(profiles), bool)
        build_profile_table(profiles, train_P, ProfileConfig(granularity=granularity), encoder, tmp_path, 0, False)
    assert not [text for texts in encoder.calls for text in texts if "20" in text or "age" in text]


@pytest.mark.parametrize("granularity", ["field", "profile", "categorical"])
def test_a_new_number_needs_no_table_row_and_saving_changes_nothing(tmp_path, granularity):
    _, table = table_of(granularity, folder=tmp_path)
    table.save(tmp_path)
    loaded = ProfileTable.load(tmp_path, table.embedder.encoder if granularity != "categorical" else None)
    new = [{"country": "Peru", "age": "25.5"}, {"country": "Peru"}]
    about, arrays = packed(table)
    for other in (loaded, unpacked(json.loads(json.dumps(about)), arrays)):
        np.testing.assert_array_equal(other.vectors_PM, table.vectors_PM)
        assert other.embedder.numbers == table.embedder.numbers
    columns = table.embedder.numbers["age"]
    expected = [[(25.5 - columns.mean) / columns.deviation, 1], [0, 0]]
    np.testing.assert_allclose(loaded.embed_profiles(new)[:, -2:], expected, rtol=1e-6)
    with pytest.raises(CumaError, match="profile field 'age' is 'old'; it must be a number"):
        loaded.embed_profiles([{"country": "Peru", "age": "old"}])


def test_a_number_that_everybody_shares_tells_nobody_apart(tmp_path):
    survey = dataclasses.replace(survey_of({"country": ["A", "B"], "age": ["0.1", "0.1"]}), numeric_fields=("age",))
    profiles = build_profiles(survey)
    config = ProfileConfig(granularity="categorical")
    table = build_profile_table(profiles, np.ones(2, bool), config, None, tmp_path, 0, False)
    np.testing.assert_array_equal(table.vectors_PM[:, -2:], [[0, 1], [0, 1]])


def test_the_same_texts_that_are_no_numbers_are_as_ever(tmp_path):
    """Nothing of numbers is in the files of a run without any."""
    profiles = dataclasses.replace(build_profiles(people()), numeric=())
    for granularity in ("field", "categorical"):
        _, table = table_of(granularity, profiles, tmp_path)
        assert not {"numbers", "context"} & set(table.saved()[0])
