"""What is proposed for a table: with complete labels nothing is left to do; what only a person can know is a TODO."""

import pathlib

import invented_exports
import numpy as np
import pandas as pd
import pyreadstat
import pytest

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.own.proposal.propose import propose, propose_yaml, write_proposal
from cuma_jax.surveys.sources.own.survey import check_csv_survey, read_csv_survey
from cuma_jax.tables.problems import format_problems


def sav(folder, frame, labels=None, values=None, **options):
    path = folder / "a.sav"
    values = {name: {float(c): t for c, t in texts.items()} for name, texts in (values or {}).items()}
    pyreadstat.write_sav(pd.DataFrame(frame), path, column_labels=labels or {}, variable_value_labels=values, **options)
    return path


def read(path):
    """The survey of the proposal for the table at `path`, without an edit."""
    proposal = write_proposal(path, overwrite=True)
    assert not proposal.todos, proposal.in_one()
    problems = [p for p in check_csv_survey(path) if p.severity == "error"]
    assert not problems, format_problems(problems)
    return read_csv_survey(path)


def contents(survey):
    """Everything that training sees of a survey, whatever its codes."""
    people = survey.respondents.sort_values("respondent_id", ignore_index=True).astype(str)
    ids = survey.respondents["respondent_id"].to_numpy()[survey.respondent_A]
    answers = {
        (str(i), survey.questions[q].id, survey.questions[q].options[o])
        for i, q, o in zip(ids, survey.question_A, survey.option_A, strict=True)
    }
    questions = [(q.id, q.text, q.options, q.ordered) for q in survey.questions]
    counts = {reason: n for reason, n in survey.skipped.items() if "header lines" not in reason}
    return people.to_dict("list"), survey.profile_fields, answers, questions, counts


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return contents(read(invented_exports.spss(tmp_path_factory.mktemp("spss"))))


def test_one_survey_s_exports_of_three_programs_are_the_same_survey(tmp_path, expected):
    people, fields, answers, questions, counts = expected
    assert fields == ("country", "sex", "age", "education")
    assert len(people["respondent_id"]) == invented_exports.NUM
    assert [q[0] for q in questions] == [*invented_exports.QUESTIONS, "media.1", "media.2", "media.3"]
    assert counts["trust: no answer"] > 30
    assert contents(read(invented_exports.qualtrics(tmp_path))) == expected
    assert contents(read(invented_exports.limesurvey(tmp_path / "lime"))) == expected
    # And all that was drawn is there.
    table = invented_exports.persons().set_index("id")
    there = {(i, name): option for i, name, option in answers if name in invented_exports.QUESTIONS}
    for name, (_, options) in invented_exports.QUESTIONS.items():
        known = table[name][table[name] >= 0]
        assert {i: there[i, name] for i in known.index} == {i: options[code] for i, code in known.items()}


@pytest.mark.parametrize(
    ("encoding", "delimiter"), [("cp1252", ";"), ("utf-16", ","), ("utf-8-sig", "\t"), ("utf-16-le", ";")]
)
def test_an_export_is_the_same_survey_however_it_is_encoded_and_separated(tmp_path, expected, encoding, delimiter):
    path = invented_exports.qualtrics(tmp_path, encoding, delimiter)
    assert contents(read(path)) == expected
    said = (tmp_path / "survey.yaml").read_text(encoding="utf-8")
    assert ("encoding: cp1252  # a guess" in said) == (encoding == "cp1252")


def test_a_sep_line_and_decimal_commas_of_a_spreadsheet_are_read(tmp_path, expected):
    path = invented_exports.qualtrics(tmp_path, delimiter=";")
    frame = pd.read_csv(path, sep=";", dtype=str, keep_default_na=False)
    frame["weight"] = frame["weight"].str.replace(".", ",")
    text = frame.to_csv(index=False, sep=";")
    path.write_text("sep=;\n" + text, encoding="utf-8")
    assert contents(read(path)) == expected
    # The line of a fault is the file's own.
    path.write_text("sep=;\n" + text.replace("Not very much", "Notmuch", 1), encoding="utf-8")
    (problem,) = [p for p in check_csv_survey(path) if p.severity == "error"]
    lines = path.read_text(encoding="utf-8").split("\n")
    assert "Notmuch" in lines[problem.line - 1]


def test_a_workbook_is_the_survey_that_its_csv_is(tmp_path, expected):
    frame = pd.read_csv(invented_exports.qualtrics(tmp_path), dtype=str, keep_default_na=False)
    frame = frame.iloc[2:].rename(columns={"trust": "trust\u00a0"})
    for name in ("xlsx", "ods"):
        folder = tmp_path / name
        folder.mkdir()
        frame.head(40).to_excel(folder / f"a.{name}", index=False, engine={"xlsx": "openpyxl", "ods": "odf"}[name])
        text = propose(folder / f"a.{name}").in_one()
        for question in invented_exports.QUESTIONS:
            text = text.replace(f'{question}:\n    text: "TODO: the wording"', f"{question}:\n    text: {question}")
        (folder / "survey.yaml").write_text(text.replace("TODO: the wording", "Which?"), encoding="utf-8")
        people, _, answers, _, _ = contents(read_csv_survey(folder))
        ids = set(people["respondent_id"])
        assert len(ids) == 40
        assert answers == {entry for entry in expected[2] if entry[0] in ids}


def test_codes_of_redcap_have_todos_and_are_read_once_completed(tmp_path, expected):
    path = invented_exports.redcap(tmp_path)
    text = propose_yaml(path)
    assert 'media___1: "TODO: the option\'s text"' in text
    assert "left out: poll_complete" in text
    assert 'missing: ["", "99"]' in text
    (tmp_path / "survey.yaml").write_text(text)
    assert {"placeholder" in p.message for p in check_csv_survey(path) if p.severity == "error"} == {True}
    number = iter(range(1000))
    lines = [line.replace("TODO", f"text {next(number)}") if "TODO" in line else line for line in text.splitlines()]
    (tmp_path / "survey.yaml").write_text("\n".join(lines))
    assert read_csv_survey(path).num_answers == len(expected[2])


NAMES = {
    "cntry": "country", "Land": "country", "Pa\u00eds": "country", "gndr": "sex", "Geschlecht": "sex",
    "SEXO": "sex",
    "agea": "age", "alter": "age", "Edad": "age", "EDU_T": "education", "eisced": "education",
    "bundesland": "region", "domicil": "settlement", "maritalb": "marital_status", "Estado civil": "marital_status",
    "emplstat": "employment", "hinctnta": "income", "Einkommen": "income", "rlgdnm": "religion", "ethnie": "ethnicity",
    "Escolaridad": "education",
}  # fmt: skip
LABELS = {
    "Respondent's sex": "sex", "Q101. Gender of respondent": "sex", "What is your gender?": "sex",
    "Age of respondent, calculated": "age", "How old are you?": "age", "Wie alt sind Sie?": "age",
    "Highest level of education, ES - ISCED": "education", "Educational attainment": "education",
    "Urban or Rural Primary Sampling Unit": "settlement", "Size of town where interview was conducted": "settlement",
    "Domicile, respondent's description": "settlement", "Household's total net income, all sources": "income",
    "Legal marital status": "marital_status", "Religion or denomination belonging to at present": "religion",
    "Highest educational level: Respondent [ISCED 2011]": "education", "Scale of incomes": "income",
    "Religious denominations - major groups": "religion", "Settlement size_8 groups": "settlement",
    "Age recoded (6 intervals)": "age", "AGE EXACT": "age", "COUNTRY CODE - ISO 3166": "country",
    "r's highest degree": "education", "race of respondent": "ethnicity", "labor force status": "employment",
    "Urban-Rural": "settlement", "Sex of respondent": "sex", "Age at first marriage": None,
    "Importance of religion": None, "Interviewer's age": None, "Father's highest level of education": None,
    "State of the economy": None, "How much do you trust your country?": None, "Sex education in schools": None,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_profile_fields_are_known_by_their_usual_names(tmp_path, name):
    frame = {"id": range(12), name: ["a", "b", "c"] * 4, "q1": ["Agree", "Disagree"] * 6}
    if NAMES[name] == "age":
        frame[name] = list(range(20, 32))
    pd.DataFrame(frame).to_csv(tmp_path / "a.csv", index=False)
    text = propose(tmp_path / "a.csv").survey
    assert f"\n  {NAMES[name]}: " in text, text


@pytest.mark.parametrize("label", LABELS)
def test_profile_fields_are_known_by_their_labels_and_others_are_not(tmp_path, label):
    values = {"v1": {1: "a", 2: "b"}, "q1": {1: "Agree", 2: "Disagree"}}
    path = sav(tmp_path, {"id": range(1, 9), "v1": [1, 2] * 4, "q1": [1, 2] * 4}, {"v1": label}, values)
    text = propose(path).survey
    field = LABELS[label]
    assert (f"\n  {field}: {{column: v1" in text) if field else ("column: v1" not in text), text


def test_weights_units_and_several_weights_are_told_apart(tmp_path):
    rng = np.random.default_rng(0)
    frame = {"caseid": range(1, 41), "wt_across": rng.random(40), "dweight": rng.random(40),
             "pspwght": rng.random(40), "psu": range(40),
             "stratum": [1, 2] * 20, "country": [1, 2] * 20, "q1": [1, 2] * 20, "weightloss": [1, 2] * 20}  # fmt: skip
    labels = {"wt_across": "Across country weight", "q1": "Q", "weightloss": "Do you want to lose weight?"}
    values = {name: {1: "Yes", 2: "No"} for name in ("q1", "weightloss")} | {"country": {1: "A", 2: "B"}}
    proposal = propose(sav(tmp_path, frame, labels, values))
    for line in ("respondent: caseid", "weight: pspwght", "psu: psu", "stratum: stratum"):
        assert f"\n{line}  # " in proposal.survey
    for name in ("wt_across", "dweight"):
        assert f"# left out: {name}: another weight" in proposal.questions
    assert "weightloss:" in proposal.questions


def test_what_is_no_answer_is_listed_with_its_text(tmp_path):
    values = {
        "q1": {1: "Agree", 2: "Disagree", 7: "Not asked in Norland", 8: "Wei\u00df nicht", 9: "Refused", 98: "NSP"}
    }
    frame = {"id": [1, 2, 3, 4], "country": ["a", "b", "a", "b"], "q1": [1, 2, 7, 55]}
    path = sav(tmp_path, frame, {"q1": "Q"}, values, missing_ranges={"q1": [{"lo": 50, "hi": 60}]})
    text = propose(path).questions
    said = "Not asked in Norland, Wei\u00df nicht, Refused, NSP, declared missing"
    assert f'  missing: ["7", "8", "9", "98", "55"]  # {said}' in text
    survey = read(path)
    assert survey.questions[0].codes == ("1", "2")
    assert survey.skipped["q1: no answer"] == 2


def test_labels_of_codes_keep_their_order_and_a_middle_goes_into_the_middle(tmp_path):
    values = {
        "q1": {1: "Agree", 2: "Disagree", 3: "Neither agree nor disagree"},
        "q2": {1: "Tea", 2: "Milk", 3: "Other"},
        "q3": {1: "Beets", 2: "Corn", 3: "Oats"},
        "q4": {1: "Agree very strongly with 1", 2: "Agree with 1", 3: "Agree with 2", 4: "Agree very strongly with 2",
               5: "Agree with neither"},
        "q5": {0: "Not at all", 10: "Completely"},
        "q6": {1: "Never", 2: "Always", 3: "Sometimes"},
    }  # fmt: skip
    frame = {"id": [1.0, 2.0, 3.0], "country": ["a", "b", "a"]} | {name: [1.0, 2.0, 3.0] for name in values}
    path = sav(tmp_path, frame, {name: f"Wording {name}" for name in values}, values)
    proposal = write_proposal(path)
    assert proposal.todos == 1
    assert 'q6:\n  text: "Wording q6"\n  ordered: TODO  # the codes tell another order' in proposal.questions
    (problem,) = [p for p in check_csv_survey(path) if p.severity == "error"]
    assert "`ordered:` is 'TODO'" in problem.message
    file = tmp_path / "questions.yaml"
    file.write_text(file.read_text().replace("ordered: TODO", "ordered: false"))
    found = {q.id: q for q in read_csv_survey(path).questions}
    assert found["q1"].codes == ("1", "3", "2")
    assert (found["q2"].ordered, found["q3"].ordered) == (False, True)
    assert found["q4"].codes == ("1", "2", "5", "3", "4")
    assert found["q5"].options == ("Not at all", *map(str, range(1, 10)), "Completely")
    assert "no scale that is known" in proposal.questions


def test_codes_without_a_label_and_labels_that_are_there_twice_are_todos(tmp_path):
    values = {"q1": {1: "Agree", 2: "Disagree"}, "q2": {1: "Agree", 2: "Agree", 3: "Disagree"}}
    frame = {"id": [1.0, 2.0, 3.0], "country": ["a", "b", "a"], "q1": [1.0, 2.0, 7.0], "q2": [1.0, 2.0, 3.0]}
    path = sav(tmp_path, frame, {"q1": "Q", "q2": "R"}, values)
    proposal = write_proposal(path)
    assert "TODO: what 7 means (1 answers), or list it under missing" in proposal.questions
    assert proposal.questions.count("TODO: several codes are 'Agree'") == 2
    assert sum("placeholder" in p.message for p in check_csv_survey(path)) == 3


def test_numbers_open_text_and_what_was_recorded_are_left_out_with_a_reason(tmp_path):
    frame = {"id": range(1, 41), "country": ["a", "b"] * 20, "q1": [1, 2] * 20, "n": range(40),
             "say": [f"words of {n}" for n in range(40)], "iv": [1, 2] * 20, "one": [1] * 40}  # fmt: skip
    labels = {"q1": "Q", "n": "Number of cattle", "iv": "Interviewer's gender", "one": "Consent"}
    values = {name: {1: "Yes", 2: "No"} for name in ("q1", "iv")} | {"one": {1: "I agree"}}
    text = propose(sav(tmp_path, frame, labels, values)).questions
    for line in ("n: 40 different numbers without labels: to ask it, give it `bins:`", "say: open text",
                 "iv: recorded of the interview, not answered", "one: one answer only"):  # fmt: skip
        assert f"# left out: {line}" in text


@pytest.mark.slow
def test_three_thousand_variables_are_proposed_and_read(tmp_path):
    names = [f"v{n}" for n in range(3000)]
    codes = np.tile([1.0, 2.0], (3000, 15))
    frame = {"id": [f"p{n}" for n in range(30)], "country": ["a", "b", "c"] * 10} | dict(zip(names, codes, strict=True))
    path = sav(tmp_path, frame, {n: f"Wording {n}" for n in names}, {n: {1: "Agree", 2: "Disagree"} for n in names})
    assert len(read(path).questions) == 3000


def test_nothing_is_overwritten_or_half_written(tmp_path):
    path = invented_exports.spss(tmp_path)
    (tmp_path / "questions.yaml").write_text("mine")
    with pytest.raises(CumaError, match=r"questions.yaml would be overwritten; say --overwrite"):
        write_proposal(path)
    assert not (tmp_path / "survey.yaml").exists()
    write_proposal(path, tmp_path / "else")
    assert read_csv_survey(tmp_path / "else").num_answers > 0
    write_proposal(path, overwrite=True)
    assert (tmp_path / "questions.yaml").read_text() != "mine"
    (tmp_path / "bad.sav").write_bytes(b"<html>")
    with pytest.raises(CumaError, match="a web page"):
        write_proposal(tmp_path / "bad.sav", tmp_path / "third")
    assert not pathlib.Path(tmp_path / "third").exists()


def test_ticks_with_labels_are_a_block_and_answers_of_two_codes_are_questions(tmp_path):
    frame = {"id": ["a", "b", "c", "d"], "country": ["x", "y"] * 2} | {
        "m_1": [1.0, 0.0, 1.0, 9.0], "m_2": [0.0, 0.0, 1.0, 9.0],
        "n_1": [1.0, 2.0, 1.0, 2.0], "n_2": [2.0, 2.0, 1.0, 1.0],
        "y_1": [1.0, 0.0, 1.0, 0.0], "y_2": [0.0, 0.0, 1.0, 1.0],
    }  # fmt: skip
    labels = {
        "m_1": "Which? - Tea",
        "m_2": "Which? - Milk",
        "n_1": "Radio",
        "n_2": "News",
        "y_1": "Tea?",
        "y_2": "Salt?",
    }
    ticks, two = {0: "Not mentioned", 1: "Mentioned", 9: "Don't know"}, {1: "Mentioned", 2: "Not mentioned"}
    values = {
        "m_1": ticks,
        "m_2": ticks,
        "n_1": two,
        "n_2": two,
        "y_1": {0: "No", 1: "Yes"},
        "y_2": {0: "No", 1: "Yes"},
    }
    survey = read(sav(tmp_path, frame, labels, values))
    assert [q.id for q in survey.questions] == ["m.1", "m.2", "n_1", "n_2", "y_1", "y_2"]
    assert [(q.text, q.options) for q in survey.questions[:3]] == [
        ("Which? Tea", ("Yes", "No")), ("Which? Milk", ("Yes", "No")), ("Radio", ("Mentioned", "Not mentioned")),
    ]  # fmt: skip
    assert survey.option_A[survey.question_A == 0].tolist() == [0, 1, 0]
    assert survey.skipped["m.1: no answer"] == 1
