"""Afrobarometer round 4 as .sav, .zsav and .dta: what `data propose` makes of it, beside a YAML file made by hand.

    python benchmarks/afrobarometer.py FOLDER                 FOLDER holds r4_raw.csv.gz, r4_labels.tsv, survey.yaml
    python benchmarks/afrobarometer.py FOLDER --formats .dta

r4_raw.csv.gz has every variable as coded; r4_labels.tsv name, class, label and value labels (`1=Benin|2=Botswana`) of
each, by tabs; survey.yaml describes the same answers, written by a person. The files themselves are made here, by
pyreadstat, in a temporary folder. Each format's proposal is read without an edit, and held against the survey of the
hand-made file: questions, options, who answered what, weights, and the profile of everybody. What differs is printed.
Then the seconds: the csv of 204 questions read for the first time, and again from the cache.
"""

import argparse
import collections
import pathlib
import sys
import tempfile
import time
from typing import Any

import numpy as np
import pandas as pd
import pyreadstat

from cuma_jax.config import DataConfig
from cuma_jax.surveys.load import load_survey
from cuma_jax.surveys.sources.own.proposal.propose import write_proposal
from cuma_jax.surveys.sources.own.survey import check_csv_survey, read_csv_survey
from cuma_jax.surveys.survey import Survey

TEXTS = ("character",)


def labels_of(folder: pathlib.Path) -> dict[str, tuple[str, str, dict[float, str]]]:
    """Variable -> (class, label, text of each code)."""
    found = {}
    for line in (folder / "r4_labels.tsv").read_text(encoding="utf-8").splitlines():
        name, kind, label, values = line.split("\t")
        pairs = [part.split("=", 1) for part in values.split("|") if "=" in part]
        found[name] = (kind, label, {float(code): text for code, text in pairs} if kind not in TEXTS else {})
    return found


def write_files(folder: pathlib.Path, out: pathlib.Path, formats: list[str]) -> None:
    """The survey as files of SPSS and Stata."""
    labels = labels_of(folder)
    table = pd.read_csv(folder / "r4_raw.csv.gz", dtype=str, keep_default_na=False)
    for name, (kind, _, _) in labels.items():
        if kind not in TEXTS:
            table[name] = pd.to_numeric(table[name], errors="coerce")
    wordings = {name: label for name, (_, label, _) in labels.items()}
    values = {name: texts for name, (_, _, texts) in labels.items() if texts}
    for ending in formats:
        path = out / ending.removeprefix(".") / f"afro{ending}"
        path.parent.mkdir()
        if ending == ".dta":
            whole = {name: {int(code): text for code, text in texts.items()} for name, texts in values.items()}
            pyreadstat.write_dta(table, path, column_labels=wordings, variable_value_labels=whole)
        else:
            missing = {name: [-1] for name, texts in values.items() if -1.0 in texts}
            pyreadstat.write_sav(
                table, path, column_labels=wordings, variable_value_labels=values, missing_ranges=missing,
                compress=ending == ".zsav",
            )  # fmt: skip


def answers_of(survey: Survey, question: int) -> pd.Series:
    """The code that each respondent gave, by id."""
    mask = survey.question_A == question
    ids = survey.respondents["respondent_id"].to_numpy()[survey.respondent_A[mask]]
    codes = np.array(survey.questions[question].codes)[survey.option_A[mask]]
    return pd.Series(codes, index=ids).sort_index()


def compare(found: Survey, hand: Survey) -> dict[str, Any]:
    """What differs, by kind."""
    place = {q.id: n for n, q in enumerate(found.questions)}
    differs: dict[str, Any] = collections.defaultdict(list)
    same = 0
    for n, question in enumerate(hand.questions):
        if question.id not in place:
            differs["questions of the hand-made file that are not asked"].append(question.id)
            continue
        other = found.questions[place[question.id]]
        whole = True
        for what in ("text", "codes", "options", "ordered"):
            if getattr(question, what) != getattr(other, what):
                differs[f"other {what}"].append(question.id)
                whole = False
        if not answers_of(hand, n).equals(answers_of(found, place[question.id])):
            differs["other answers"].append(question.id)
            whole = False
        same += whole
    differs["further questions"] = [q.id for q in found.questions if q.id not in {q.id for q in hand.questions}]
    left = hand.respondents.set_index("respondent_id").sort_index()
    right = found.respondents.set_index("respondent_id").sort_index()
    differs["respondents in one only"] = sorted(set(left.index) ^ set(right.index))
    both = left.index.intersection(right.index)
    left, right = left.loc[both], right.loc[both]
    differs["largest difference of a weight"] = float((left["weight"] - right["weight"]).abs().max())
    for field in hand.profile_fields:
        if field not in right:
            differs["fields that are not in the profile"].append(field)
            continue
        pairs = pd.crosstab(left[field].astype(str).fillna(""), right[field].astype(str).fillna(""))
        if ((pairs > 0).sum(axis=1) > 1).any() or ((pairs > 0).sum(axis=0) > 1).any():
            differs["fields with other groups"].append(field)
        names = [(a, pairs.columns[int(np.argmax(row))]) for a, row in zip(pairs.index, pairs.to_numpy(), strict=True)]
        if renamed := [f"{a} -> {b}" for a, b in names if a != b]:
            differs[f"field {field}: other names of the same groups"] = renamed
    differs["further fields"] = [name for name in found.profile_fields if name not in hand.profile_fields]
    return {"questions that are the same in everything": same, **differs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--formats", nargs="+", default=[".sav", ".zsav", ".dta"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="afrobarometer-") as name:
        out = pathlib.Path(name)
        data = DataConfig(source="csv", path=str(args.folder / "survey.yaml"))
        for what in ("csv of 204 questions, the first time", "again, from the cache"):
            start = time.perf_counter()
            hand = load_survey(data, str(out / "cache"))
            print(f"{what}: {time.perf_counter() - start:.1f} s, {hand.num_answers:,} answers", flush=True)
        start = time.perf_counter()
        write_files(args.folder, out, args.formats)
        print(f"files written: {time.perf_counter() - start:.1f} s", flush=True)
        first: dict[str, Any] | None = None
        for ending in args.formats:
            path = out / ending.removeprefix(".") / f"afro{ending}"
            start = time.perf_counter()
            proposal = write_proposal(path)
            seconds, start = time.perf_counter() - start, time.perf_counter()
            problems = check_csv_survey(path)
            errors = [str(problem) for problem in problems if problem.severity == "error"]
            print(f"\n{ending}: proposed in {seconds:.1f} s, {proposal.todos} TODO, {len(errors)} errors", flush=True)
            if errors:
                sys.exit("\n".join(errors[:20]))
            found = read_csv_survey(path)
            print(f"  checked and read in {time.perf_counter() - start:.1f} s, {found.num_answers:,} answers")
            differs = compare(found, hand)
            if differs == first:
                print("  the same as the format before")
                continue
            first = differs
            for kind, names in differs.items():
                if names:
                    shown = f"{len(names)}: {', '.join(map(str, names))}" if isinstance(names, list) else names
                    print(f"  {kind}: {shown}")


if __name__ == "__main__":
    main()
