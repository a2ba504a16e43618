"""A large csv or tsv of codes, block by block in bounded memory: the columns asked for, and each value as a number.

Shapes: N rows of one block.
"""

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.delimited import Delimited
from cuma_jax.tables.problems import Advice, Strict, count_skipped

MISSING = np.iinfo(np.int64).min
"""Where a value is no number."""

_BLOCK_BYTES = 8 << 20
# What pandas reads as missing: the official program reads with pandas.
_BLANKS = ("", "NA", "N/A", "NaN", "nan", "-nan", "-NaN", "null", "NULL", "None", "n/a", "<NA>", "#N/A", "#NA")
_LARGEST = 2**53  # above it a float64 does not hold every whole number


class CodeTable:
    """A csv or tsv (plain, gzip, or the only csv in a zip) of codes; `skipped` counts what was left out, by reason."""

    def __init__(
        self, path: pathlib.Path, delimiter: str, advice: str, bad_rows: str = "error", skipped: dict | None = None
    ) -> None:
        """`advice`: how to get a good file; `bad_rows`: stop at a bad row or value, or leave it out and count it."""
        self.path, self._skip = path, bad_rows == "skip"
        self.skipped = {} if skipped is None else skipped
        encoding = f"it may be {{}}: save the file as UTF-8, or {advice}"
        ragged = f"is the file cut short? Correct it, set data.bad_rows to skip, or {advice}"
        advices = dict.fromkeys(("again", "damaged", "columns", "delimiter"), advice)
        self._source = Delimited(path, delimiter, Strict(Advice(encoding=encoding, ragged=ragged, **advices)))
        self._advice = advice

    def blocks(
        self, needed: Sequence[str], optional: Sequence[str] = (), text: bool = False
    ) -> Iterator[tuple[int, dict[str, pa.StringArray]]]:
        """The named columns as strings (null where blank): (number of rows before the block, {name: [N]}).

        `optional` columns are read if they are there; with `text` only an empty value is blank, else also NA and nan. A
        `CumaError` where the file cannot be read as a table with these columns.
        """
        source = self._source
        columns = [*needed, *(name for name in optional if name in source.header)]
        source.check(columns)
        places, start = [source.header.index(name) for name in columns], 0
        for batch in source.batches(places, pa.string(), ("",) if text else _BLANKS, self._skip, _BLOCK_BYTES):
            yield start, dict(zip(columns, batch.columns, strict=True))
            start += batch.num_rows
        source.report_unclosed()
        if source.ragged:
            count_skipped(self.skipped, "row with a wrong number of columns", len(source.ragged))
        if start == 0:
            raise CumaError(f"{self.path}: there is a header, but no row; {self._advice}")

    def numbers(
        self, column: str, texts: pa.StringArray, row_N: np.ndarray, interview_N: np.ndarray | None = None
    ) -> np.ndarray:
        """Values as whole numbers, int64 [N]; MISSING where blank (and where bad, when bad ones are skipped).

        `texts` [N] are as `blocks` gives them; `row_N` (number in the file, from 0) and `interview_N` for messages. A
        `CumaError` where a value is not a whole number.
        """
        value_N, bad_N = _floats(texts)
        known_N = ~np.isnan(value_N)
        bad_N |= known_N & ((np.abs(value_N) > _LARGEST) | (value_N != np.trunc(value_N)))
        if bad_N.any():
            self.bad(column, texts, row_N, bad_N, "is not a whole number", interview_N)
        good_N = known_N & ~bad_N
        return np.where(good_N, np.where(good_N, value_N, 0).astype(np.int64), MISSING)

    def weights(self, column: str, texts: pa.StringArray, row_N: np.ndarray, interview_N: np.ndarray) -> np.ndarray:
        """Values as weights, float64 [N]; one that is blank, negative or no number is a `CumaError`, or nan when bad
        ones are skipped.
        """
        value_N, bad_N = _floats(texts)
        bad_N |= ~(np.isfinite(value_N) & (value_N >= 0))
        if bad_N.any():
            self.bad(column, texts, row_N, bad_N, "is not a weight of zero or more", interview_N)
        return np.where(bad_N, np.nan, value_N)

    def bad(
        self,
        column: str,
        texts: pa.Array,
        row_N: np.ndarray,
        bad_N: np.ndarray,
        why: str,
        interview_N: np.ndarray | None = None,
    ) -> None:
        """Bad values of a block: counted where bad ones are skipped, else a `CumaError` that names the first."""
        if self._skip:
            return count_skipped(self.skipped, f"{column}: value that {why}", bad_N.sum())
        first = int(np.argmax(bad_N))
        shown = texts[first].as_py()
        shown = "nothing" if shown is None else repr(shown if len(shown) <= 40 else shown[:40] + "...")
        whom = "" if interview_N is None else f" (interview {interview_N[first]})"
        line = self._source.lines()[0][row_N[first]]
        raise CumaError(
            f"{self.path}, line {line}{whom}: column {column} has {shown}, which {why}; "
            "correct it, or set data.bad_rows to skip to leave such values out and count them"
        )


def _floats(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Values as float64 [N] (nan where there is no number), and where one holds something else, bool [N]."""
    try:
        value_N = pa.compute.cast(texts, pa.float64()).to_numpy(zero_copy_only=False)
        return value_N, np.zeros(len(value_N), bool)
    except pa.ArrowInvalid:
        trimmed = pa.compute.utf8_trim_whitespace(texts)
        number = pa.compute.match_substring_regex(trimmed, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$")
        known = pa.compute.if_else(number, trimmed, pa.scalar(None, pa.string()))
        value_N = pa.compute.cast(known, pa.float64()).to_numpy(zero_copy_only=False)
        return value_N, ~number.fill_null(True).to_numpy(zero_copy_only=False)
