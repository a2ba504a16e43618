"""WorldValuesBench: World Values Survey wave 7 as (profile, question, answer), from a checkout of the user's own.

The survey's licence forbids passing its files on, so the user makes them: a checkout of
github.com/Demon702/WorldValuesBench, and its `dataset_construction/data_preparation.py` run on the raw CSV.

The checkout's TSVs hold answers after `answer_adjustment.json` (15 questions are recoded), but its `codebook.json`
names the codes before it. Here the adjustment is applied to the option texts as well, so that text and answer agree;
`option_texts="reference"` keeps the mismatch, for comparison with published numbers.

Shapes: A answers, R respondents, N answers of one question.
"""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from cuma_jax.cache import content_key
from cuma_jax.errors import CumaError
from cuma_jax.surveys.survey import Question, Survey

VERSION = "1"
"""Raised whenever the reader's result changes: part of the cache key."""

PAPER_FIELDS = {
    "B_COUNTRY": "country",
    "X003R": "age",
    "Q260": "sex",
    "Q275": "education",
    "Q273": "marital_status",
    "Q289": "religion",
    "Q290": "ethnicity",
    "Q279": "employment",
}
"""The demographic columns that the CuMA paper's profiles use, and the names of their fields here."""

SPLITS = ("train", "valid", "test")

_SOURCE = "World Values Survey wave 7 (WorldValuesBench)"
_DUPLICATED = 858069901  # the interview id that the source itself drops: it stands for several people
_SETS = ("WorldValuesBench", ".")
_TOOLS = ("dataset_construction", "WorldValuesBench", ".")


def source_key(path: pathlib.Path) -> str:
    """A key of the contents of every file that `read_wvb` reads.

    Raises:
        CumaError: a file is missing.
    """
    return content_key(VERSION, *(file.read_bytes() for file in _files(path).values()))


def read_wvb(
    path: pathlib.Path | str,
    fields: Mapping[str, str] = PAPER_FIELDS,
    wording: Literal["label", "natural"] = "label",
    option_texts: Literal["adjusted", "reference"] = "adjusted",
) -> Survey:
    """Reads a checkout with its generated train, valid and test tables.

    Args:
        path: the checkout (or the folder with train/, valid/ and test/ and the three JSON files).
        fields: demographic columns of the profile, and the name of each field.
        wording: question texts from the codebook's labels (as the paper's prompts) or from question_metadata.
        option_texts: recoded as the answers are, or as the codebook has them.

    Returns:
        239 questions; the respondents' official split is kept in the column `split` (train, valid, test). The
        tables have no weights: all are 1.

    Raises:
        CumaError: a file or column is missing, or an answer is off its question's scale.
    """
    files = _files(pathlib.Path(path))
    metadata, codebook, adjustment = (
        _read_json(files[f"{name}.json"]) for name in ("question_metadata", "codebook", "answer_adjustment")
    )
    value_ids = [q for q, entry in metadata.items() if entry["use_case"] == "value"]
    questions = tuple(
        _question(q, metadata[q], codebook, adjustment if option_texts == "adjusted" else None, wording, files)
        for q in value_ids
    )
    frames, demographics, skipped = [], [], {f"interview {_DUPLICATED}, which stands for several people": 0}
    for split in SPLITS:
        values = _read_tsv(files[f"{split}_value_qa.tsv"], ["D_INTERVIEW", *value_ids], pa.float64())
        people = _read_tsv(files[f"{split}_demographic_qa.tsv"], ["D_INTERVIEW", *fields], pa.string())
        people["D_INTERVIEW"] = people["D_INTERVIEW"].astype(np.float64)
        if not np.array_equal(values["D_INTERVIEW"].to_numpy(), people["D_INTERVIEW"].to_numpy()):
            raise CumaError(
                f"{files[f'{split}_value_qa.tsv']} and its demographic twin do not list the same interviews in the "
                "same order; make both again with data_preparation.py"
            )
        keep = (values["D_INTERVIEW"] != _DUPLICATED).to_numpy()
        skipped[next(iter(skipped))] += int((~keep).sum())
        frames.append(values[keep])
        demographics.append(people[keep].assign(split=split))
    people = pd.concat(demographics, ignore_index=True)
    respondents = _respondents(people, fields, codebook)
    values = pd.concat(frames, ignore_index=True)
    respondent_A, question_A, option_A = _answers(values, value_ids, metadata, skipped)
    return Survey("wvb", questions, respondents, tuple(fields.values()), respondent_A, question_A, option_A, skipped)


def _files(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Every file needed, by name."""
    wanted: dict[str, tuple[str, ...]] = {
        f"{name}.json": _TOOLS for name in ("question_metadata", "codebook", "answer_adjustment")
    }
    wanted |= {
        f"{split}_{kind}_qa.tsv": tuple(f"{s}/{split}" for s in _SETS)
        for split in SPLITS
        for kind in ("demographic", "value")
    }
    found = {}
    for name, folders in wanted.items():
        candidates = [path / folder / name for folder in folders]
        file = next((c for c in candidates if c.is_file()), None)
        if file is None:
            raise CumaError(
                f"data.path {str(path)!r}: {name} not found; looked for {', '.join(map(str, candidates))}. Clone "
                "https://github.com/Demon702/WorldValuesBench, download the wave 7 csv from "
                "https://www.worldvaluessurvey.org (a form, free), run dataset_construction/data_preparation.py on it "
                "and set data.path to the checkout"
            )
        found[name] = file
    return found


def _read_json(file: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CumaError(f"{file} is not valid JSON ({error}); fetch it again") from None


def _read_tsv(file: pathlib.Path, columns: list[str], dtype: pa.DataType) -> pd.DataFrame:
    """The named columns, all of one type; an empty cell is missing."""
    try:
        table = pa.csv.read_csv(
            file,
            parse_options=pa.csv.ParseOptions(delimiter="\t", newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, dtype),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except KeyError as error:
        raise CumaError(f"{file} lacks a column ({error}); make it again with data_preparation.py") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise CumaError(f"cannot read {file}: {error}; make it again with data_preparation.py") from None
    return table.to_pandas()


def adjusted_texts(choices: Mapping[str, str], adjustment: Mapping[str, str]) -> dict[str, str]:
    """Option texts by code, recoded as the answers are.

    A code that becomes "" is no answer any more. Where a code is merged into one that stays, the one that stays
    keeps its text (Q241: 0, "against democracy", becomes 1).
    """
    texts = {code: text for code, text in choices.items() if int(code) >= 0 and code not in adjustment}
    for code, new in adjustment.items():
        if new != "" and code in choices:
            texts.setdefault(new, choices[code])
    return texts


def _question(
    name: str,
    entry: Mapping[str, Any],
    codebook: Mapping[str, Any],
    adjustment: Mapping[str, Mapping[str, str]] | None,
    wording: str,
    files: Mapping[str, pathlib.Path],
) -> Question:
    codes = tuple(str(c) for c in range(int(entry["answer_scale_min"]), int(entry["answer_scale_max"]) + 1))
    if name not in codebook:
        raise CumaError(f"{files['codebook.json']} has no question {name}, which question_metadata.json lists")
    texts = adjusted_texts(codebook[name]["choices"], {} if adjustment is None else adjustment.get(name, {}))
    if adjustment is None:  # the mismatch leaves the last code of Q119 without a text
        texts = {code: texts.get(code, code) for code in codes}
    if lacking := [code for code in codes if code not in texts]:
        raise CumaError(
            f"{files['codebook.json']}: question {name} has no text for codes {', '.join(lacking)} of its scale "
            f"{codes[0]}..{codes[-1]}"
        )
    text = codebook[name]["question"] if wording == "label" else entry["question"]
    return Question(f"wvb.{name}", text.strip(), tuple(texts[code] for code in codes), codes, True, _SOURCE)


def _respondents(people: pd.DataFrame, fields: Mapping[str, str], codebook: Mapping[str, Any]) -> pd.DataFrame:
    """One row a person; answers such as "Don't know" (the texts of negative codes) are missing."""
    if (repeated := people["D_INTERVIEW"].duplicated()).any():
        example = int(people.loc[repeated, "D_INTERVIEW"].iloc[0])
        raise CumaError(f"interview {example} occurs {int(repeated.sum()) + 1} times; each person may be in one split")
    ids = "wvb." + people["D_INTERVIEW"].astype(np.int64).astype(str)
    frame = pd.DataFrame({"respondent_id": ids, "weight": 1.0})
    frame["split"] = pd.Categorical(people["split"], categories=list(SPLITS))
    for column, field in fields.items():
        choices = codebook.get(column, {}).get("choices", {})
        codes, values = pd.factorize(people[column])
        readable = [_readable(str(value), choices) for value in values]
        names = sorted({value for value in readable if value is not None})
        position = np.array([-1 if value is None else names.index(value) for value in readable] + [-1])
        frame[field] = pd.Categorical.from_codes(position[codes], categories=pd.Index(names, dtype="str"))
    return frame


def _readable(value: str, choices: Mapping[str, str]) -> str | None:
    """A demographic answer as words; None where it is one of the codebook's missing codes."""
    value = choices.get(value, value).strip()
    if value in {text.strip() for code, text in choices.items() if int(code) < 0} or re.fullmatch(r"-\d+", value):
        return None
    # "AR: White" -> "White" (the country is a field of its own); "Bachelor or equivalent (ISCED 6)" -> "Bachelor ...".
    return re.sub(r"^[A-Z]{2,3}: | \(ISCED \d\)", "", value) or None


def _answers(
    values: pd.DataFrame, names: list[str], metadata: Mapping[str, Any], skipped: dict[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    respondent, question, option = [], [], []
    missing = 0
    for q, name in enumerate(names):
        low, high = int(metadata[name]["answer_scale_min"]), int(metadata[name]["answer_scale_max"])
        value_R = values[name].to_numpy()
        row_N = np.flatnonzero(value_R >= 0)
        missing += len(value_R) - len(row_N)
        value_N = value_R[row_N]
        if (off := (value_N < low) | (value_N > high) | (value_N % 1 != 0)).any():
            n = int(np.argmax(off))
            raise CumaError(
                f"column {name} of the value tables has answer {value_N[n]:g} (interview "
                f"{int(values['D_INTERVIEW'].iloc[row_N[n]])}), but its scale is {low}..{high}; is it from before "
                "answer_adjustment.json? Make the tables again with data_preparation.py"
            )
        respondent.append(row_N.astype(np.int32))
        question.append(np.full(len(row_N), q, np.int32))
        option.append((value_N - low).astype(np.int32))
    skipped["no answer recorded"] = missing
    return np.concatenate(respondent), np.concatenate(question), np.concatenate(option)
