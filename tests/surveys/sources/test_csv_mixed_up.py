"""Files as other programs write them: spellings, decimal commas, header lines, rounded ids; and proposals for them."""

import gzip
import itertools

import pytest
from test_csv_survey import CSV, YAML, write

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.own.proposal.propose import propose_yaml
from cuma_jax.surveys.sources.own.survey import check_csv_survey, read_csv_survey

LONG = """
name: tiny
layout: long
answers: answers.csv
respondents: people.csv
respondent: id
question: item
answer: value
profile: [country]
questions:
  tea: {text: "Tea or coffee?", options: {1: Tea, 2: Coffee}}
"""


def messages(path):
    return [(p.severity, p.line, p.column, p.message, p.hint) for p in check_csv_survey(path)]


def test_names_and_codes_that_look_alike_are_one(tmp_path):
    yaml = YAML.replace("country: country", "country: pays n\u00e9").replace("{1: Tea, 2: Coffee}", "[x]")
    yaml = yaml.replace("[x]", "{Tr\u00e8s bien: A, Pas  du tout: B}")
    csv = CSV.replace("country", " pays ne\u0301 ").replace(",1,1,", ",1,Tre\u0300s bien,")
    csv = csv.replace(",3,2,", ",3,Pas\u00a0du tout,")
    survey = read_csv_survey(write(tmp_path, yaml, answers_csv=csv))
    assert survey.skipped == {"tea: no answer": 1, "rain: no answer": 1}
    assert survey.option_A.tolist() == [0, 2, 1, 0]


@pytest.mark.parametrize(("people", "answers"), [("7,8", "7.0,8.0"), ("7.0,8.0", "7,8"), ("7,8", "7,0;8,0")])
def test_an_id_with_decimals_is_the_whole_number(tmp_path, people, answers):
    one, two = people.split(",")
    a, b = answers.split(";") if ";" in answers else answers.split(",")
    path = write(
        tmp_path, LONG, people_csv=f"id,country\n{one},A\n{two},B\n",
        answers_csv=f'id,item,value\n"{a}",tea,1\n"{b}",tea,2\n',
    )  # fmt: skip
    survey = read_csv_survey(path)
    assert survey.respondents["respondent_id"].tolist() == [one, two]
    assert survey.option_A.tolist() == [0, 1]
    shared = LONG.replace("respondents: people.csv\n", "")
    path = write(tmp_path, shared, answers_csv="id,country,item,value\n7,A,tea,1\n7.0,A,rain,1\n8,B,tea,2\n")
    assert read_csv_survey(path).respondents["respondent_id"].tolist() == ["7", "8"]


def test_an_id_that_a_spreadsheet_rounded_is_told(tmp_path):
    people, answers = "id,country\n123456789012345678,A\n", "id,item,value\n1.23457E+17,tea,1\n"
    path = write(tmp_path, LONG, people_csv=people, answers_csv=answers)
    assert [m[4][:35] for m in messages(path) if m[0] == "error"] == ["a spreadsheet has rounded such ids:"]


def test_decimal_commas_are_read_and_thousands_are_not_guessed(tmp_path):
    def weights(*texts):
        rows = "".join(f"p{i};Norland;{w};1,0;3\n" for i, w in enumerate(texts))
        return write(tmp_path, YAML + 'delimiter: ";"\n', answers_csv="id;country;w;tea;rain\n" + rows)

    for texts, numbers in ((("0,83", "1,17", "1,00"), [0.83, 1.17, 1]), (("0,833", "1,167"), [0.833, 1.167])):
        assert read_csv_survey(weights(*texts)).respondents["weight"].tolist() == pytest.approx(numbers)
    assert "with a decimal point" in messages(weights("1,234", "2,345"))[0][4]
    assert "not a number" in messages(weights("1.5", "2,5"))[0][3]
    path = write(tmp_path, answers_csv=CSV.replace(",1,1,3", ',1,"1,5",3'))
    assert "decimal comma: save the file with decimal points" in messages(path)[0][4]


QUALTRICS = (
    "id,country,w,tea,rain\nResponse ID,Where?,Weight,Do you like tea?,Rain?\n"
    + ",".join(f'"{{""ImportId"":""QID{n}""}}"' for n in range(5)) + "\n" + CSV.split("\n", 1)[1]
)  # fmt: skip


def test_the_further_header_lines_of_qualtrics_are_skipped_counted_and_proposed_as_wordings(tmp_path):
    survey = read_csv_survey(write(tmp_path, answers_csv=QUALTRICS))
    assert survey.respondents["respondent_id"].tolist() == ["a", "b", "c"]
    assert survey.skipped["answers.csv: further header lines"] == 2
    (found,) = messages(tmp_path / "survey.yaml")
    assert found[:2] == ("warning", 2)
    (tmp_path / "survey.yaml").unlink()
    text = propose_yaml(tmp_path / "answers.csv")
    assert '"Do you like tea?"' in text
    assert "ImportId" not in text
    # Of another program nobody can tell, but `missing:` is no advice for a wording.
    path = write(tmp_path, answers_csv=CSV.replace("a,Norland", "x,Where?,1,Do you like tea?,1\na,Norland", 1))
    assert "if this is a further header line, delete it" in messages(path)[0][4]


def test_a_wording_with_a_point_in_a_header_line_says_nothing_of_decimal_commas(tmp_path):
    data = QUALTRICS.replace(",Weight,", ",Weight (approx.),").replace(",", ";").replace("};{", "},{")
    data = data.replace("land;1;", "land;0,5;")
    survey = read_csv_survey(write(tmp_path, YAML + 'delimiter: ";"\n', answers_csv=data))
    assert survey.respondents["weight"].tolist() == pytest.approx([3 * w / 5.5 for w in (0.5, 3, 2)])


def test_a_column_that_is_a_question_and_a_profile_field_is_told(tmp_path):
    fields = "{country: country, likes: tea, again: country, who: id}"
    path = write(tmp_path, YAML.replace("{country: country}", fields))
    found = [m for m in messages(path) if m[1]]
    assert [m[3] for m in found] == [
        "column 'tea' is question 'tea' and the profile field 'likes'",
        "column 'country' is the profile field 'country' and the profile field 'again'",
        "column 'id' is `respondent:` and the profile field 'who'",
    ]
    assert "the router is told the answer" in found[0][4]


def test_two_spellings_of_a_country_are_told(tmp_path):
    path = write(tmp_path, answers_csv=CSV.replace("Norland", "Britain").replace("Estmark", "Great Britain"))
    assert "'Britain' and 'Great Britain' are one country" in messages(path)[0][3]


def test_the_encoding_that_a_hint_names_is_the_right_one_when_followed(tmp_path):
    data = CSV.replace("Norland", "C\u00f4te d\u2019Ivoire").encode("cp1252")
    assert "say `encoding: cp1252` in" in messages(write(tmp_path, answers_csv=data))[-1][4]
    (wrong,) = messages(write(tmp_path, YAML + "encoding: latin-1\n", answers_csv=data))
    assert wrong[1] == 2
    assert "so the file is not ISO8859-1" in wrong[3]
    assert "say `encoding: cp1252` in" in wrong[4]
    survey = read_csv_survey(write(tmp_path, YAML + "encoding: cp1252\n", answers_csv=gzip.compress(data)))
    assert "C\u00f4te d\u2019Ivoire" in survey.respondents["country"].cat.categories
    (tmp_path / "survey.yaml").unlink()
    assert "\nencoding: cp1252  # a guess" in propose_yaml(tmp_path / "answers.csv")
    (tmp_path / "answers.csv").write_bytes(CSV.replace("Norland", "\u041d\u043e\u0440").encode("cp1251"))
    (tmp_path / "answers.csv.gz").write_bytes(gzip.compress((tmp_path / "answers.csv").read_bytes()))
    for name in ("answers.csv", "answers.csv.gz"):
        with pytest.raises(CumaError, match=r"byte 0xcd .* is not UTF-8 .*save it as UTF-8 with the program"):
            propose_yaml(tmp_path / name)


def test_a_proposal_puts_known_scales_in_order_and_asks_for_that_of_others(tmp_path):
    rows = ["Agree,Red,9", "Disagree,Blue,99", "Strongly agree,Green,1", "Don't know,Red,1", "Strongly disagree,Red,3",
            "I'm not sure,NA,1"]  # fmt: skip
    path = tmp_path / "answers.csv"
    path.write_text("id,country,q1,q2,q3\n" + "".join(f"{i},A,{row}\n" for i, row in enumerate(rows)))
    text = propose_yaml(path)
    places = [text.index(f"      {name}: ") for name in ("Strongly agree", "Agree", "Disagree", "Strongly disagree")]
    assert places == sorted(places)
    assert 'missing: ["", "NA", "99", "Don\'t know", "I\'m not sure"]' in text
    done = text.replace("TODO: the wording", "Why?")
    (tmp_path / "survey.yaml").write_text(done.replace(": TODO\n", ": 'text'\n"))
    problems = [m[3] for m in messages(tmp_path / "survey.yaml") if m[0] == "error"]
    assert any("there is still a placeholder: `ordered:` is 'TODO'" in problem for problem in problems)


def test_a_profile_field_that_is_a_question_in_other_words_is_told(tmp_path):
    rows = "".join(f"p{i},Norland,1,{1 + i % 2},{1 + i % 3},{'yes' if i % 2 else 'no'}\n" for i in range(30))
    yaml = YAML.replace("{country: country}", "{country: country, likes: likes}")
    found = messages(write(tmp_path, yaml, answers_csv="id,country,w,tea,rain,likes\n" + rows))
    assert [m[3] for m in found] == ["profile field 'likes' says the same of everybody as question 'tea'"]


def test_a_yaml_without_end_is_refused_at_once(tmp_path):
    question = 'tea: {text: "Tea?", options: [A, B]}'
    pairs = itertools.pairwise("abcdefghi")
    aliases = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in pairs)
    many = "".join(f"  q{i}: {{text: Why?, options: [A, B]}}\n" for i in range(10_001))
    for yaml, message in (
        (YAML + many, "there are 10,003 questions"),
        (YAML + "#" * 4_000_000, "is larger than 4 MB"),
        (YAML.replace("Tea or coffee?", "<b>x</b>y " * 10_000), "a text of 29,999 characters"),
        (f"{aliases}{YAML}  {question.replace('[A, B]', '*i').replace('tea', 'more')}\n", "option '9' has no text"),
        ("a: " + "[" * 100_000, "is not valid YAML|nested too deeply"),
    ):
        with pytest.raises(CumaError, match=message):
            read_csv_survey(write(tmp_path, yaml))
