"""World Values Survey wave 7 from its raw csv, equal to what WorldValuesBench's data_preparation.py makes of it.

The survey's licence forbids passing its files on: the user downloads the csv (v5.0 or v6.0) after filling in a form.
A checkout of WorldValuesBench says which columns are used, what the codes mean and how 15 questions are recoded.

Shapes: R respondents, N rows of one block.
"""

import pathlib
import random
from collections.abc import Callable
from typing import Literal

import numpy as np

from cuma_jax.config import DataConfig
from cuma_jax.surveys.sources.wvs import coded_survey
from cuma_jax.surveys.sources.wvs.codebook import checkout_files, needed_path, probe_file, read_codebook, source_key
from cuma_jax.surveys.sources.wvs.coded_survey import DESIGN, Coded, Texts, scale_codes
from cuma_jax.surveys.survey import Survey
from cuma_jax.tables.code_table import MISSING, CodeTable

VERSION = "2"
"""Raised whenever the reader's result changes: part of the cache key."""

ADVICE = (
    "download 'WVS Cross-National Wave 7 csv' (v5.0 or v6.0) from "
    "https://www.worldvaluessurvey.org/WVSDocumentationWV7.jsp (a form, free) and set data.raw to it"
)

_TRAIN, _TEST = 0.7, 0.15


def prepare(data: DataConfig) -> tuple[str, Callable[[], Survey]]:
    """A source of `surveys.load.SOURCES`; `raw`, `wvb`, `wording`, `option_texts` and `bad_rows` of `data` are used."""
    raw, wvb = needed_path(data, "raw"), needed_path(data, "wvb")
    key = source_key(data, ("wvs7", VERSION), [raw, *checkout_files(wvb)])
    return key, lambda: read_wvs7(raw, wvb, data.wording, data.option_texts, data.bad_rows)


def read_wvs7(
    raw: pathlib.Path,
    wvb: pathlib.Path,
    wording: Literal["label", "natural"] = "label",
    option_texts: Literal["adjusted", "reference"] = "adjusted",
    bad_rows: Literal["error", "skip"] = "error",
) -> Survey:
    """Reads the raw csv: answers recoded, respondents split as WorldValuesBench does.

    Args:
        raw: the csv, or a zip or gzip of it.
        wvb: a checkout of WorldValuesBench (three JSON files; its list of probe samples, if there).
        wording: question texts from the codebook's labels (as the paper's prompts) or from question_metadata.
        option_texts: recoded as the answers are, or as the official CuMA pipeline pairs them.
        bad_rows: stop at rows and values that cannot be read, or leave them out and count them.

    Returns:
        Respondents by interview id, with the official split (`split`), weight, stratum and psu (where the file has
        them), every demographic column as readable fields and, under its official name, as WorldValuesBench has it.

    Raises:
        CumaError: a file or column is missing, or a value cannot be read.
    """
    book = read_codebook(wvb)
    table = CodeTable(raw, ",", ADVICE, bad_rows)
    design = coded_survey.Design()
    interviews: list[np.ndarray] = []
    value_parts: dict[str, list[np.ndarray]] = {q: [] for q in book.values}
    code_parts: dict[str, list[np.ndarray]] = {c: [] for c in book.demographics}
    needed = list(dict.fromkeys(["B_COUNTRY", *book.demographics, *book.values]))
    for block, row_N, interview_N in coded_survey.interview_blocks(table, needed, DESIGN):
        design.add(table, block, row_N, interview_N)
        for q, parts in value_parts.items():
            parts.append(scale_codes(table, book, q, block[q], row_N, interview_N, book.recodes.get(q, {})))
        for c, parts in code_parts.items():
            parts.append(table.numbers(c, block[c], row_N, interview_N))
        interviews.append(interview_N)
    interview_R = np.concatenate(interviews)
    texts: dict[str, Texts] = {}
    for c in book.demographics:
        codes, code_R = np.unique(np.concatenate(code_parts.pop(c)), return_inverse=True)
        names: list[str | None] = [None if code == MISSING else book.official_text(c, code) for code in codes.tolist()]
        texts[c] = code_R.astype(np.int32), names
    weight_R, strata = design.finish()
    values = {q: np.concatenate(value_parts.pop(q)) for q in book.values}
    coded = Coded(
        str(raw), interview_R, official_split(len(interview_R)), values, texts, weight_R, strata, table.skipped
    )
    return coded_survey.build_run("wvs7", book, coded, probe_file(wvb), wording, option_texts, bad_rows == "skip")


def official_split(num_respondents: int) -> np.ndarray:
    """The split of respondents in file order (the repeated interview left out), int8 [R]: 0 train, 1 valid, 2 test.

    A shuffle with Python's generator, seeded with 0: the first 70% train, the next 15% test, the rest valid.
    """
    order = list(range(num_respondents))
    random.Random(0).shuffle(order)
    train = int(_TRAIN * num_respondents)
    test = train + int(_TEST * num_respondents)
    split_R = np.ones(num_respondents, np.int8)
    split_R[order[:train]] = 0
    split_R[order[train:test]] = 2
    return split_R
