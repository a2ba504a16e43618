"""An invented World Values Survey: codebook, raw rows, and a slow twin of what WorldValuesBench makes of them."""

import csv
import json
import random

import numpy as np

MISSING = {"-1": "Don't know", "-2": "No answer", "-5": "Missing; Not available"}
REPEATED = "858069901"


def choices(*texts, start=1):
    return {str(i): text for i, text in enumerate(texts, start)} | MISSING


def _ten(low, high, start):
    return choices(*(["Against"] if start == 0 else []), low, *map(str, range(2, 10)), high, start=start)


DEMOGRAPHICS = {
    "A_YEAR": choices("2017", "2018", start=2017),
    "B_COUNTRY": {"901": "Ardenia", "902": "Belmora", **MISSING},
    "N_TOWN": {"1": "AR: Upton", "2": "AR: Lowton", "3": "AR: Upton"},
    "H_URBRURAL": choices("Urban", "Rural"),
    "Q260": choices("Male", "Female"),
    "Q262": MISSING,
    "X003R": choices("16-24 years", "65 and over"),
    "Q273": choices("Married", "Single"),
    "Q275": choices("No education (ISCED 0)", "Bachelor (ISCED 6)", start=0),
    "Q279": choices("Full time", "Retired"),
    "Q288": choices("Lower step", "Second step"),
    "Q289": choices("None", "Other\tone", start=0),
    "Q290": {"1": "AR: Blue", "2": "BE: <b>Green</b>", **MISSING},
}
ESSENTIAL = [f"Q{n}" for n in range(241, 250)]
VALUES = {
    "Q1": (1, 4, choices("Very", "Rather", "Little", "Not at all")),
    "Q94": (0, 2, choices("Not a member", "Passive", "Active", start=0)),
    "Q56": (1, 3, choices("Better off", "Worse off", "Or about the same")),
    "Q111": (1, 2, choices("Environment", "Growth", "Other answer")),
    "Q119": (1, 5, choices("Hard to say", "Strongly agree", "Agree", "Disagree", "Strongly disagree", start=0)),
    "Q221": (1, 3, choices("Always", "Usually", "Never", "Not allowed to vote")),
    "Q222": (1, 3, choices("Always", "Usually", "Never", "Not allowed to vote")),
    **{q: (1, 10, _ten("Not essential", "Essential", 0)) for q in ESSENTIAL},
    "Q254": (1, 4, choices("Very proud", "Quite proud", "Not very proud", "Not at all proud", "No citizen")),
}
ADJUSTMENT = {
    "Q56": {"2": "3", "3": "2"},
    "Q111": {"3": ""},
    "Q119": {"0": "3", "3": "4", "4": "5"},
    "Q221": {"4": ""},
    "Q222": {"4": ""},
    **{q: {"0": "1"} for q in ESSENTIAL},
    "Q254": {"5": ""},
}


def _entry(use_case, low="", high="", question="Why?", kind="ordinal"):
    return {"question": question, "category": "Made up", "use_case": use_case, "answer_scale_min": low,
            "answer_scale_max": high, "answer_data_type": kind}  # fmt: skip


METADATA = {"D_INTERVIEW": _entry("demographic", kind="non_ordinal")}
METADATA |= {
    c: _entry("demographic", *((1, 2) if c == "Q288" else ("", "")), kind="ordinal" if c == "Q288" else "non_ordinal")
    for c in DEMOGRAPHICS
}
METADATA |= {q: _entry("value", low, high, f"On a scale, {q}?") for q, (low, high, _) in VALUES.items()}
CODEBOOK = {c: {"question": c, "choices": texts} for c, texts in DEMOGRAPHICS.items()}
CODEBOOK |= {q: {"question": f"Label of {q}", "choices": texts} for q, (_, _, texts) in VALUES.items()}
CODEBOOK["D_INTERVIEW"] = {"question": "Interview", "choices": {}}
DESIGN = ("W_WEIGHT", "I_PSU", "N_REGION_WVS")
COLUMNS = ("version", "D_INTERVIEW", *DEMOGRAPHICS, *VALUES, *DESIGN)


def make_rows(people=60, seed=0):
    """Raw rows (text cells), in no order, with the repeated interview three times."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(people):
        row = {"version": "made up, v5", "D_INTERVIEW": str(901_000_000 + 7 * (people - i))}
        for c, texts in DEMOGRAPHICS.items():
            row[c] = str(rng.choice([*texts, "77", ""]))
        for q, (_, _, texts) in VALUES.items():
            row[q] = str(rng.choice([*texts, ""]))
        row |= {"B_COUNTRY": str(901 + i % 2), "Q262": str(rng.integers(16, 90)), "W_WEIGHT": f"{rng.random():.4f}"}
        rows.append(row | {"I_PSU": str(rng.choice([1, 2, -4])), "N_REGION_WVS": str(rng.choice([5, 6, -1]))})
    for i in (1, people // 2, people - 1):
        rows[i]["D_INTERVIEW"] = REPEATED
    return rows


def write_json(wvb, codebook=CODEBOOK):
    tools = wvb / "dataset_construction"
    tools.mkdir(parents=True, exist_ok=True)
    for name, value in (("question_metadata", METADATA), ("codebook", codebook), ("answer_adjustment", ADJUSTMENT)):
        (tools / f"{name}.json").write_text(json.dumps(value))
    return wvb


def write_rows(path, rows, columns=COLUMNS, delimiter=","):
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, columns, delimiter=delimiter, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def official(rows):
    """What WorldValuesBench makes of raw rows, cell by cell: rows of texts, each with its split."""
    kept = [i for i, row in enumerate(rows) if row["D_INTERVIEW"] != REPEATED]
    shuffled = list(kept)
    random.Random(0).shuffle(shuffled)
    train, test = int(0.7 * len(kept)), int(0.15 * len(kept))
    made = []
    for i in kept:
        place = shuffled.index(i)
        row = {"split": "train" if place < train else "test" if place < train + test else "valid"}
        for column, entry in METADATA.items():
            cell = rows[i][column]
            if cell != "":
                cell = str(int(float(cell)))
                cell = ADJUSTMENT.get(column, {}).get(cell, cell)
            if cell != "" and entry["answer_data_type"] == "ordinal":
                cell = "" if int(cell) < 0 else cell
            elif cell != "":
                cell = CODEBOOK[column]["choices"].get(cell, cell)
            row[column] = cell
        made.append(row)
    return made


def write_tables(wvb, made):
    """The generated tables of a checkout."""
    for split in ("train", "valid", "test"):
        for kind, columns in (("demographic", DEMOGRAPHICS), ("value", VALUES)):
            file = wvb / "WorldValuesBench" / split / f"{split}_{kind}_qa.tsv"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_rows(file, [r for r in made if r["split"] == split], ("D_INTERVIEW", *columns), "\t")
    return wvb


def make_checkout(folder, people=60, change=None):
    """A checkout with generated tables, and the raw csv beside it; returns (wvb, raw, official rows)."""
    rows = make_rows(people)
    wvb, raw = write_json(folder / "wvb"), write_rows(folder / "raw.csv", rows)
    made = official(rows)
    if change:
        change(made)
    return write_tables(wvb, made), raw, made


def answers_of(survey):
    """{(respondent id, question id): code}."""
    ids = survey.respondents["respondent_id"].tolist()
    return {
        (ids[r], survey.questions[q].id): survey.questions[q].codes[o]
        for r, q, o in zip(survey.respondent_A, survey.question_A, survey.option_A, strict=True)
    }


def assert_is(survey, made):
    """Every answer, official text and split of `survey` is that of the official rows."""
    assert answers_of(survey) == {(r["D_INTERVIEW"], q): r[q] for r in made for q in VALUES if r[q] != ""}
    people = survey.respondents
    by_id = {row["D_INTERVIEW"]: row for row in made}
    assert people["respondent_id"].tolist() == sorted(by_id, key=int)
    for column in (*DEMOGRAPHICS, "split"):
        got = people[column].astype(object).where(people[column].notna(), "").tolist()
        assert got == [by_id[i][column] for i in people["respondent_id"]], column
