import io

import pandas as pd
import pytest
from test_csv_survey import CSV, YAML, write

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.own.proposal.propose import propose_yaml
from cuma_jax.surveys.sources.own.survey import check_csv_survey, read_csv_survey
from cuma_jax.tables.problems import format_problems

LONG_YAML = """
answers: answers.csv
layout: long
respondent: id
question: item
answer: value
profile: [country]
weight: w
questions:
  tea: {text: Tea, options: [Yes, No]}
  rain: {text: Rain, options: [Yes, No]}
"""
LONG_CSV = "id,country,w,item,value\na,Norland,1,tea,1\na,Norland,1,rain,2\nb,Estmark,2,tea,2\n"


def found(problems, folder):
    """(severity, file name, line, column) of each problem."""
    return [(p.severity, p.file.removeprefix(f"{folder}/"), p.line, p.column) for p in problems]


def only(path, bad_rows="error"):
    """The one problem that there is; the reader says the same."""
    problems = check_csv_survey(path, bad_rows)
    assert len(problems) == 1, format_problems(problems)
    if problems[0].severity == "error":
        with pytest.raises(CumaError) as error:
            read_csv_survey(path)
        assert str(error.value) == str(problems[0])
    else:
        read_csv_survey(path, bad_rows)
    return problems[0]


def test_five_planted_faults_are_all_listed_each_with_its_line(tmp_path):
    yaml = YAML.replace("{country: country}", "{country: country, age: agegroup}")
    data = (
        b"id,country,age_group,w,tea,rain\n"
        b"a,Norland,young,1,1,3\n"
        b"b,N\xf6rland,old,1,1,3\n"  # a Latin-1 byte
        b"c,Norland,old,1,7,3\n"  # an unknown code
        b"d,Norland,old,-2,1,3\n"  # a negative weight
        b"a,Norland,old,1,1,3\n"  # a respondent who is there already
    )
    problems = check_csv_survey(write(tmp_path, yaml, answers_csv=data))
    assert found(problems, tmp_path) == [
        ("error", "answers.csv", 1, "agegroup"),
        ("error", "answers.csv", 3, None),
        ("error", "answers.csv", 4, "tea"),
        ("error", "answers.csv", 5, "w"),
        ("error", "answers.csv", 6, "id"),
    ]
    text = format_problems(problems)
    for part in (
        "did you mean 'age_group'?",
        "byte 0xf6 at position 4 of the line is not UTF-8",
        "say `encoding: cp1252` in the YAML file. The line then reads",
        "code '7'",
    ):
        assert part in text
    assert text.endswith("5 errors, 0 warnings")
    with pytest.raises(CumaError, match="5 problems in the survey's files"):
        read_csv_survey(tmp_path)


def test_an_answer_of_nobody_in_the_table_of_people_is_named(tmp_path):
    yaml = LONG_YAML.replace("questions:", "respondents: people.csv\nquestions:").replace("weight: w\n", "")
    answers = "id,item,value\na,rain,1\n\nz,rain,1\n"
    problems = check_csv_survey(write(tmp_path, yaml, answers_csv=answers, people_csv="id,country\na,Norland\n"))
    assert ("error", "answers.csv", 4, "id") in found(problems, tmp_path)


BAD_TABLES = [
    ("id,country,w,tea,rain\n,,,,\n", None, None, "all rows are empty"),
    (CSV.replace("country", "Country"), 1, "country", "there is no such column"),
    (CSV.replace("b,Est", "a,Est"), 3, "id", "respondent 'a' is there already in line 2"),
    (CSV.replace("b,Est", ",Est"), 3, "id", "no respondent id"),
    (CSV.replace("Estmark,3", "Estmark,-3"), 3, "w", "the weight '-3' is negative"),
    (CSV.replace("Estmark,3", "Estmark,3kg"), 3, "w", "the weight '3kg' is not a number"),
    (CSV.replace("Estmark,3", "Estmark,nan"), 3, "w", "the weight 'nan' is not a number"),
    (CSV.replace("Estmark,3", "Estmark,"), 3, "w", "there is no weight"),
    ("id,country,w,tea,rain\na,Norland,0,1,1\n", None, "w", "all weights are zero"),
    ("id,country,w,tea,rain\na,Norland,1,1,5\nb,Norland,1,1,5\n", 2, "rain", r"no option with code '5' \(2 answers\)"),
]


@pytest.mark.parametrize(("data", "line", "column", "message"), BAD_TABLES)
def test_each_fault_of_a_table_is_one_error(tmp_path, data, line, column, message):
    path = write(tmp_path, answers_csv=data)
    problems = [p for p in check_csv_survey(path) if p.severity == "error"]
    assert [(p.line, p.column) for p in problems] == [(line, column)], format_problems(problems)
    with pytest.raises(CumaError, match=message):
        read_csv_survey(path)


BAD_YAML = [
    ("id:", "  - broken: [", "is not valid YAML", None),
    ("respondent: id", "respondent: id\nrespondent: x", "key 'respondent' is given twice \\(first in line 4\\)", 5),
    ("weight: w", "wait: w", "unknown key 'wait'", 6),
    ("name: tiny", "layout: tall", "layout is 'tall'", 2),
    ("name: tiny", "name: prism", "`name:` is 'prism', which is a source here", 2),
    ("name: tiny", "encoding: utf-88", "unknown encoding", 2),
    ("name: tiny", "delimiter: ';;'", "the delimiter is ';;'", 2),
    ("answers: answers.csv", "answers: other.csv", "there is no such file", None),
    ("answers: answers.csv", "", "there is no `answers:`", 2),
    ("{country: country}", "", "there is no `profile:`", 2),
    ("{country: country}", "{weight: country}", "cannot be the name of a profile field", 5),
    ("tea: {", "tea: {txt: 1, ", "unknown key 'txt' in question 'tea'", 9),
    ('"Tea or coffee?"', '""', "has no wording", 9),
    ('"Tea or coffee?"', "TODO", "placeholder", 9),
    ("{1: Tea, 2: Coffee}", "{1: Tea}", r"has 1 option\(s\)", 9),
    ("{1: Tea, 2: Coffee}", "{1: Tea, 2: <b>Tea</b>}", "two options have the text 'Tea'", 9),
    ("{1: Tea, 2: Coffee}", "{1: Tea, 1: Coffee}", "key '1' is given twice", 9),
    ("{1: Tea, 2: Coffee}", "{1: Tea, 2: ''}", "option '2' has no text", 9),
    ("{1: Tea, 2: Coffee}", "{1: Tea, 2: Coffee, 4: Water}", "the codes 1, 2, 4 of the scale have a gap", 9),
    ("{1: Tea, 2: Coffee}", "[" + ", ".join(f"O{i}" for i in range(27)) + "]", "has 27 options, but there are 26", 9),
    ("{1: Tea, 2: Coffee}", "{1: Tea, 2: Coffee}, column: rain", "share the column 'rain'", 10),
    ("name: tiny", "respondents: people.csv", "is for layout long", 2),
    ("name: tiny", "name: &b [*b]", "nested", None),
]


@pytest.mark.parametrize(("old", "new", "message", "line"), BAD_YAML)
def test_each_fault_of_the_yaml_is_an_error_with_its_line(tmp_path, old, new, message, line):
    path = write(tmp_path, YAML.replace(old, new))
    if old == "id:":
        path.write_text(YAML + new)
    with pytest.raises(CumaError, match=message):
        read_csv_survey(path)
    lines = [p.line for p in check_csv_survey(path) if p.severity == "error"]
    assert line is None or line in lines, lines


def test_gaps_and_falling_codes_are_fine_where_they_are_meant(tmp_path):
    for options in ("{1: A, 2: B, 4: C}, gaps: true", "{1: A, 2: B, 9: C}, ordered: false", "{3: A, 2: B, 1: C}"):
        problems = check_csv_survey(write(tmp_path, YAML.replace("{1: Tea, 2: Coffee}", options)))
        assert format_problems(problems) == "no problems found"


def test_yaml_that_is_not_utf8_or_missing_is_named(tmp_path):
    path = write(tmp_path)
    path.write_bytes(YAML.encode() + b"# caf\xe9\n")
    assert only(path).line == 11
    path.unlink()
    assert "there is no such file" in only(path).message
    elsewhere = YAML[: YAML.index("questions:")] + "questions: q.yaml"
    assert "there is no such file" in only(write(tmp_path, elsewhere)).message


BAD_LONG = [
    (LONG_CSV + "a,Norland,1,tea,2\n", "error", 5, "id", "has answered 'tea' already in line 2"),
    (LONG_CSV.replace("and,1,rain", "es,1,rain"), "error", 3, "country", "the same respondent has 'Norland'"),
    (LONG_CSV.replace("1,rain", "2,rain"), "error", 3, "w", "the same respondent has '1'"),
    (LONG_CSV + "b,Estmark,2,rian,1\n", "warning", 5, "item", "question 'rian' is not in survey.yaml"),
    (LONG_CSV.replace("rain,2", "rain,3"), "error", 3, "value", "no option with code '3'"),
]


@pytest.mark.parametrize(("data", "severity", "line", "column", "message"), BAD_LONG)
def test_each_fault_of_a_long_table_is_one_problem(tmp_path, data, severity, line, column, message):
    problems = [p for p in check_csv_survey(write(tmp_path, LONG_YAML, answers_csv=data)) if "nobody" not in p.message]
    assert [(p.severity, p.line, p.column) for p in problems] == [(severity, line, column)], format_problems(problems)
    assert message in problems[0].message


def test_lines_are_counted_over_texts_of_several_lines_and_in_parquet(tmp_path):
    data = CSV.replace("a,Norland", 'a,"Nor\nland"').replace("c,Norland,2,,1", "c,Norland,2,,8")
    assert only(write(tmp_path, answers_csv="\n" + data)).line == 6
    pd.read_csv(io.StringIO(CSV.replace(",,1", ",,8"))).to_parquet(tmp_path / "answers.parquet")
    assert only(write(tmp_path, YAML.replace("answers.csv", "answers.parquet"))).line == 3


def test_a_fault_is_told_once_however_often_it_occurs(tmp_path):
    rows = "".join(f"r{i},Norland,1,1,{i % 50 + 1}\n" for i in range(5000))
    problems = check_csv_survey(write(tmp_path, answers_csv="id,country,w,tea,rain\n" + rows))
    assert len(problems) == 3
    assert "44 more unknown codes, 4400 answers" in problems[-1].message
    assert {p.severity for p in check_csv_survey(tmp_path, "skip")} == {"warning"}


def test_warnings_do_not_stop_the_reader(tmp_path):
    rows = "".join(f"r{i},Town {i},{int(i > 0)},1,NA\n" for i in range(20))
    yaml = YAML.replace("{country: country}", "{country: country, age: age}")
    data = "id,country,w,tea,rain,age\n" + rows.replace("\n", ",\n")
    path = write(tmp_path, yaml, answers_csv=data)
    messages = [p.message for p in check_csv_survey(path)]
    assert len(messages) == 4
    for part in ("20 different values", "empty for everybody", "nobody answers question 'rain'", "weight 0"):
        assert any(part in message for message in messages), messages
    assert read_csv_survey(path).num_answers == 19


def test_a_table_without_yaml_gets_one_proposed_that_reads_once_completed(tmp_path):
    rows = "".join(
        f"r{i};{'Nö' if i % 2 else 'Est'}land;{i % 3 + 1};{'yes' if i % 3 else 'no'};{i}\n" for i in range(30)
    )
    (tmp_path / "poll.csv").write_bytes(("id;country;tea;rain;comment\n" + rows).encode("latin-1"))
    (problem,) = check_csv_survey(tmp_path / "poll.csv")
    text = propose_yaml(tmp_path / "poll.csv")
    assert f"propose {tmp_path / 'poll.csv'}` writes one" in problem.hint
    (tmp_path / "survey.yaml").write_text(text)
    assert {"placeholder" in p.message for p in check_csv_survey(tmp_path)} == {True}
    text = text.replace("every TODO", "each")
    for word in ("first", "second", "third", "fourth", "fifth"):
        text = text.replace("TODO", word, 1)
    (tmp_path / "survey.yaml").write_text(text)
    survey = read_csv_survey(tmp_path / "poll.csv")
    assert [q.id for q in survey.questions] == ["tea", "rain"]
    assert survey.questions[1].codes == ("yes", "no")
    assert survey.num_answers == 60


def test_a_table_that_the_yaml_beside_it_does_not_name_is_an_error(tmp_path):
    write(tmp_path)
    (tmp_path / "other.csv").write_text(CSV)
    assert "describes answers.csv, not other.csv" in only(tmp_path / "other.csv").message
