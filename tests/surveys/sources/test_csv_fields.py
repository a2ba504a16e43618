"""Profile fields of a user's survey that are numbers, or that a table says."""

import re

import pytest
from test_csv_survey import write

from cuma_jax.config import DataConfig
from cuma_jax.data.load import contents
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.load import load_survey
from cuma_jax.surveys.profiles import build_profiles, profile_text
from cuma_jax.surveys.sources.own.survey import build_survey, read_csv_survey

YAML = """
name: ages
answers: answers.csv
respondent: id
profile: {country: country, age: %s}
questions:
  tea: {text: "Tea or coffee?", options: {1: Tea, 2: Coffee}}
"""


def ages(folder, how, values):
    rows = [f"p{i},Norland,{value},1" for i, value in enumerate(values)]
    return write(folder, YAML % how, answers_csv="id,country,age,tea\n" + "\n".join(rows) + "\n")


def column(survey, field):
    return survey.respondents[field].astype(object).where(survey.respondents[field].notna(), None).tolist()


def test_bins_put_numbers_into_groups(tmp_path):
    path = ages(tmp_path, "{column: age, bins: [18, 30, 45, 60], missing: [-1]}", [17, 18, 29.9, 30, 60, 101, "", -1])
    survey = read_csv_survey(path)
    expected = ["under 18", "18-29", "18-29", "30-44", "60 and over", "60 and over", None, None]
    assert column(survey, "age") == expected


def test_a_value_may_stand_for_a_number(tmp_path):
    path = ages(tmp_path, '{column: age, bins: [18, 60], values: {"90 or older": 90}}', [20, "90 or older"])
    assert column(read_csv_survey(path), "age") == ["18-59", "60 and over"]


def test_what_is_no_number_is_named_with_its_line(tmp_path):
    path = ages(tmp_path, "{column: age, bins: [18, 60]}", [20, "old", "old"])
    with pytest.raises(CumaError, match=r"line 3.*column 'age'.*age is 'old', which is no number \(2 respondents\)"):
        read_csv_survey(path)
    survey, _ = build_survey(path, "skip")
    assert column(survey, "age") == ["18-59", None, None]
    assert survey.skipped["age: unknown code"] == 2


def test_codes_for_no_answer_among_numbers_are_a_warning(tmp_path):
    path = ages(tmp_path, "{column: age, bins: [18, 60]}", [20, 30, 40, 999, -1])
    survey, problems = build_survey(path)
    assert survey is not None
    assert ["-1, 999" in p.message for p in problems if "numbers" in p.message] == [True]


@pytest.mark.parametrize("bins", ["[30, 18]", "[18, 18]", "[a]", "[]", "{1: 2}", "[.inf]"])
def test_bins_that_are_no_rising_numbers(tmp_path, bins):
    path = ages(tmp_path, f"{{column: age, bins: {bins}}}", [20])
    with pytest.raises(CumaError, match="profile field 'age': `bins:` must be rising numbers"):
        read_csv_survey(path)


def test_bins_and_number_at_once(tmp_path):
    path = ages(tmp_path, "{column: age, bins: [18], numeric: true}", [20])
    with pytest.raises(CumaError, match="has `bins:` and `numeric: true`"):
        read_csv_survey(path)


def test_a_numeric_field_keeps_its_numbers(tmp_path):
    path = ages(tmp_path, "{column: age, numeric: true, missing: [-1]}", ["37.0", 52.25, "", -1])
    survey = read_csv_survey(path)
    assert column(survey, "age") == ["37", "52.25", None, None]
    assert survey.numeric_fields == ("age",)
    assert build_profiles(survey).numeric == ("age",)


def test_decimal_commas_are_numbers(tmp_path):
    path = ages(tmp_path, "{column: age, numeric: true}", ['"37,5"', '"20,0"'])
    assert column(read_csv_survey(path), "age") == ["37.5", "20"]


def test_a_numeric_field_differs_for_everybody_and_that_is_no_fault(tmp_path):
    path = ages(tmp_path, "{column: age, numeric: true}", range(20, 60))
    survey, problems = build_survey(path)
    assert survey is not None
    assert not problems


def test_what_a_field_is_comes_back_from_the_cache(tmp_path):
    path = ages(tmp_path, "{column: age, numeric: true}", [20, 30])
    data = DataConfig(source="csv", path=str(path))
    first, again = load_survey(data, str(tmp_path / "cache")), load_survey(data, str(tmp_path / "cache"))
    assert first.numeric_fields == again.numeric_fields == ("age",)


JOINED = """
name: joined
answers: answers.csv
respondent: id
profile: {country: country}
context: {by: country, table: countries.csv, fields: [gdp, bloc], missing: [".."]}
questions:
  tea: {text: "Tea or coffee?", options: {1: Tea, 2: Coffee}}
"""
ANSWERS = "id,country,tea\na,Norland,1\nb,Estmark,2\nc,Norland,2\n"
COUNTRIES = "country,gdp,bloc\nNorland,100.5,north\nEstmark,..,\nSuland,300,south\nOstland,50,east\n"


def joined(folder, yaml=JOINED, answers=ANSWERS, countries=COUNTRIES):
    return write(folder, yaml, answers_csv=answers, countries_csv=countries)


def test_a_table_is_joined_by_a_field(tmp_path):
    survey = read_csv_survey(joined(tmp_path))
    assert column(survey, "gdp") == ["100.5", None, "100.5"]
    assert column(survey, "bloc") == ["north", None, "north"]
    assert survey.profile_fields == ("country", "gdp", "bloc")
    assert survey.numeric_fields == ("gdp",)
    (context,) = survey.context
    assert context.of("Suland") == {"gdp": "300", "bloc": "south"}
    profiles = build_profiles(survey)
    assert profiles.derived == ("gdp", "bloc")
    assert profile_text(profiles, profiles.profile_R[0]) == "A person from Norland."


def test_a_list_of_tables_with_columns_of_other_names(tmp_path):
    yaml = JOINED.replace(
        'context: {by: country, table: countries.csv, fields: [gdp, bloc], missing: [".."]}',
        "context:\n"
        '  - {by: country, table: countries.csv, fields: {money: {column: gdp, bins: [200]}}, missing: [".."]}\n'
        "  - {by: country, table: more.csv, key: name, fields: {club: kind}}",
    )
    path = joined(tmp_path, yaml)
    (tmp_path / "more.csv").write_text("name,kind\nEstmark,x\nNorland,y\n")
    survey = read_csv_survey(path)
    assert column(survey, "money") == ["under 200", None, "under 200"]
    assert column(survey, "club") == ["y", "x", "y"]
    assert not survey.numeric_fields


def test_a_country_is_found_under_another_name(tmp_path):
    answers, countries = ANSWERS.replace("Norland", "Great Britain"), COUNTRIES.replace("Norland", "GBR")
    assert column(read_csv_survey(joined(tmp_path, answers=answers, countries=countries)), "bloc")[0] == "north"
    countries += "United Kingdom,7,west\n"
    with pytest.raises(CumaError, match="country 'Great Britain' may be 'GBR' or 'United Kingdom'"):
        read_csv_survey(joined(tmp_path, answers=answers, countries=countries))


def test_what_the_table_lacks_is_named_in_one_message(tmp_path):
    countries = COUNTRIES.replace("Norland", "Nordland")
    survey, problems = build_survey(joined(tmp_path, countries=countries))
    assert survey is not None
    assert [p.severity for p in problems] == ["warning"]
    assert "1 of 2 values of country have no row: 'Norland' (2 respondents)" in problems[0].message
    assert column(survey, "bloc") == [None, None, None]
    with pytest.raises(CumaError, match="2 of 2 values of country have no row"):
        read_csv_survey(joined(tmp_path, countries=countries.replace("Estmark", "Estmarke")))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Ostland,50", "Suland,50", "line 5, column 'country': 'Suland' is there already in line 4"),
        ("50,east", "n/a,east", "line 5, column 'gdp': gdp is 'n/a', where most values are numbers"),
        ("gdp", "gnp", "column 'gdp': there is no such column"),
        ("country,gdp", "name,gdp", "column 'country': there is no such column"),
    ],
)
def test_a_table_that_cannot_be_joined(tmp_path, old, new, message):
    with pytest.raises(CumaError, match=re.escape(message)):
        read_csv_survey(joined(tmp_path, countries=COUNTRIES.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("by: country", "by: region", "`context:` is by 'region', which is no profile field"),
        ("by: country, ", "", "`context:` has no `by:`"),
        ("fields: [gdp, bloc]", "fields: []", "`context:` has no `fields:`"),
        ("fields: [gdp, bloc]", "fields: [country]", "the context field 'country' is there already, in the profile"),
        ("countries.csv", "nowhere.csv", "nowhere.csv: there is no such file"),
        ("fields: [gdp", "felds: [gdp", "unknown key 'felds' in `context:`"),
        (re.search("{by.*]}", JOINED)[0], "countries.csv", "`context:` is not `by:`, `table:` and `fields:` lines"),
    ],
)
def test_a_context_that_is_not_described(tmp_path, old, new, message):
    with pytest.raises(CumaError, match=re.escape(message)):
        read_csv_survey(joined(tmp_path, JOINED.replace(old, new)))


def test_a_changed_table_is_another_survey(tmp_path):
    path = joined(tmp_path)
    data, cache = DataConfig(source="csv", path=str(path)), str(tmp_path / "cache")
    first, again = load_survey(data, cache), load_survey(data, cache)
    assert again.context == first.context
    assert contents(again) == contents(first)
    joined(tmp_path, countries=COUNTRIES.replace("300", "301"))  # of a country that nobody was asked in
    other = load_survey(data, cache)
    assert other.context[0].of("Suland")["gdp"] == "301"
    assert contents(other) != contents(first)
