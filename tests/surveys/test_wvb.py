"""WorldValuesBench from an invented checkout of the same shape as the real one."""

import csv
import json

import numpy as np
import pytest

from cuma_jax.config import DataConfig
from cuma_jax.errors import CumaError
from cuma_jax.surveys import wvb
from cuma_jax.surveys.load import load_survey

MISSING = {"-1": "Don't know", "-2": "No answer", "-5": "Missing; Not available"}


def choices(*texts, start=1):
    return {str(i): text for i, text in enumerate(texts, start)} | MISSING


def entry(use_case, low="", high="", question="Why?"):
    kind = "ordinal" if use_case == "value" else "non_ordinal"
    return {"question": question, "category": "Made up", "use_case": use_case, "answer_scale_min": low,
            "answer_scale_max": high, "answer_data_type": kind}  # fmt: skip


CODEBOOK = {
    "B_COUNTRY": {"question": "Country", "choices": {"901": "Ardenia", "902": "Belmora", **MISSING}},
    "X003R": {"question": "Age", "choices": choices("16-24 years", "25-34 years")},
    "Q260": {"question": "Sex", "choices": choices("Male", "Female")},
    "Q275": {"question": "Education", "choices": choices("No education (ISCED 0)", "Bachelor (ISCED 6)", start=0)},
    "Q273": {"question": "Marital", "choices": choices("Married", "Single")},
    "Q289": {"question": "Religion", "choices": choices("None", "Other", start=0)},
    "Q290": {"question": "Ethnicity", "choices": {"1": "AR: Blue", "2": "BE: Green", **MISSING}},
    "Q279": {"question": "Employment", "choices": choices("Full time", "Retired")},
    "Q1": {"question": "Tea", "choices": choices("Very", "Rather", "Little", "Not at all")},
    # As Q56, Q119, Q241 and Q254 of the real one: swapped, shifted, merged, dropped.
    "Q56": {"question": "Better off", "choices": choices("Better", "Worse", "Same")},
    "Q119": {"question": "Agree", "choices": choices("Hard to say", "Strongly", "Agree", "Disagree", "Not", start=0)},
    "Q241": {"question": "Essential", "choices": choices("Against", "Not essential", "2", "Essential", start=0)},
    "Q254": {"question": "Pride", "choices": choices("Proud", "Not proud", "I am not [nationality]")},
}
ADJUSTMENT = {
    "Q56": {"2": "3", "3": "2"},
    "Q119": {"0": "3", "3": "4", "4": "5"},
    "Q241": {"0": "1"},
    "Q254": {"3": ""},
}
SCALES = {"Q1": (1, 4), "Q56": (1, 3), "Q119": (1, 5), "Q241": (1, 3), "Q254": (1, 2)}
DEMOGRAPHIC = list(wvb.PAPER_FIELDS)


def make_checkout(folder, people=40, change=None):
    """Writes an invented checkout; returns {interview: row of texts} of its tables."""
    rng = np.random.default_rng(0)
    metadata = {"D_INTERVIEW": entry("demographic")} | {q: entry("demographic") for q in DEMOGRAPHIC}
    metadata |= {q: entry("value", *SCALES[q], question=f"On a scale, {q}?") for q in SCALES}
    tools = folder / "dataset_construction"
    tools.mkdir(parents=True)
    for name, value in (("question_metadata", metadata), ("codebook", CODEBOOK), ("answer_adjustment", ADJUSTMENT)):
        (tools / f"{name}.json").write_text(json.dumps(value))
    rows = {}
    for i in range(people):
        row = {"D_INTERVIEW": str(9_010_000 + i), "split": wvb.SPLITS[i % 3]}
        for q in DEMOGRAPHIC:
            row[q] = rng.choice(list(CODEBOOK[q]["choices"].values()))
        for q, (low, high) in SCALES.items():
            row[q] = rng.choice(["", *map(str, range(low, high + 1))])
        rows[row["D_INTERVIEW"]] = row
    rows["858069901"] = {**row, "D_INTERVIEW": "858069901"}
    if change:
        change(rows)
    for split in wvb.SPLITS:
        for kind, columns in (("demographic", DEMOGRAPHIC), ("value", list(SCALES))):
            file = folder / "WorldValuesBench" / split / f"{split}_{kind}_qa.tsv"
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("w", newline="") as out:
                writer = csv.DictWriter(out, ["D_INTERVIEW", *columns], delimiter="\t", extrasaction="ignore")
                writer.writeheader()
                writer.writerows(r for r in rows.values() if r["split"] == split)
    return rows


def test_answers_equal_the_tables_read_one_cell_at_a_time(tmp_path):
    rows = make_checkout(tmp_path)
    survey = wvb.read_wvb(tmp_path)
    got = {}
    for r, q, o in zip(survey.respondent_A, survey.question_A, survey.option_A, strict=True):
        question = survey.questions[q]
        got[survey.respondents["respondent_id"][r], question.id] = question.codes[o]
    want = {(f"wvb.{i}", f"wvb.{q}"): row[q] for i, row in rows.items() for q in SCALES if row[q] and i != "858069901"}
    assert got == want
    cells = len(SCALES) * (len(rows) - 1)
    assert survey.skipped["no answer recorded"] == cells - len(want)
    assert survey.skipped["interview 858069901, which stands for several people"] == 1


def test_profiles_are_readable_and_negative_codes_are_missing(tmp_path):
    rows = make_checkout(tmp_path)
    people = wvb.read_wvb(tmp_path).respondents.set_index("respondent_id")
    for i, row in rows.items():
        if i == "858069901":
            continue
        person = people.loc[f"wvb.{i}"]
        assert person["split"] == row["split"]
        for column, field in wvb.PAPER_FIELDS.items():
            if row[column] in MISSING.values():
                assert not isinstance(person[field], str)
            else:
                want = row[column].replace("AR: ", "").replace("BE: ", "").split(" (ISCED")[0]
                assert person[field] == want
    assert set(people["ethnicity"].cat.categories) == {"Blue", "Green"}


def test_option_texts_are_recoded_as_the_answers_are(tmp_path):
    """The trap of the source: its codebook names the codes before answer_adjustment.json."""
    make_checkout(tmp_path)
    options = {q.id: q.options for q in wvb.read_wvb(tmp_path).questions}
    assert options == {
        "wvb.Q1": ("Very", "Rather", "Little", "Not at all"),
        "wvb.Q56": ("Better", "Same", "Worse"),
        "wvb.Q119": ("Strongly", "Agree", "Hard to say", "Disagree", "Not"),
        "wvb.Q241": ("Not essential", "2", "Essential"),
        "wvb.Q254": ("Proud", "Not proud"),
    }


def test_wording_can_be_the_natural_question(tmp_path):
    make_checkout(tmp_path)
    assert wvb.read_wvb(tmp_path).questions[0].text == "Tea"
    assert wvb.read_wvb(tmp_path, wording="natural").questions[0].text == "On a scale, Q1?"


def test_reference_texts_keep_the_published_mismatch(tmp_path):
    make_checkout(tmp_path)
    options = {q.id: q.options for q in wvb.read_wvb(tmp_path, option_texts="reference").questions}
    assert options["wvb.Q56"] == ("Better", "Worse", "Same")
    assert options["wvb.Q119"] == ("Strongly", "Agree", "Disagree", "Not", "5")


def test_missing_files_say_what_was_looked_for_and_where_to_get_it(tmp_path):
    with pytest.raises(CumaError, match=r"question_metadata\.json not found; looked for .*github\.com/Demon702"):
        wvb.read_wvb(tmp_path / "nowhere")
    make_checkout(tmp_path)
    (tmp_path / "WorldValuesBench" / "valid" / "valid_value_qa.tsv").unlink()
    with pytest.raises(CumaError, match=r"valid_value_qa\.tsv not found.*data_preparation\.py"):
        load_survey(DataConfig(source="wvb", path=str(tmp_path)), str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("value", "message"),
    [("7", r"column Q1 .* answer 7 \(interview 9010004\), but its scale is 1\.\.4"), ("many", "cannot read .*many")],
)
def test_answers_off_the_scale_name_the_column_and_the_person(tmp_path, value, message):
    make_checkout(tmp_path, change=lambda rows: rows["9010004"].update(Q1=value))
    with pytest.raises(CumaError, match=message):
        wvb.read_wvb(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    make_checkout(tmp_path)
    file = tmp_path / "WorldValuesBench" / "train" / "train_value_qa.tsv"
    file.write_text(file.read_text().replace("Q56", "Q5six", 1))
    with pytest.raises(CumaError, match=r"train_value_qa\.tsv lacks a column .*Q56"):
        wvb.read_wvb(tmp_path)


def test_it_is_cached_by_the_contents_of_its_files(tmp_path):
    rows = make_checkout(tmp_path)
    data = DataConfig(source="wvb", path=str(tmp_path))
    first = load_survey(data, str(tmp_path / "cache"))
    assert (tmp_path / "cache" / "surveys").is_dir()
    again = load_survey(data, str(tmp_path / "cache"))
    np.testing.assert_array_equal(first.option_A, again.option_A)
    assert list(again.respondents["split"]) == list(first.respondents["split"])
    key = wvb.source_key(tmp_path)
    file = tmp_path / "WorldValuesBench" / "test" / "test_value_qa.tsv"
    file.write_text(file.read_text().replace(rows["9010002"]["D_INTERVIEW"], "9019999", 1))
    assert wvb.source_key(tmp_path) != key
