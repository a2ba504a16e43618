"""What a WorldValuesBench checkout says: option texts of recoded questions, names of columns, faults of its files."""

import json
import os
import pathlib

import pytest
from made_up_wvb import (
    ADJUSTMENT,
    CODEBOOK,
    ESSENTIAL,
    REPEATED,
    answers_of,
    make_checkout,
    make_rows,
    write_json,
    write_rows,
)

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.wvs.codebook import FIELDS, build_questions, read_codebook
from cuma_jax.surveys.sources.wvs.wvs7 import read_wvs7

REAL = pathlib.Path(os.environ.get("CUMA_JAX_TEST_WVB", "no checkout"))
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="set CUMA_JAX_TEST_WVB to a WorldValuesBench checkout")


EXPECTED = {
    "Q56": ("Better off", "Or about the same", "Worse off"),
    "Q111": ("Environment", "Growth"),
    "Q119": ("Strongly agree", "Agree", "Hard to say", "Disagree", "Strongly disagree"),
    "Q221": ("Always", "Usually", "Never"),
    "Q222": ("Always", "Usually", "Never"),
    **{q: ("Not essential", *map(str, range(2, 10)), "Essential") for q in ESSENTIAL},
    "Q254": ("Very proud", "Quite proud", "Not very proud", "Not at all proud"),
}


def test_the_15_recoded_questions_show_the_text_that_the_answer_has(tmp_path):
    """The trap of the source: its codebook names the codes before answer_adjustment.json."""
    assert set(EXPECTED) == set(ADJUSTMENT)
    assert len(EXPECTED) == 15
    wvb, raw, _ = make_checkout(tmp_path)
    survey = read_wvs7(raw, wvb)
    options = {q.id: q.options for q in survey.questions}
    assert {q: options[q] for q in EXPECTED} == EXPECTED
    # By the text that a person chose in the raw file, not by codes.
    got = answers_of(survey)
    rows = {row["D_INTERVIEW"]: row for row in make_rows() if row["D_INTERVIEW"] != REPEATED}
    codes = {q.id: q.codes for q in survey.questions}
    for (person, q), code in got.items():
        chosen = CODEBOOK[q]["choices"][rows[person][q]]
        assert options[q][codes[q].index(code)] == chosen.replace("Against", "Not essential")


@needs_real
def test_the_15_recoded_questions_of_the_real_codebook():
    options = {q.id: q.options for q in build_questions(read_codebook(REAL), "label", "adjusted")}
    essential = ("Not an essential characteristic of democracy", *map(str, range(2, 10)),
                 "An essential characteristic of democracy")  # fmt: skip
    growth = {"Q111": ("A: Protect environment", "B: Economic growth")}
    assert {q: options[q] for q in EXPECTED} == EXPECTED | growth | dict.fromkeys(ESSENTIAL, essential)
    assert len(options) == 239


@needs_real
def test_every_demographic_column_has_a_readable_name():
    book = read_codebook(REAL)
    assert set(book.demographics) == set(FIELDS)
    assert len(FIELDS) == len(set(FIELDS.values())) == 42
    assert all(book.readable(c, [text])[0] is None for c in FIELDS for k, text in book.choices(c).items() if int(k) < 0)


def test_gaps_in_a_scale_name_the_codes(tmp_path):
    codebook = json.loads(json.dumps(CODEBOOK))
    del codebook["Q1"]["choices"]["2"], codebook["Q1"]["choices"]["4"]
    wvb = write_json(tmp_path / "wvb", codebook)
    with pytest.raises(CumaError, match=r"codebook\.json: question Q1 has no text for codes 2, 4 of its scale 1\.\.4"):
        read_wvs7(write_rows(tmp_path / "raw.csv", make_rows(10)), wvb)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("codebook", '{"Q1": ', r"codebook\.json is not valid JSON"),
        ("codebook", "[]", r"codebook\.json holds a list, and must hold an object"),
        ("question_metadata", '{"Q1": {"use_case": "value"}}', "not those of WorldValuesBench .*answer_scale_min"),
        ("question_metadata", "{}", "has no value question"),
        ("answer_adjustment", '{"Q1": {"a": "2"}}', "not those of WorldValuesBench"),
    ],
)
def test_json_files_of_another_form_are_one_error(tmp_path, name, text, message):
    wvb, raw, _ = make_checkout(tmp_path)
    (wvb / "dataset_construction" / f"{name}.json").write_text(text)
    with pytest.raises(CumaError, match=message):
        read_wvs7(raw, wvb)
