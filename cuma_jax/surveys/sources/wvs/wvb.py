"""WorldValuesBench: World Values Survey wave 7 as (profile, question, answer), from a checkout of the user's own.

The survey's licence forbids passing its files on, so the user makes them: a checkout of
github.com/Demon702/WorldValuesBench, and its `dataset_construction/data_preparation.py` run on the raw csv. `wvs7`
reads that csv itself, to the same Survey.

The checkout's tables hold answers after `answer_adjustment.json` (15 questions are recoded), but its `codebook.json`
names the codes before it. Here the adjustment is applied to the option texts as well, so that text and answer agree;
`option_texts="reference"` keeps the mismatch, for comparison with published numbers.

Shapes: R respondents, N rows of one block.
"""

import pathlib
from collections.abc import Callable
from typing import Literal

import numpy as np
import pyarrow as pa

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.wvs import codebook, coded_survey, wvs7
from cuma_jax.surveys.sources.wvs.codebook import Codebook, find_file, needed_path
from cuma_jax.surveys.sources.wvs.coded_survey import DESIGN, OFFICIAL, Coded, Texts, interview_blocks, scale_codes
from cuma_jax.surveys.survey import Survey
from cuma_jax.tables.code_table import MISSING, CodeTable

VERSION = "1"
"""Raised whenever the reader's result changes: part of the cache key."""

_SETS = ("WorldValuesBench", ".")
_MAKE = (
    "run dataset_construction/data_preparation.py of the checkout on the wave 7 csv "
    "(https://www.worldvaluessurvey.org, a form, free), or read the csv itself with data.source wvs7"
)
_HINT = " (is it from before answer_adjustment.json?)"


def prepare(data: DataConfig) -> tuple[str, Callable[[], Survey]]:
    """A source of `surveys.load.SOURCES`; `wvb`, `raw`, `wording`, `option_texts` and `bad_rows` of `data` are used."""
    folder, raw = needed_path(data, "wvb"), needed_path(data, "raw") if data.raw else None
    files = [*codebook.checkout_files(folder, _tables(folder).values()), *([raw] if raw else [])]
    key = codebook.source_key(data, ("wvb", VERSION, "raw" if raw else ""), files)
    return key, lambda: read_wvb(folder, raw, data.wording, data.option_texts, data.bad_rows)


def read_wvb(
    wvb: pathlib.Path,
    raw: pathlib.Path | None = None,
    wording: Literal["label", "natural"] = "label",
    option_texts: Literal["adjusted", "reference"] = "adjusted",
    bad_rows: Literal["error", "skip"] = "error",
) -> Survey:
    """Reads a checkout with its generated train, valid and test tables.

    The result is that of `wvs7.read_wvs7` of the csv that the tables were made from.

    Args:
        wvb: the checkout (or a folder with train/, valid/ and test/ and the three JSON files).
        raw: the raw csv, for weights, strata and primary sampling units; None: every weight is 1.
        wording, option_texts, bad_rows: as in `wvs7.read_wvs7`.

    Raises:
        CumaError: a file or column is missing, a value cannot be read, or two files differ in their respondents.
    """
    book, files = codebook.read_codebook(wvb), _tables(wvb)
    skipped: dict[str, int] = {}
    interviews, splits = [], []
    values: dict[str, list[np.ndarray]] = {q: [] for q in book.values}
    chunks: dict[str, list[pa.Array]] = {c: [] for c in book.demographics}
    for split, name in enumerate(OFFICIAL):
        value_file, person_file = files[f"{name}_value_qa.tsv"], files[f"{name}_demographic_qa.tsv"]
        interview_R, codes = _read_values(value_file, book, bad_rows, skipped)
        person_R, texts = _read_respondents(person_file, book, bad_rows, skipped)
        order_R, person_order_R = np.argsort(interview_R, kind="stable"), np.argsort(person_R, kind="stable")
        if not np.array_equal(interview_R[order_R], person_R[person_order_R]):
            differ = np.setxor1d(interview_R, person_R)
            example = (
                f"{len(differ)} are in one only, e.g. {differ[0]}" if len(differ) else "some occur more often in one"
            )
            raise CumaError(f"{value_file} and {person_file.name} do not list the same interviews ({example}); {_MAKE}")
        for q, code_R in codes.items():
            values[q].append(code_R[order_R])
        for c, text in texts.items():
            chunks[c].append(text.take(pa.array(person_order_R)))
        interviews.append(interview_R[order_R])
        splits.append(np.full(len(interview_R), split, np.int8))
    interview_R = np.concatenate(interviews)
    weight_R, design = np.ones(len(interview_R)), dict[str, Texts]()
    if raw is not None:
        weight_R, design = _join_design(raw, interview_R, bad_rows, skipped)
    coded = Coded(
        f"the tables of {wvb}", interview_R, np.concatenate(splits),
        {q: np.concatenate(values.pop(q)) for q in book.values},
        {c: _encoded(chunks.pop(c)) for c in book.demographics}, weight_R, design, skipped,
    )  # fmt: skip
    probe = codebook.probe_file(wvb)
    return coded_survey.build_run("wvb", book, coded, probe, wording, option_texts, bad_rows == "skip")


def _tables(wvb: pathlib.Path) -> dict[str, pathlib.Path]:
    names = [(split, f"{split}_{kind}_qa.tsv") for split in OFFICIAL for kind in ("demographic", "value")]
    return {name: find_file(wvb, tuple(f"{s}/{split}" for s in _SETS), name, _MAKE) for split, name in names}


def _read_values(
    file: pathlib.Path, book: Codebook, bad_rows: str, skipped: dict[str, int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Interviews [R], and the codes (int16 [R]; -1: no answer) of each value question."""
    table = CodeTable(file, "\t", _MAKE, bad_rows, skipped)
    interviews, parts = [], {q: list[np.ndarray]() for q in book.values}
    for block, row_N, interview_N in interview_blocks(table, book.values):
        for q in book.values:
            parts[q].append(scale_codes(table, book, q, block[q], row_N, interview_N, {}, _HINT))
        interviews.append(interview_N)
    interview_R = np.concatenate(interviews)
    known_R = interview_R != MISSING
    return interview_R[known_R], {q: np.concatenate(parts.pop(q))[known_R] for q in book.values}


def _read_respondents(
    file: pathlib.Path, book: Codebook, bad_rows: str, skipped: dict[str, int]
) -> tuple[np.ndarray, dict[str, pa.Array]]:
    """Interviews [R], and the texts of each demographic column."""
    table = CodeTable(file, "\t", _MAKE, bad_rows, skipped)
    interviews, parts = [], {c: list[pa.Array]() for c in book.demographics}
    # The repeated interview is counted once, in the table of values.
    for block, _, interview_N in interview_blocks(table, book.demographics, text=True, count=False):
        known = pa.array(interview_N != MISSING)
        for c in book.demographics:
            parts[c].append(block[c].filter(known))
        interviews.append(interview_N[interview_N != MISSING])
    return np.concatenate(interviews), {c: pa.concat_arrays(parts.pop(c)) for c in book.demographics}


def _encoded(chunks: list[pa.Array]) -> Texts:
    encoded = pa.concat_arrays(chunks).dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def _join_design(
    raw: pathlib.Path, interview_R: np.ndarray, bad_rows: str, skipped: dict[str, int]
) -> tuple[np.ndarray, dict[str, Texts]]:
    """Weight, stratum and psu of each interview, from the raw csv."""
    table, design = CodeTable(raw, ",", wvs7.ADVICE, bad_rows, skipped), coded_survey.Design()
    parts = []
    for block, row_N, interview_N in interview_blocks(table, ["B_COUNTRY"], DESIGN, count=False):
        design.add(table, block, row_N, interview_N)
        parts.append(interview_N)
    weight, texts = design.finish()
    raw_interviews = np.concatenate(parts)
    order = np.argsort(raw_interviews, kind="stable")
    ranked = raw_interviews[order]
    place_R = np.minimum(np.searchsorted(ranked, interview_R), len(ranked) - 1)
    if (lost_R := ranked[place_R] != interview_R).any():
        raise CumaError(
            f"{raw} lacks {int(lost_R.sum())} of the {len(interview_R)} interviews of the tables, e.g. "
            f"{interview_R[lost_R][0]}; give the csv that the tables were made from"
        )
    twice_R = ranked[np.minimum(place_R + 1, len(ranked) - 1)] == interview_R
    if (twice_R := twice_R & (place_R + 1 < len(ranked))).any():
        raise CumaError(f"{raw} has interview {interview_R[twice_R][0]} more than once; remove the copies")
    row_R = order[place_R]
    return weight[row_R], {name: (code_R[row_R], names) for name, (code_R, names) in texts.items()}
