"""Spellings of one country are one country to splits, groups and drawing; a profile keeps its own."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from made_up import survey_of

from cuma_jax.config import DataConfig
from cuma_jax.config.checks import SPLITS
from cuma_jax.data.sampling import answer_rows
from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving.groups import make_field, parse_group
from cuma_jax.surveys.fields.countries import one_name, same_country, with_one_name
from cuma_jax.surveys.groups import build_groups
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.splits import split_answers, split_table
from cuma_jax.surveys.units import survey_units

SPELLINGS = [
    ("Britain", "Great Britain", "GB", "GBR", "U.K.", "UNITED KINGDOM", "Vereinigtes Königreich"),
    ("S. Korea", "South Korea", "Korea, Rep.", "KOR"),
    ("Côte d'Ivoire", "Cote d Ivoire", "Ivory Coast", "CI"),
    ("Czech Rep.", "Czechia"),
    ("Germany", "Deutschland", "Alemania", "DE", "DEU"),
    ("Namibia", "NAMIBIA", "NA"),
    ("Cape Verde", "Cabo Verde", "CPV"),
    ("Hong Kong", "Hong Kong SAR", "Hong Kong, China"),
    ("Palest. ter.", "Palestine"),
    ("East Germany", "Germany East", "Germany (East)", "DDR"),
    ("Northern Ireland", "N. Ireland"),
    ("Iran", "Iran (Islamic Republic of)", "Iran, Islamic Rep."),
    ("North Macedonia", "Macedonia, North"),
    ("East Timor", "Timor-Leste"),
    ("United States", "U.S.A.", "US", "U.S.", "USA", "United States of America"),
    ("Nowhere-Land", "nowhere land"),  # of no library: capitals and signs
]


@pytest.mark.parametrize("spellings", SPELLINGS)
def test_spellings_of_a_country_have_one_name(spellings):
    assert len({same_country(name) for name in spellings}) == 1
    assert len(set(one_name(spellings).values())) == 1
    assert one_name(spellings[:1]) == {spellings[0]: spellings[0]}, "the only spelling stays as it is"


def test_different_places_are_told_apart():
    places = [*(names[0] for names in SPELLINGS), "China", "Taiwan", "Ireland", "Scotland", "England", "West Germany",
              "Guinea", "Guinea-Bissau", "Equatorial Guinea", "Niger", "Nigeria", "Congo", "DR Congo", "Dominica",
              "Dominican Republic", "North Korea", "Serbia", "Serbia and Montenegro", "Czechoslovakia", "Slovakia",
              "Suland", "Atlantis", "A", "B", "1", "2"]  # fmt: skip
    assert len({same_country(place) for place in places}) == len(places)


@pytest.mark.parametrize(
    ("part", "country"),
    [
        ("IL (J)-Israel (Jews)", "Israel"), ("IL (A)-Israel (Arabs)", "Israel"), ("Israel (Arabs)", "Israel (Jews)"),
        ("DE-W-Germany-West", "DE-E-Germany-East"), ("DE-E-Germany-East", "Germany"), ("Belgium [Flanders]", "Belgium"),
        ("GB-NIR-Northern Ireland", "GB-GBN-Great Britain"), ("United Kingdom (Scotland)", "United Kingdom"),
        ("Basque Country (Spain)", "Spain"), ("Spain - Basque Country", "Spain"), ("South West Africa", "South Africa"),
    ],
)  # fmt: skip
def test_people_who_are_surveyed_apart_are_not_the_country(part, country):
    assert same_country(part) != same_country(country)


def test_a_part_is_known_beside_codes_and_its_country():
    assert same_country("DE-W-Germany-West") == same_country("West Germany")
    assert same_country("GB-NIR-Northern Ireland") == same_country("United Kingdom (N. Ireland)")
    assert same_country("United Kingdom of Great Britain and Northern Ireland") == same_country("UK")


def two_spellings(people=120):
    """Every country under two names, of two waves; each wave has its question."""
    names = [("Great Britain", "GB"), ("South Korea", "S. Korea"), ("Chile", "CHL"), ("Peru", "PERU"), ("Mali", "ML"),
             ("Kenya", "KEN"), ("Norway", "Norwegen"), ("Japan", "JP")]  # fmt: skip
    countries = [names[i % 8][i // 8 % 2] for i in range(people)]
    return survey_of({"country": countries}, questions=3), names


@pytest.mark.parametrize("seed", range(8))
def test_no_split_has_two_spellings_of_a_country_on_both_sides(seed):
    survey, names = two_spellings()
    data = DataConfig(source="csv", unseen_respondents=0.0, validation_respondents=0.0, unseen_countries=0.25,
                      validation_countries=0.13, split_seed=seed)  # fmt: skip
    split_A = split_answers(survey, data)
    assert {SPLITS[s] for s in np.unique(split_A)} == {"train", "validation", "unseen_country"}
    country_A = survey.respondents["country"].to_numpy()[survey.respondent_A]
    for pair in names:
        assert len({int(s) for s in split_A[np.isin(country_A, pair)]}) == 1


def test_a_country_is_held_out_by_any_of_its_names_and_by_a_file_of_any(tmp_path):
    survey, _ = two_spellings()
    base = DataConfig(source="csv", unseen_respondents=0.0, validation_respondents=0.0)
    by_name = [
        split_answers(survey, dataclasses.replace(base, held_out_countries=(name,)))
        for name in ("GB", "Great Britain", "UK")
    ]
    np.testing.assert_array_equal(by_name[0], by_name[1])
    np.testing.assert_array_equal(by_name[0], by_name[2])
    table = split_table(survey_units(survey), dataclasses.replace(base, held_out_countries=("GB",)))
    assert table.loc[table["kind"] == "country", "id"].tolist() == ["United Kingdom"]
    for name in ("United Kingdom", "Great Britain", "England and Wales"):
        path = tmp_path / "split.csv"
        table.replace("United Kingdom", name).to_csv(path, index=False)
        np.testing.assert_array_equal(split_answers(survey, dataclasses.replace(base, split=str(path))), by_name[0])
    two = pd.DataFrame([("country", "GB", "unseen_country"), ("country", "UK", "train")], columns=table.columns)
    pd.concat([table, two]).to_csv(path, index=False)
    with pytest.raises(CumaError, match="country 'United Kingdom' is in two splits"):
        split_answers(survey, dataclasses.replace(base, split=str(path)))


def test_groups_and_drawing_take_spellings_as_one_and_profiles_keep_them():
    survey, names = two_spellings()
    assert len(build_groups(survey, ("country",)).names) == 8
    assert len(build_profiles(survey)) == 16
    assert set(build_profiles(survey).vocab["country"]) == {name for pair in names for name in pair}
    # One country has a name more than the others, and still its share.
    people = survey.respondents.assign(
        country=pd.Categorical(["UK" if i in (0, 16) else c for i, c in enumerate(survey.respondents["country"])])
    )
    survey = dataclasses.replace(survey, respondents=people)
    drawing = DataConfig(group_by="country", group_power=0.0)
    rows = answer_rows(survey, build_profiles(survey), np.ones(survey.num_answers, bool), drawing)
    group_A = build_groups(survey, ("country",)).group_R[survey.respondent_A]
    np.testing.assert_allclose(np.bincount(group_A, rows.mass_N) / rows.mass_N.sum(), 1 / 8)


def test_a_group_of_people_has_all_spellings_of_its_country():
    fields = {"country": make_field("country", {"Britain": 3, "Great Britain": 2, "Peru": 1})}
    for asked in ("Britain", "great britain", "UK", "GBR"):
        assert parse_group(f"country={asked}", fields).conditions[0].values == ("Britain", "Great Britain")
    assert parse_group("country=UK", fields, unknown=True).profile == {"country": "Britain"}
    assert parse_group("country=Chad", fields, unknown=True).profile == {"country": "Chad"}


def test_other_fields_and_single_spellings_are_left_alone():
    column = pd.Series(pd.Categorical(["GB", "Great Britain", None]))
    assert with_one_name(column, "town") is column
    alone = pd.Series(pd.Categorical(["GB", "Peru", None]))
    assert with_one_name(alone, "country") is alone
    assert with_one_name(column, "country").tolist()[:2] == ["United Kingdom"] * 2
    assert pd.isna(with_one_name(column, "country")[2])
