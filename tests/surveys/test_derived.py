import dataclasses
import logging

import pandas as pd
import pytest

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.derived import add_derived, fill_derived, place_facts
from cuma_jax.surveys.fields.countries import country_numbers
from cuma_jax.surveys.profiles import build_profiles, profile_text
from cuma_jax.surveys.sources.invented import COUNTRIES, make_invented

NAMES = ("Chile", "Mali", "Norway", "Northern Ireland", "Taiwan ROC", "Namibia", "Atlantis", "Chile, Argentina")
"""Real names for the eight invented countries; the last two are no country's."""


def with_countries(names=NAMES):
    survey = make_invented()
    column = survey.respondents["country"].cat.rename_categories(dict(zip(COUNTRIES, names, strict=True)))
    return dataclasses.replace(survey, respondents=survey.respondents.assign(country=column))


@pytest.mark.parametrize(
    ("country", "region", "language"),
    [
        ("Chile", "South America", "Spanish"),
        ("Mali", "Western Africa", "French"),
        ("Northern Ireland", "Northern Europe", "English"),
        ("Great Britain", "Northern Europe", "English"),  # its code is written as alternatives
        ("Taiwan ROC", "Eastern Asia", "Chinese"),
        ("Hong Kong SAR", "Eastern Asia", "Chinese"),
        ("Namibia", "Southern Africa", "English"),  # its code is NA
        ("Serbia and Montenegro", "Southern Europe", "Serbian"),
        ("Switzerland", "Western Europe", "German"),  # of four official languages
    ],
)
def test_facts_of_a_country(country, region, language):
    assert place_facts(country) == {"world_region": region, "official_language": language}


def test_an_unknown_name_has_no_facts_and_the_library_is_silent(caplog):
    level = logging.getLogger("country_converter").level
    place_facts.cache_clear()
    assert [place_facts(name) for name in ("Atlantis", "", "(", "Chile, Argentina")] == [{}] * 4
    assert not caplog.records
    assert logging.getLogger("country_converter").level == level


def test_columns_are_the_facts_of_each_respondent(capsys):
    survey = with_countries()
    derived = add_derived(survey, ("language", "region"))
    frame = derived.respondents
    for row in range(0, len(frame), 7):
        facts = place_facts(frame["country"][row])
        for field in ("world_region", "official_language"):
            assert facts.get(field, "missing") == (frame[field][row] if pd.notna(frame[field][row]) else "missing")
    assert derived.profile_fields == survey.profile_fields
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "2 of 8 values of country lack" in said
    assert "Atlantis, Chile, Argentina" in said
    assert "world_region" not in survey.respondents
    assert add_derived(survey, ()) is survey


def test_profiles_have_them_beside_the_country_and_sentences_do_not():
    survey = add_derived(with_countries(), ("region", "language"))
    plain, profiles = build_profiles(survey), build_profiles(survey, derived=("region", "language"))
    assert profiles.fields == ("country", "world_region", "official_language", "sex", "age")
    assert len(profiles) == len(plain)
    assert {profile_text(profiles, p) for p in range(len(profiles))} == {
        profile_text(plain, p) for p in range(len(plain))
    }
    assert profiles.values(len(profiles) - 1).keys() >= {"country", "world_region", "official_language"}
    # Without the country the region stays; a source that has not been prepared is.
    coarse = build_profiles(with_countries(), ("sex",), derived=("region",))
    assert coarse.fields == ("sex", "world_region")
    assert coarse.vocab["world_region"] == (
        "Eastern Asia", "Northern Europe", "South America", "Southern Africa", "Western Africa"
    )  # fmt: skip


def test_a_profile_is_filled_in_unless_it_says_otherwise():
    fields = ("world_region", "official_language")
    assert fill_derived({"country": "Chile", "sex": "male"}, fields) == {
        "country": "Chile", "sex": "male", "world_region": "South America", "official_language": "Spanish"
    }  # fmt: skip
    given = {"country": "Chile", "official_language": "Mapudungun"}
    assert fill_derived(given, fields) == given | {"world_region": "South America"}
    assert fill_derived({"country": "Atlantis"}, fields) == {"country": "Atlantis"}
    assert fill_derived({"sex": "male"}, fields) == {"sex": "male"}
    assert fill_derived({"B_COUNTRY": "Mali"}, fields[:1]) == {"B_COUNTRY": "Mali", "world_region": "Western Africa"}


def test_a_source_without_a_country_or_with_such_a_field_is_an_error():
    survey = make_invented()
    frame = survey.respondents.drop(columns="country")
    nowhere = dataclasses.replace(survey, respondents=frame, profile_fields=("sex", "age"))
    with pytest.raises(
        CumaError, match=r"profile.derived is region.*'invented' has no such field \(it has: sex, age\)"
    ):
        add_derived(nowhere, ("region",))
    taken = dataclasses.replace(survey, respondents=survey.respondents.assign(world_region="here"))
    with pytest.raises(CumaError, match="has a field 'world_region' of its own"):
        add_derived(taken, ("region",))


def test_a_part_has_the_number_of_its_country_where_no_other_name_has_it_and_a_spelling_always():
    assert country_numbers(["Scotland", "Palest. ter.", "Palestine", "Atlantis"]) == {
        "Palest. ter.": "275", "Palestine": "275", "Scotland": "826"
    }  # fmt: skip
    assert country_numbers(["Wales", "Great Britain"]) == {"Great Britain": "826"}
