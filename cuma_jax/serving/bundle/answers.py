"""Real answers, summed by kind of person: what groups' averages and real shares are made of.

A row is (kind, question, option, split, scored) with its number of answers and the sums of their weights and of the
weights' squares. `scored`: among the people whose answers `evaluate` scores. Rows are sorted by question.

Legend: A answers, K kinds, N rows, O options.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cuma_jax.config.checks import SPLITS
from cuma_jax.runtime.files import undamaged
from cuma_jax.surveys.survey import Survey

HELD_OUT = tuple(i for i, name in enumerate(SPLITS) if name not in ("train", "validation"))
"""Splits whose answers are shown as real ones: neither trained on nor used to choose a checkpoint."""
TRAIN = SPLITS.index("train")
_FILE_ROWS, _GROUP_ROWS = 4_000_000, 50_000
_FILE = "answers-{:02d}.parquet"


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of one question."""

    kind_N: np.ndarray
    option_N: np.ndarray
    split_N: np.ndarray
    scored_N: np.ndarray
    n_N: np.ndarray
    weight_N: np.ndarray
    square_N: np.ndarray

    def where(self, keep_N: np.ndarray) -> "Rows":
        """Some of them."""
        return Rows(*(getattr(self, field.name)[keep_N] for field in dataclasses.fields(self)))

    def scaled(self, where_N: np.ndarray, factor: float) -> "Rows":
        """The same with the weights of some multiplied."""
        factor_N = np.where(where_N, factor, 1.0)
        weight_N, square_N = self.weight_N * factor_N, self.square_N * factor_N**2
        return dataclasses.replace(self, weight_N=weight_N, square_N=square_N)

    def shares(self, options: int) -> tuple[np.ndarray | None, int, float]:
        """Weighted share of each option [O] (None without answers), answers, and their effective number (Kish)."""
        total = float(self.weight_N.sum())
        if total <= 0:
            return None, 0, 0.0
        share_O = np.bincount(self.option_N, self.weight_N, options) / total
        return share_O, int(self.n_N.sum()), total**2 / float(self.square_N.sum())


Answers = Callable[[int], Rows]
"""The rows of a question by its number."""


def answer_table(survey: Survey, kind_R: np.ndarray, split_A: np.ndarray, scored_A: np.ndarray) -> pd.DataFrame:
    """The rows of all answers of people with a weight above 0, sorted by question."""
    weight_A = survey.respondents["weight"].to_numpy(np.float64)[survey.respondent_A]
    keep_A = np.isfinite(weight_A) & (weight_A > 0)
    weight_A = weight_A[keep_A]
    key_A = survey.question_A[keep_A].astype(np.int64) * int(kind_R.max(initial=0) + 1)
    key_A += kind_R[survey.respondent_A[keep_A]]
    options = max((len(question.options) for question in survey.questions), default=1)
    key_A = (key_A * options + survey.option_A[keep_A]) * len(SPLITS) + split_A[keep_A]
    key_A = key_A * 2 + scored_A[keep_A]
    key_N, row_A, n_N = np.unique(key_A, return_inverse=True, return_counts=True)
    rest_N, scored_N = np.divmod(key_N, 2)
    rest_N, split_N = np.divmod(rest_N, len(SPLITS))
    rest_N, option_N = np.divmod(rest_N, options)
    question_N, kind_N = np.divmod(rest_N, int(kind_R.max(initial=0) + 1))
    return pd.DataFrame({
        "question": question_N.astype(np.int32),
        "kind": kind_N.astype(np.int32),
        "option": option_N.astype(np.int16),
        "split": split_N.astype(np.int8),
        "scored": scored_N.astype(bool),
        "n": n_N.astype(np.int32),
        "weight": np.bincount(row_A, weight_A, len(key_N)),
        "square": np.bincount(row_A, weight_A**2, len(key_N)),
    })  # fmt: skip


def answers_of(table: pd.DataFrame) -> Answers:
    """From a table in memory."""
    question_N = table["question"].to_numpy()

    def rows(question: int) -> Rows:
        first, last = np.searchsorted(question_N, [question, question + 1])
        return _rows(table.iloc[first:last])

    return functools.lru_cache(maxsize=256)(rows)


def write_answers(table: pd.DataFrame, folder: pathlib.Path) -> None:
    """Writes the table as files of a few million rows each."""
    for number, start in enumerate(range(0, max(len(table), 1), _FILE_ROWS)):
        part = pa.Table.from_pandas(table.iloc[start : start + _FILE_ROWS], preserve_index=False)
        pq.write_table(part, folder / _FILE.format(number), compression="zstd", row_group_size=_GROUP_ROWS)


def read_answers(folder: pathlib.Path) -> Answers | None:
    """From files, a question at a time; None where there are none. A `CumaError` where one is damaged."""
    paths = sorted(folder.glob(_FILE.replace("{:02d}", "*")))
    if not paths:
        return None

    def rows(question: int) -> Rows:
        with undamaged(folder, "write the bundle again (evaluate the run)"):
            return _rows(pq.read_table(paths, filters=[("question", "=", question)]).to_pandas())

    return functools.lru_cache(maxsize=256)(rows)


def _rows(frame: pd.DataFrame) -> Rows:
    names = ("kind", "option", "split", "scored", "n", "weight", "square")
    return Rows(*(frame[name].to_numpy() for name in names))


def interval(share_O: np.ndarray, effective: float) -> tuple[np.ndarray, np.ndarray]:
    """95% intervals of shares of a sample of an effective size (Wilson, 1927)."""
    z = 1.959963984540054
    middle_O = (share_O + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half_O = z / (1 + z**2 / effective) * np.sqrt(share_O * (1 - share_O) / effective + z**2 / (4 * effective**2))
    low_O, high_O = np.maximum(middle_O - half_O, 0.0), np.minimum(middle_O + half_O, 1.0)
    return np.where(share_O > 0, low_O, 0.0), np.where(share_O < 1, high_O, 1.0)
