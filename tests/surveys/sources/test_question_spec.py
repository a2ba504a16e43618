"""Reversed scales, options beside a scale, several answers and numbers, from the YAML file to the Survey."""

import numpy as np
import pytest
from test_csv_survey import write

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.own.survey import check_csv_survey, read_csv_survey

HEAD = "answers: answers.csv\nrespondent: id\nprofile: {country: country}\nquestions:\n"
CSV = "id,country,q,n,m_1,m_2,l\na,A,1,15,1,,1;2\nb,A,2,30,,1,2\nc,B,3,29.5,,,\nd,B,99,71,yes,,1\n"


def survey(folder, *questions, csv=CSV):
    return read_csv_survey(write(folder, HEAD + "".join(f"  {q}\n" for q in questions), answers_csv=csv))


def answers(survey, question=0):
    """Respondent id -> text of the option."""
    mask = survey.question_A == question
    ids = survey.respondents["respondent_id"].to_numpy()[survey.respondent_A[mask]]
    options = np.array(survey.questions[question].options)[survey.option_A[mask]]
    return dict(zip(ids.tolist(), options.tolist(), strict=True))


def test_a_reversed_scale_has_its_options_turned_and_the_same_answers(tmp_path):
    plain = "q: {text: Q, options: {1: Low, 2: Middle, 3: High}, missing: [99]}"
    there = survey(tmp_path, plain)
    turned = survey(tmp_path, plain.replace("text: Q", "text: Q, reverse: true"))
    assert turned.questions[0].options == ("High", "Middle", "Low")
    assert turned.questions[0].codes == ("3", "2", "1")
    assert answers(turned) == answers(there) == {"a": "Low", "b": "Middle", "c": "High"}


def test_an_option_beside_the_scale_is_left_out_and_counted_as_such(tmp_path):
    found = survey(tmp_path, "q: {text: Q, options: {1: Low, 2: Middle, 3: High, 99: It depends}, not_on_scale: [99]}")
    assert found.questions[0].options == ("Low", "Middle", "High")
    assert answers(found) == {"a": "Low", "b": "Middle", "c": "High"}
    assert found.skipped["q: not on the scale"] == 1
    assert "q: no answer" not in found.skipped


def test_numbers_are_put_into_bins_of_one_text_each(tmp_path):
    found = survey(tmp_path, "n: {text: How old are you?, bins: [18, 30, 60]}")
    assert found.questions[0].options == ("under 18", "18-29", "30-59", "60 and over")
    assert answers(found) == {"a": "under 18", "b": "30-59", "c": "18-29", "d": "60 and over"}
    found = survey(tmp_path, "n: {text: Age?, bins: [30], options: [Young, Old], reverse: true}")
    assert found.questions[0].options == ("Old", "Young")
    assert answers(found) == {"a": "Young", "b": "Old", "c": "Young", "d": "Old"}


def test_several_answers_are_one_yes_no_question_an_option(tmp_path):
    found = survey(tmp_path, "m: {text: Which?, multiple: true, columns: {m_1: Tea, m_2: Milk}}")
    assert [(q.id, q.text, q.options) for q in found.questions] == [
        ("m.1", "Which? Tea", ("Yes", "No")),
        ("m.2", "Which? Milk", ("Yes", "No")),
    ]
    # Nothing in a column is no where another of the question is filled; else it is no answer.
    assert answers(found, 0) == {"a": "Yes", "b": "No", "d": "Yes"}
    assert answers(found, 1) == {"a": "No", "b": "Yes", "d": "No"}
    # Where a column says no, nothing in it is no answer.
    found = survey(tmp_path, "m: {text: Which?, multiple: true, columns: {m_1: Tea, m_2: Milk}}",
                   csv=CSV.replace("a,A,1,15,1,,", "a,A,1,15,1,0,"))  # fmt: skip
    assert answers(found, 1) == {"a": "No", "b": "Yes"}


@pytest.mark.parametrize("separator", [";", ",", " | "])
def test_a_list_of_what_was_chosen_gives_the_same_questions(tmp_path, separator):
    csv = CSV.replace("1;2", f'"{separator.join("12")}"')
    found = survey(tmp_path, "l: {text: Which?, multiple: true, options: {1: Tea, 2: Milk, 3: Salt}}", csv=csv)
    assert [q.id for q in found.questions] == ["l.1", "l.2", "l.3"]
    assert [answers(found, q) for q in range(3)] == [
        {"a": "Yes", "b": "No", "d": "Yes"}, {"a": "Yes", "b": "Yes", "d": "No"}, {"a": "No", "b": "No", "d": "No"},
    ]  # fmt: skip


BAD = {
    "n: {text: N, bins: [30, 18]}": "`bins:` must be rising numbers",
    "n: {text: N, bins: [18], options: [A, B, C]}": "3 options for 2 bins",
    "q: {text: Q, bins: [18], missing: [1, 2, 3]}": "",
    "country: {text: N, bins: [18]}": "no option with code 'A' .*it is no number",
    "m: {text: M, multiple: true}": "has no options",
    "q: {text: Q, columns: {m_1: A}, options: {1: A, 2: B}}": "say `multiple: true` as well",
    "m: {text: M, multiple: true, reverse: true, columns: {m_1: A}}": "`multiple: true` and `reverse:`",
    "m: {text: M, multiple: true, columns: {m_9: A}}": "there is no such column",
    "m: {text: M, multiple: true, columns: {q: A}}": "no option with code '2'.* an option of `multiple:` is 1 or 0",
    "l: {text: M, multiple: true, options: {1: A}}": "the options are 1, with , ; or",
    "q: {text: Q, ordered: false, reverse: true, options: {1: A, 2: B}}": "what has no order has no other",
}


@pytest.mark.parametrize("question", BAD)
def test_what_cannot_be_meant_is_an_error(tmp_path, question):
    if not BAD[question]:
        assert survey(tmp_path, question).num_answers == 1
        return
    with pytest.raises(CumaError, match=BAD[question]):
        survey(tmp_path, question)


def test_several_answers_in_a_long_table_are_refused(tmp_path):
    head = "answers: answers.csv\nlayout: long\nrespondent: id\nquestion: i\nanswer: v\nprofile: {c: c}\nquestions:\n"
    path = write(
        tmp_path, head + "  m: {text: M, multiple: true, options: {1: A}}\n", answers_csv="id,i,v,c\na,m,1,x\n"
    )
    assert any("`multiple:` in a long table" in p.message for p in check_csv_survey(path))
