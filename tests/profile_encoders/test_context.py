"""What a joined table says of a country reaches its profile vector, and nothing of its answers does."""

import dataclasses

import numpy as np
import pytest
from test_profile_table import FakeEncoder

from cuma_jax.config import Config, DataConfig, ProfileConfig
from cuma_jax.data.load import read_data
from cuma_jax.generation.personas import persona_of
from cuma_jax.profile_encoders.profile_table import ProfileTable, build_profile_table
from cuma_jax.run.folder import write_config
from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving.asking.opening import data_of as run_data
from cuma_jax.serving.bundle.contents import contents_of
from cuma_jax.serving.bundle.files import read_contents, write_bundle

YAML = """
name: joined
answers: answers.csv
respondent: id
profile: {country: country, age: {column: age, numeric: true}}
context: {by: country, table: countries.csv, fields: [gdp, bloc]}
questions:
  tea: {text: "Tea or coffee?", options: {1: Tea, 2: Coffee}}
"""
COUNTRIES = {"Norland": (100, "north"), "Estmark": (200, "south"), "Hestia": (900, "north"), "Suland": (500, "south"),
             "Ostland": (50, "north")}  # fmt: skip


def config_of(folder, answers_of_hestia="12"):
    """Three countries, of which Hestia is held out; Suland and Ostland were not asked at all."""
    rows = [
        f"p{i},{country},{20 + i},{(answers_of_hestia if country == 'Hestia' else '12')[i % 2]}"
        for i, country in enumerate(["Norland", "Estmark", "Hestia"] * 20)
    ]
    (folder / "survey.yaml").write_text(YAML)
    (folder / "answers.csv").write_text("id,country,age,tea\n" + "\n".join(rows) + "\n")
    table = [f"{name},{gdp},{bloc}" for name, (gdp, bloc) in COUNTRIES.items()]
    (folder / "countries.csv").write_text("country,gdp,bloc\n" + "\n".join(table) + "\n")
    config = Config(data=DataConfig(
        source="csv", path=str(folder / "survey.yaml"), held_out_countries=("Hestia",), unseen_respondents=0.0,
        validation_respondents=0.0,
    ))  # fmt: skip
    run = dataclasses.replace(config.run, cache_dir=str(folder / "cache"))
    evaluation = dataclasses.replace(config.evaluation, splits=("unseen_country",))
    return dataclasses.replace(config, run=run, evaluation=evaluation)


def data_of(folder, answers_of_hestia="12"):
    return read_data(config_of(folder, answers_of_hestia))


def table_of(data, granularity, folder):
    config = ProfileConfig(granularity=granularity, components=4)
    encoder = None if granularity == "categorical" else FakeEncoder()
    return build_profile_table(
        data.profiles, data.train_P, config, encoder, folder, progress=False, people_P=data.people_P
    )


def blocks_of(table, values):
    """The vector of one profile by field."""
    ends = np.cumsum(table.embedder.widths)
    return dict(zip(table.embedder.fields, np.split(table.embed_profiles([values])[0], ends[:-1]), strict=True))


@pytest.mark.parametrize("granularity", ["field", "categorical"])
def test_a_country_without_any_answers_has_its_own_vector_from_the_table(tmp_path, granularity):
    table = table_of(data_of(tmp_path), granularity, tmp_path)
    table.save(tmp_path)
    table = ProfileTable.load(tmp_path, table.embedder.encoder if granularity == "field" else None)
    suland, ostland, nowhere = (blocks_of(table, {"country": c}) for c in ("Suland", "Ostland", "Nowhere"))
    trained = np.array([100.0, 200.0])  # as many respondents in each
    assert suland["gdp"] == pytest.approx([(500 - 150) / trained.std(), 1])
    assert ostland["gdp"] == pytest.approx([(50 - 150) / trained.std(), 1])
    assert not nowhere["gdp"].any()
    np.testing.assert_array_equal(suland["bloc"], blocks_of(table, {"country": "Estmark"})["bloc"])
    assert not np.array_equal(suland["bloc"], ostland["bloc"])
    # What is said by hand goes before the table.
    assert blocks_of(table, {"country": "Suland", "gdp": "50"})["gdp"] == pytest.approx(ostland["gdp"])


@pytest.mark.parametrize("granularity", ["field", "profile", "categorical"])
def test_nothing_of_a_held_out_countrys_answers_is_in_any_vector(tmp_path, granularity):
    tables = []
    for number, answers in enumerate(("12", "21", "22")):
        (folder := tmp_path / str(number)).mkdir()
        tables.append((data := data_of(folder, answers), table_of(data, granularity, folder)))
    options = [data.source.option_A.tolist() for data, _ in tables]
    assert options[0] != options[1] != options[2]
    for _, table in tables[1:]:
        np.testing.assert_array_equal(table.vectors_PM, tables[0][1].vectors_PM)
    # Nor are its numbers in the statistics: without its respondents they are the same.
    numbers = tables[0][1].embedder.numbers
    assert (numbers["gdp"].mean, numbers["gdp"].deviation) == (150.0, 50.0)


def test_a_bundle_knows_numbers_and_tables_and_needs_no_survey(tmp_path):
    config = config_of(tmp_path)
    data = read_data(config)
    table = table_of(data, "categorical", tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    write_config(folder, config)
    write_bundle(folder, contents_of(config, data, {}, lambda: table))
    for name in ("answers.csv", "countries.csv", "survey.yaml"):
        (tmp_path / name).unlink()
    contents = read_contents(folder)
    there = run_data(contents)
    assert there.profiles.numeric == data.profiles.numeric == ("age", "gdp")
    assert there.profiles.derived == data.profiles.derived == ("gdp", "bloc")
    assert there.source.context == data.source.context
    assert contents.people.by_field["age"].numeric
    kept = contents.table()
    np.testing.assert_array_equal(kept.vectors_PM, table.vectors_PM)
    who = persona_of({"country": "Suland", "age": "33.50"}, "the profile", there.profiles, kept)
    assert who.values == {"country": "Suland", "age": "33.5", "gdp": "500", "bloc": "south"}
    assert who.text == "A person from Suland; age: 33.5."
    np.testing.assert_array_equal(kept.embed_profiles([who.values]), table.embed_profiles([who.values]))
    assert who.notes == ("nobody in the data has country 'Suland'; a joined table knows it",)
    with pytest.raises(CumaError, match="nobody in the data has country 'Nowhere'"):
        persona_of({"country": "Nowhere"}, "the profile", there.profiles, kept)
    with pytest.raises(CumaError, match="the profile: age is 'old'; it must be a number"):
        persona_of({"age": "old"}, "the profile", there.profiles, kept)
