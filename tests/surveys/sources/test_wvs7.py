"""The raw csv of World Values Survey wave 7, on invented rows of its schema."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_wvb import (
    CODEBOOK,
    COLUMNS,
    DEMOGRAPHICS,
    REPEATED,
    VALUES,
    answers_of,
    assert_is,
    make_checkout,
    make_rows,
    official,
    write_json,
    write_rows,
)
from same import same_survey

from cuma_jax.config import DataConfig
from cuma_jax.config.checks import SPLITS
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import build_profiles, profile_text
from cuma_jax.surveys.sources.wvs.codebook import FIELDS, PAPER_FIELDS
from cuma_jax.surveys.sources.wvs.wvb import prepare as prepare_wvb
from cuma_jax.surveys.sources.wvs.wvb import read_wvb
from cuma_jax.surveys.sources.wvs.wvs7 import prepare, read_wvs7


def test_it_equals_the_official_tables_cell_by_cell_and_so_does_wvb(tmp_path):
    wvb, raw, made = make_checkout(tmp_path)
    survey = read_wvs7(raw, wvb)
    assert_is(survey, made)
    assert survey.skipped[f"interview {REPEATED}, which stands for several people"] == 3
    assert survey.skipped["no answer recorded"] == len(made) * len(VALUES) - survey.num_answers
    other = read_wvb(wvb, raw)
    same_survey(dataclasses.replace(survey, name=other.name), other)
    assert {k: n for k, n in survey.skipped.items() if REPEATED not in k} == other.skipped
    assert (np.diff(survey.question_A) >= 0).all()


def test_other_columns_in_another_order_give_the_same(tmp_path):
    wvb, raw, _ = make_checkout(tmp_path)
    rows = [{**row, "new": "\u00e9", "Q1": f"{row['Q1']}.0" if row["Q1"] else "NA"} for row in make_rows()]
    newer = write_rows(tmp_path / "v6.csv", rows, ("new", *reversed(COLUMNS)))
    same_survey(read_wvs7(raw, wvb), read_wvs7(newer, wvb))


def test_weights_strata_and_sampling_units_are_kept(tmp_path):
    wvb, raw, _ = make_checkout(tmp_path)
    people = read_wvs7(raw, wvb).respondents.set_index("respondent_id")
    for row in make_rows():
        if row["D_INTERVIEW"] == REPEATED:
            continue
        person, region = people.loc[row["D_INTERVIEW"]], row["N_REGION_WVS"]
        assert person["weight"] == float(row["W_WEIGHT"])
        assert person["stratum"] == row["B_COUNTRY"] + ("" if region == "-1" else f":{region}")
        assert (person["psu"] if isinstance(person["psu"], str) else "-4") == row["I_PSU"]
    bare = read_wvs7(write_rows(raw, make_rows(), COLUMNS[:-3]), wvb).respondents
    assert (bare["weight"] == 1).all()
    assert not {"psu", "stratum"} & set(bare)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["1", "-0.5"], r"raw\.csv, line 3 \(interview 901000406\): column W_WEIGHT has '-0\.5', .*zero or more"),
        (["1", ""], "W_WEIGHT has nothing"),
        (["1", "heavy"], "W_WEIGHT has 'heavy'"),
        (["0", "0"], r"all weights \(W_WEIGHT\) are zero"),
    ],
)
def test_worthless_weights_are_one_error(tmp_path, weights, message):
    rows = [row for row in make_rows(20) if row["D_INTERVIEW"] != REPEATED]
    for i, row in enumerate(rows):
        row |= {"W_WEIGHT": weights[i % 2], "D_INTERVIEW": str(901_000_405 + i)}
    wvb, raw = write_json(tmp_path / "wvb"), write_rows(tmp_path / "raw.csv", rows)
    with pytest.raises(CumaError, match=message):
        read_wvs7(raw, wvb)
    if weights[0] == "1":
        assert read_wvs7(raw, wvb, bad_rows="skip").skipped["respondent without a weight"] == len(rows) // 2


def test_reference_pairs_answers_and_texts_as_the_official_pipeline(tmp_path):
    """All choices from code 0 on, in order; the recoded answer looked up among them, and dropped if not there."""
    wvb, raw, made = make_checkout(tmp_path)
    survey = read_wvs7(raw, wvb, option_texts="reference")
    for question in survey.questions:
        texts = CODEBOOK[question.id]["choices"]
        want = sorted((int(code), text) for code, text in texts.items() if int(code) >= 0)
        assert [*zip(map(int, question.codes), question.options, strict=True)] == want
    kept = {(r["D_INTERVIEW"], q): r[q] for r in made for q in VALUES if r[q] and (q, r[q]) != ("Q119", "5")}
    assert answers_of(survey) == kept
    dropped = sum(row["Q119"] == "5" for row in made)
    reason = "Q119: answer whose code the codebook has no text for (option_texts reference)"
    assert dropped > 0
    assert survey.skipped[reason] == dropped
    assert survey.questions[0].text == "Label of Q1"
    assert read_wvs7(raw, wvb, wording="natural").questions[0].text == "On a scale, Q1?"


def test_fields_are_readable_and_missing_codes_are_missing(tmp_path):
    wvb, raw, _ = make_checkout(tmp_path)
    survey = read_wvs7(raw, wvb)
    assert survey.profile_fields == tuple(PAPER_FIELDS.values())
    people = survey.respondents
    # 77 is a code that the codebook lacks: no word of a profile, but what the official tables have.
    for column, words in {"Q290": {"Blue", "Green"}, "Q275": {"Bachelor", "No education"},
                          "Q288": {"Lower step", "Second step"}}.items():  # fmt: skip
        lost = people[column] == "77"
        assert set(people[FIELDS[column]].cat.categories) == words
        assert people[FIELDS[column]][lost].isna().all()
        reason = f"{column}: code that the codebook lacks (the field {FIELDS[column]} is missing)"
        assert survey.skipped[reason] == lost.sum() > 0
    assert "77" in people["year"].cat.categories  # of years the code is the word
    assert "Don't know" in set(people["Q260"].cat.categories)
    for column in DEMOGRAPHICS:
        assert isinstance(people[column].dtype, pd.CategoricalDtype)
        assert not {"Don't know", "No answer"} & set(people[FIELDS[column]].cat.categories)
    assert build_profiles(survey, ("urban_rural", "A_YEAR")).fields == ("urban_rural", "A_YEAR")


def test_the_reference_sentence_has_the_official_texts(tmp_path):
    wvb, raw, made = make_checkout(tmp_path)
    survey = read_wvs7(raw, wvb)
    profiles = build_profiles(survey, sentence="reference")
    by_id = {row["D_INTERVIEW"]: row for row in made}
    for person, row in zip(survey.respondents["respondent_id"], profiles.profile_R, strict=True):
        texts = {c: "nan" if by_id[person][c] in ("", "None") else by_id[person][c] for c in PAPER_FIELDS}
        age = texts["X003R"].replace(" years", " years old")
        assert profile_text(profiles, row) == (
            f"You are a person from {texts['B_COUNTRY']}, age group: {age}, gender: {texts['Q260']}, education: "
            f"{texts['Q275']}, marital status: {texts['Q273']}, religion: {texts['Q289']}, ethnicity: {texts['Q290']}, "
            f"employment: {texts['Q279']}."
        )


def test_probe_samples_are_a_split_of_their_own(tmp_path):
    wvb, raw, made = make_checkout(tmp_path)
    valid = [row for row in made if row["split"] == "valid"]
    answered = next(row for row in valid if row["Q1"])
    silent = next((q, row) for row in valid for q in VALUES if not row[q])
    elsewhere = next(row for row in made if row["split"] == "train" and row["Q1"])
    pairs = [("Q1", answered), silent, ("Q1", elsewhere)]
    (wvb / "WorldValuesBench" / "probe").mkdir(parents=True)
    lines = ["Question\tContinent\tD_INTERVIEW", *(f"{q}\tNone\t{row['D_INTERVIEW']}" for q, row in pairs)]
    (wvb / "WorldValuesBench" / "probe" / "samples.tsv").write_text("\n".join(lines))
    for survey in (read_wvs7(raw, wvb), read_wvb(wvb)):
        assert survey.skipped["probe sample whose respondent is not in the valid split"] == 1
        assert survey.skipped["probe sample without an answer"] == 1
        names = {"train": "train", "valid": "validation", "test": "test"}
        ids, split_of = survey.respondents["respondent_id"], {row["D_INTERVIEW"]: row["split"] for row in made}
        for a in range(survey.num_answers):
            person, q = ids[survey.respondent_A[a]], survey.questions[survey.question_A[a]].id
            probe = (person, q) == (answered["D_INTERVIEW"], "Q1")
            assert SPLITS[survey.official_A[a]] == ("probe" if probe else names[split_of[person]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.replace(b"Q56", b"Q5six").replace(b"Q260", b"Q26"), "lacks columns Q260, Q56; did .* download"),
        (lambda d: d[:-50], r"line 61: \d+ columns, but the header has 35"),
        (lambda d: d.replace(b"901000420", b"901000392"), r"1 interview ids .* e\.g\. 901000392 2 times"),
        (lambda d: d.replace(b"version", b"Q1"), "column 'Q1': the header has this column twice"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_clear_error(tmp_path, change, message):
    wvb, raw, _ = make_checkout(tmp_path)
    raw.write_bytes(change(raw.read_bytes()))
    with pytest.raises(CumaError, match=message):
        read_wvs7(raw, wvb)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("Q1", "7", r"raw\.csv, line 6 \(interview 901000392\): column Q1 has '7', which is off its scale 1\.\.4"),
        ("Q254", "6", r"column Q254 has '6', which is off its scale 1\.\.4"),
        ("Q1", "many", r"line 6 \(interview 901000392\): column Q1 has 'many', which is not a whole number"),
        ("Q260", "1.5", r"line 6 \(interview 901000392\): column Q260 has '1\.5', which is not a whole number"),
        ("D_INTERVIEW", "x", r"line 6: column D_INTERVIEW has 'x'"),
        ("D_INTERVIEW", "", r"line 6.*: column D_INTERVIEW has nothing, which is no interview id"),
    ],
)
def test_a_bad_cell_is_an_error_or_a_counted_skip(tmp_path, column, value, message):
    rows = make_rows()
    assert rows[4]["D_INTERVIEW"] == "901000392"
    rows[4][column] = value
    wvb, raw = write_json(tmp_path / "wvb"), write_rows(tmp_path / "raw.csv", rows)
    # A blank line and a quoted line break before it: the line is the file's.
    first, second, rest = raw.read_text().split("\n", 2)
    with raw.open("w", newline="") as out:
        out.write(f"{first}\n{second}\n{rest}".replace("\r", ""))
    with pytest.raises(CumaError, match=message):
        read_wvs7(raw, wvb)
    survey = read_wvs7(raw, wvb, bad_rows="skip")
    assert sum(n for reason, n in survey.skipped.items() if reason.startswith(f"{column}: value")) == 1
    if column == "D_INTERVIEW":  # the row is gone, but counts in the shuffle
        rows[4][column] = "1"
        assert_is(survey, [row for row in official(rows) if row["D_INTERVIEW"] != "1"])
    else:
        rows[4][column] = ""
        assert_is(survey, official(rows))


def test_the_key_is_of_contents(tmp_path):
    wvb, raw, _ = make_checkout(tmp_path)
    data = DataConfig(source="wvs7", raw=str(raw), wvb=str(wvb))
    key, tables_key = prepare(data)[0], prepare_wvb(data)[0]
    table = wvb / "WorldValuesBench" / "test" / "test_value_qa.tsv"
    table.write_bytes(table.read_bytes() + b"\n")
    assert tables_key != prepare_wvb(data)[0] != prepare_wvb(dataclasses.replace(data, raw=""))[0]
    moved = raw.rename(tmp_path / "other.csv")
    other = dataclasses.replace(data, raw=str(moved))
    assert prepare(other)[0] == key
    moved.write_bytes(moved.read_bytes() + b"\n")
    assert prepare(other)[0] != key
    with pytest.raises(CumaError, match=r"raw\.csv: there is no such file"):
        prepare(data)


CELL = st.one_of(
    st.integers(-5, 11).map(str), st.sampled_from(["", "1.0", "2e0", "NA", "x", "1.5", "\u00e9", '"', "1e99"])
)


@settings(max_examples=25, deadline=None)
@given(
    cells=st.lists(st.tuples(st.integers(0, 11), st.sampled_from([*DEMOGRAPHICS, *VALUES]), CELL), max_size=4),
    people=st.integers(1, 12),
    seed=st.integers(0, 5),
)
def test_any_small_file_is_refused_or_read_as_the_slow_twin_does(tmp_path_factory, cells, people, seed):
    folder = tmp_path_factory.mktemp("fuzz")
    rows = make_rows(12, seed)[:people]
    for row in rows:
        row["W_WEIGHT"] = "1"
    for i, column, cell in cells:
        if i < people:
            rows[i][column] = cell
    wvb, raw = write_json(folder / "wvb"), write_rows(folder / "raw.csv", rows)
    try:
        survey = read_wvs7(raw, wvb)
    except CumaError:
        return
    blanks = [{c: "" if cell == "NA" else cell for c, cell in row.items()} for row in rows]
    assert_is(survey, official(blanks))
