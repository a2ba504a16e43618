"""From columns of codes to a Survey: what the raw csv and WorldValuesBench's tables have in common.

Shapes: R respondents, N rows of one block or answers of one question, A answers, P samples of the probe set.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from cuma_jax.config.checks import SPLITS
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.wvs.codebook import (
    FIELDS,
    INTERVIEW,
    PAPER_FIELDS,
    REPEATED_INTERVIEW,
    Codebook,
    build_questions,
)
from cuma_jax.surveys.survey import Survey, categorical
from cuma_jax.tables.code_table import MISSING, CodeTable
from cuma_jax.tables.problems import count_skipped

OFFICIAL = ("train", "valid", "test")
"""Folders of the source's own split; `Survey.official_A` calls the second one validation."""

DESIGN = ("W_WEIGHT", "I_PSU", "N_REGION_WVS", "N_REGION_ISO")
"""Columns of the raw csv from which weight, psu and stratum come."""

_OFFICIAL_POSITION = np.array([SPLITS.index(name) for name in ("train", "validation", "test")], np.int8)
_PROBE = SPLITS.index("probe")

Texts = tuple[np.ndarray, list[str | None]]
"""Texts of a column: position [R] in the list (-1: missing), and the list; it may name a text twice."""


@dataclasses.dataclass
class Coded:
    """What was read of R interviews, in any order.

    Attributes:
        interview_R: int64.
        split_R: int8, position in OFFICIAL.
        values: int16 [R] of each value question: the code after the adjustment, -1 where there is no answer.
        texts: the official text of each demographic column.
        weight_R: float64, nan where there is none.
        design: texts of stratum and psu, if the source has them.
    """

    where: str
    interview_R: np.ndarray
    split_R: np.ndarray
    values: dict[str, np.ndarray]
    texts: dict[str, Texts]
    weight_R: np.ndarray
    design: dict[str, Texts]
    skipped: dict[str, int]


def scale_codes(
    table: CodeTable,
    book: Codebook,
    question: str,
    texts: pa.StringArray,
    row_N: np.ndarray,
    interview_N: np.ndarray,
    recode: Mapping[int, int | None],
    hint: str = "",
) -> np.ndarray:
    """Answers to a question as codes of its scale, int16 [N]; -1 where there is none. A code off the scale is a
    `CumaError`, unless bad values are skipped.

    Args:
        texts: [N], as `CodeTable.blocks` gives them.
        row_N, interview_N: for messages.
        recode: the adjustment, if the table is from before it.
        hint: what may be wrong, for the message about a code off the scale.
    """
    raw_N = table.numbers(question, texts, row_N, interview_N)
    code_N = raw_N.copy() if recode else raw_N
    for old, new in recode.items():
        code_N[raw_N == old] = MISSING if new is None else new
    low, high = book.scale(question)
    off_N = (code_N >= 0) & ((code_N < low) | (code_N > high))
    if off_N.any():
        table.bad(question, texts, row_N, off_N, f"is off its scale {low}..{high}{hint}", interview_N)
    return np.where((code_N < 0) | off_N, -1, code_N).astype(np.int16)


def interview_blocks(
    table: CodeTable, needed: Sequence[str], optional: Sequence[str] = (), text: bool = False, count: bool = True
) -> Iterator[tuple[dict[str, pa.StringArray], np.ndarray, np.ndarray]]:
    """`CodeTable.blocks` with each row's number and interview, without the interview that stands for several people.

    `count`: whether that one's rows are counted as skipped.
    """
    reason = f"interview {REPEATED_INTERVIEW}, which stands for several people"
    for start, block in table.blocks([INTERVIEW, *needed], optional, text):
        row_N = np.arange(start, start + len(block[INTERVIEW]))
        interview_N = table.numbers(INTERVIEW, block[INTERVIEW], row_N)
        keep_N = interview_N != REPEATED_INTERVIEW
        if not keep_N.all():
            count_skipped(table.skipped, reason, (~keep_N).sum() if count else 0)
            block = {c: texts.filter(pa.array(keep_N)) for c, texts in block.items()}
        yield block, row_N[keep_N], interview_N[keep_N]


class Design:
    """Weights, strata and primary sampling units, collected block by block from the raw csv.

    The stratum is the country with its region (N_REGION_WVS, else N_REGION_ISO), the best that the file tells.
    """

    def __init__(self) -> None:
        self._weight: list[np.ndarray] = []
        self._codes: dict[str, list[np.ndarray]] = {c: [] for c in ("country", *DESIGN[1:])}

    def add(
        self, table: CodeTable, block: Mapping[str, pa.StringArray], row_N: np.ndarray, interview_N: np.ndarray
    ) -> None:
        """Takes a block with B_COUNTRY and those columns of DESIGN that the file has."""
        if DESIGN[0] in block:
            self._weight.append(table.weights(DESIGN[0], block[DESIGN[0]], row_N, interview_N))
        else:
            self._weight.append(np.ones(len(row_N)))
        self._codes["country"].append(table.numbers("B_COUNTRY", block["B_COUNTRY"], row_N, interview_N))
        for column in DESIGN[1:]:
            if column in block:
                self._codes[column].append(table.numbers(column, block[column], row_N, interview_N))

    def finish(self) -> tuple[np.ndarray, dict[str, Texts]]:
        """Weight of each row (float64 [R], nan: bad), and the texts of stratum and psu, where the file has them."""
        code = {column: np.concatenate(parts) for column, parts in self._codes.items() if parts}
        design: dict[str, Texts] = {}
        regions = [code[c] for c in DESIGN[2:] if c in code]
        if regions or "I_PSU" in code:
            region_R = np.full(len(code["country"]), MISSING)
            for codes_R in reversed(regions):
                region_R = np.where(codes_R >= 0, codes_R, region_R)
            pairs, inverse_R = np.unique(np.stack([code["country"], region_R], 1), axis=0, return_inverse=True)
            names = [f"{country}:{region}" if region >= 0 else str(country) for country, region in pairs.tolist()]
            design["stratum"] = inverse_R.reshape(-1), list(names)
        if "I_PSU" in code:
            units, inverse_R = np.unique(code["I_PSU"], return_inverse=True)
            design["psu"] = inverse_R, [str(unit) if unit >= 0 else None for unit in units.tolist()]
        return np.concatenate(self._weight), design


def build_run(
    name: str, book: Codebook, coded: Coded, probe: pathlib.Path | None, wording: str, option_texts: str, skip: bool
) -> Survey:
    """The Survey: respondents by interview id, answers by question and then respondent.

    A `CumaError` for a repeated interview, worthless weights, or a fault of the codebook.
    """
    questions = build_questions(book, wording, option_texts)
    skipped = coded.skipped
    order_R = _order(coded, skip)
    respondents = _respondents(book, coded, order_R)
    interview_R, split_R = coded.interview_R[order_R], _OFFICIAL_POSITION[coded.split_R[order_R]]
    samples = _samples(probe, interview_R, split_R, skipped)
    respondent, option, official, sizes = [], [], [], []
    missing = used = 0
    for question in questions:
        code_R = coded.values.pop(question.id)[order_R]
        row_N = np.flatnonzero(code_R >= 0).astype(np.int32)
        missing += len(code_R) - len(row_N)
        codes = np.array([int(code) for code in question.codes])
        option_N = np.searchsorted(codes, code_R[row_N])
        known_N = codes[np.minimum(option_N, len(codes) - 1)] == code_R[row_N]
        if not known_N.all():
            reason = f"{question.id}: answer whose code the codebook has no text for (option_texts reference)"
            skipped[reason] = int((~known_N).sum())
            row_N, option_N = row_N[known_N], option_N[known_N]
        official_N = split_R[row_N]
        if question.id in samples:
            probe_N = np.isin(row_N, samples[question.id])
            official_N[probe_N] = _PROBE
            used += int(probe_N.sum())
        respondent.append(row_N)
        option.append(option_N.astype(np.int32))
        official.append(official_N)
        sizes.append(len(row_N))
    skipped["no answer recorded"] = missing
    if unused := sum(map(len, samples.values())) - used:
        skipped["probe sample without an answer"] = unused
    return Survey(
        name, questions, respondents, tuple(PAPER_FIELDS[c] for c in PAPER_FIELDS if c in coded.texts),
        np.concatenate(respondent), np.repeat(np.arange(len(questions), dtype=np.int32), sizes),
        np.concatenate(option), skipped, np.concatenate(official),
    )  # fmt: skip


def _order(coded: Coded, skip: bool) -> np.ndarray:
    """Rows that are kept, by interview id."""
    order_R = np.argsort(coded.interview_R, kind="stable")
    order_R = order_R[coded.interview_R[order_R] != MISSING]
    id_R = coded.interview_R[order_R]
    names, count = np.unique(id_R, return_counts=True)
    if (count > 1).any():
        example, times = names[count > 1][0], count[count > 1][0]
        if not skip:
            raise CumaError(
                f"{coded.where}: {int((count > 1).sum())} interview ids ({INTERVIEW}) occur more than once, e.g. "
                f"{example} {times} times; remove the copies, or set data.bad_rows to skip to leave all of them out"
            )
        twice_R = np.isin(id_R, names[count > 1])
        coded.skipped["row of an interview id that occurs more than once"] = int(twice_R.sum())
        order_R = order_R[~twice_R]
    if lost := int(np.isnan(coded.weight_R[order_R]).sum()):
        coded.skipped["respondent without a weight"] = lost
        order_R = order_R[~np.isnan(coded.weight_R[order_R])]
    if len(order_R) == 0:
        raise CumaError(f"{coded.where}: no respondent is left; see the file's {INTERVIEW} column")
    if not coded.weight_R[order_R].any():
        raise CumaError(f"{coded.where}: all weights ({DESIGN[0]}) are zero; fetch the file again")
    return order_R


def _respondents(book: Codebook, coded: Coded, order_R: np.ndarray) -> pd.DataFrame:
    """One row a person: readable fields, those of the paper first, then every official column as it is."""
    columns: dict[str, object] = {
        "respondent_id": pd.Series(coded.interview_R[order_R]).astype(str),
        "weight": coded.weight_R[order_R],
        "split": pd.Categorical.from_codes(coded.split_R[order_R], list(OFFICIAL)),
    }
    for name, (code_R, texts) in coded.design.items():
        columns[name] = categorical(code_R[order_R], texts)
    rank = {column: place for place, column in enumerate(FIELDS)}
    for column in sorted(coded.texts, key=lambda column: rank.get(column, len(rank))):
        code_R, texts = coded.texts[column]
        # A column that this version has no name for is there under its official one only.
        if column in FIELDS:
            columns[FIELDS[column]] = categorical(code_R[order_R], book.readable(column, texts))
    for column, (code_R, texts) in coded.texts.items():
        columns[column] = categorical(code_R[order_R], texts)
    return pd.DataFrame(columns)


def _samples(
    probe: pathlib.Path | None, interview_R: np.ndarray, split_R: np.ndarray, skipped: dict[str, int]
) -> dict[str, np.ndarray]:
    """Respondents (positions in `interview_R`, sorted) of the probe set's samples, by question."""
    if probe is None:
        return {}
    table = CodeTable(probe, "\t", "fetch it again from the WorldValuesBench checkout")
    question, interview = [], []
    for start, block in table.blocks(["Question", INTERVIEW], text=True):
        question.append(block["Question"].to_numpy(zero_copy_only=False))
        row_N = np.arange(start, start + len(question[-1]))
        interview.append(table.numbers(INTERVIEW, block[INTERVIEW], row_N))
    question_P, interview_P = np.concatenate(question), np.concatenate(interview)
    row_P = np.minimum(np.searchsorted(interview_R, interview_P), len(interview_R) - 1)
    valid_P = (interview_R[row_P] == interview_P) & (split_R[row_P] == _OFFICIAL_POSITION[1])
    if lost := int((~valid_P).sum()):
        skipped["probe sample whose respondent is not in the valid split"] = lost
    return {str(q): np.unique(row_P[valid_P & (question_P == q)]) for q in pd.unique(question_P[valid_P])}
