"""Profile fields of a user's survey that are numbers, or that a table says."""

import pytest
from test_csv_survey import write

from cuma_jax.runtime.errors import CumaError
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
