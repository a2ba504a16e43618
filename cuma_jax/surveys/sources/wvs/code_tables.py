"""Large delimited tables of codes, block by block: only the columns needed, and one clear error for each fault.

Shapes: N rows of one block.
"""

import contextlib
import csv
import gzip
import hashlib
import io
import pathlib
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
from tqdm import tqdm

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.text_faults import DELIMITERS, first_not_utf8, other_delimiter

MISSING = np.iinfo(np.int64).min
"""A cell with no number."""

_BLOCK_BYTES = 8 << 20
# What pandas reads as missing: the official program reads with pandas.
_BLANKS = ["", "NA", "N/A", "NaN", "nan", "-nan", "-NaN", "null", "NULL", "None", "n/a", "<NA>", "#N/A", "#NA"]
_BROKEN = (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error)
_LARGEST = 2**53  # above it a float64 does not hold every whole number


def digest(path: pathlib.Path) -> str:
    """A hash of a file's bytes, read in pieces.

    Raises:
        CumaError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError as error:
        raise CumaError(f"cannot read {path}: {error.strerror}; check the path") from None


class Table:
    """A csv or tsv (plain, gzip, or the only csv in a zip), read block by block.

    Attributes:
        path: the file.
        advice: how to get a good one, for messages.
        skip: leave bad rows and cells out and count them, instead of an error.
        skipped: how many were left out, by reason.
    """

    def __init__(self, path: pathlib.Path, delimiter: str, advice: str, bad_rows: str = "error") -> None:
        self.path, self.advice, self.skip = path, advice, bad_rows == "skip"
        self.skipped: dict[str, int] = {}
        self._delimiter = delimiter

    def header(self) -> list[str]:
        """Names of the columns.

        Raises:
            CumaError: the file is missing, empty, or not UTF-8.
        """
        with self._errors(), self._records() as records:
            header = next(records, None)
        if not header:
            raise CumaError(f"{self.path} is empty; {self.advice}")
        return header

    def blocks(
        self, needed: Sequence[str], optional: Sequence[str] = (), text: bool = False
    ) -> Iterator[tuple[int, dict[str, pa.StringArray]]]:
        """The named columns as strings (null where blank): (number of rows before the block, {name: [N]}).

        Args:
            needed: columns there must be.
            optional: columns that are read if they are there.
            text: only an empty cell is blank; else also NA, nan and the like.

        Raises:
            CumaError: the file cannot be read as a table with these columns.
        """
        header = self.header()
        self._check_header(header, needed)
        columns = [*needed, *(c for c in optional if c in header)]
        if twice := sorted({c for c in columns if header.count(c) > 1}):
            raise CumaError(f"{self.path} has columns of the same name: {', '.join(twice)}; {self.advice}")
        ragged = 0

        def on_ragged(row: Any) -> str:
            nonlocal ragged
            ragged += 1
            return "skip" if self.skip else "error"

        start = 0
        with self._errors(), self._open() as file, self._bar(file) as bar:
            counted = _Counted(file, bar)
            try:
                reader = pa.csv.open_csv(
                    counted,
                    read_options=pa.csv.ReadOptions(block_size=_BLOCK_BYTES),
                    parse_options=pa.csv.ParseOptions(
                        delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=on_ragged
                    ),
                    convert_options=pa.csv.ConvertOptions(
                        include_columns=columns,
                        column_types=dict.fromkeys(columns, pa.string()),
                        null_values=[""] if text else _BLANKS,
                        strings_can_be_null=True,
                    ),
                )
                for batch in reader:
                    yield start, {name: batch.column(name) for name in columns}
                    start += batch.num_rows
            except pa.ArrowInvalid as error:
                raise CumaError(self._fault(str(error), len(header))) from None
        if counted.quotes % 2 and counted.lines > start + ragged + 2:
            raise CumaError(f'{self.path}: a quote (") is opened and never closed, which hides rows; {self.advice}')
        if ragged:
            self.count("row with a wrong number of columns", ragged)
        if start == 0:
            raise CumaError(f"{self.path} has a header but no rows; {self.advice}")

    def count(self, reason: str, number: int) -> None:
        """Adds to `skipped`."""
        self.skipped[reason] = self.skipped.get(reason, 0) + number

    def numbers(
        self, column: str, cells: pa.StringArray, row_N: np.ndarray, interview_N: np.ndarray | None = None
    ) -> np.ndarray:
        """Cells as whole numbers, int64 [N]; MISSING where blank (and where bad, when bad ones are skipped).

        Args:
            column: its name.
            cells: [N], as `blocks` gives them.
            row_N: number of each row in the file, from 0; for messages.
            interview_N: the interview of each row; for messages.

        Raises:
            CumaError: a cell is not a whole number.
        """
        value_N, bad_N = _floats(cells)
        known_N = ~np.isnan(value_N)
        bad_N |= known_N & ((np.abs(value_N) > _LARGEST) | (value_N != np.trunc(value_N)))
        if bad_N.any():
            self.bad(column, cells, row_N, bad_N, "is not a whole number", interview_N)
        good_N = known_N & ~bad_N
        return np.where(good_N, np.where(good_N, value_N, 0).astype(np.int64), MISSING)

    def weights(self, column: str, cells: pa.StringArray, row_N: np.ndarray, interview_N: np.ndarray) -> np.ndarray:
        """Cells as weights, float64 [N]; nan where there is none of zero or more, when bad ones are skipped.

        Raises:
            CumaError: a cell is blank, negative or not a number.
        """
        value_N, bad_N = _floats(cells)
        bad_N |= ~(np.isfinite(value_N) & (value_N >= 0))
        if bad_N.any():
            self.bad(column, cells, row_N, bad_N, "is not a weight of zero or more", interview_N)
        return np.where(bad_N, np.nan, value_N)

    def bad(
        self,
        column: str,
        cells: pa.Array,
        row_N: np.ndarray,
        bad_N: np.ndarray,
        why: str,
        interview_N: np.ndarray | None = None,
    ) -> None:
        """Bad cells of a block: an error that names the first, or a count.

        Raises:
            CumaError: unless bad ones are skipped.
        """
        if self.skip:
            return self.count(f"{column}: value that {why}", int(bad_N.sum()))
        first = int(np.argmax(bad_N))
        shown = cells[first].as_py()
        shown = "nothing" if shown is None else repr(shown if len(shown) <= 40 else shown[:40] + "...")
        whom = "" if interview_N is None else f" (interview {interview_N[first]})"
        raise CumaError(
            f"{self.path}, line {self.line(int(row_N[first]))}{whom}: column {column} has {shown}, which {why}; "
            "correct it, or set data.bad_rows to skip to leave such cells out and count them"
        )

    def line(self, row: int) -> int:
        """Line of the file on which row `row` (from 0) begins. Slow: for messages."""
        with self._errors(), self._records() as records:
            width, seen, line = len(next(records)), -1, 1
            while seen < row:
                line = records.line_num + 1
                record = next(records, None)
                if record is None:
                    break
                seen += len(record) == width
        return line

    def _check_header(self, header: list[str], needed: Sequence[str]) -> None:
        missing = [c for c in needed if c not in header]
        if not missing:
            return
        if other := other_delimiter(header, self._delimiter):
            right = DELIMITERS[self._delimiter]
            raise CumaError(
                f"{self.path} is separated by {DELIMITERS[other]}, but it must be by {right}; {self.advice}"
            )
        shown = ", ".join(missing[:40]) + (f" and {len(missing) - 40} more" if len(missing) > 40 else "")
        raise CumaError(f"{self.path} lacks {len(missing)} columns: {shown}; {self.advice}")

    def _fault(self, message: str, width: int) -> str:
        if "UTF8" in message:
            with self._open() as file:
                found = first_not_utf8(file)
            if found:
                return f"{self.path}, line {found[0]}: {found[1]}; save the file as UTF-8, or {self.advice}"
        if "columns, got" in message:
            with self._records() as records:
                for record in records:
                    if record and len(record) != width:
                        return (
                            f"{self.path}, line {records.line_num}: {len(record)} columns where the header has {width} "
                            f"(a file cut short?); correct it, set data.bad_rows to skip, or {self.advice}"
                        )
        return f"cannot read {self.path}: {message}; {self.advice}"

    def _bar(self, file: IO[bytes]) -> Any:
        """A bar of the bytes read, on a terminal; how many there are is not known of a packed file."""
        plain = isinstance(file, io.BufferedReader)
        return tqdm(
            total=self.path.stat().st_size if plain else None,
            desc=f"reading {self.path.name}",
            unit="B",
            unit_scale=True,
            leave=False,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    @contextlib.contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """The table's bytes, unpacked; what it is packed with is seen from its first bytes, not from its name."""
        with self.path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            if magic[:2] == b"\x1f\x8b":
                with gzip.open(file, "rb") as unpacked:
                    yield cast(IO[bytes], unpacked)
            elif magic == b"PK\x03\x04":
                with zipfile.ZipFile(file) as archive:
                    names = [n for n in archive.namelist() if n.lower().endswith(".csv") and "__MACOSX" not in n]
                    if len(names) != 1:
                        raise CumaError(
                            f"{self.path} holds {len(names)} csv files, not one ({', '.join(names[:5])}); unpack it "
                            "and name the file itself"
                        )
                    if archive.getinfo(names[0]).flag_bits & 1:
                        raise CumaError(f"{self.path} asks for a password; unpack it and name the csv file itself")
                    with archive.open(names[0]) as member:
                        yield member
            else:
                yield file

    @contextlib.contextmanager
    def _records(self) -> Iterator[Any]:
        """The csv module's reader, for the header and for messages; bytes that are not UTF-8 do not stop it later."""
        with self._open() as file:
            text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
            yield csv.reader(text, delimiter=self._delimiter)
            text.detach()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except _BROKEN as error:
            raise CumaError(f"{self.path} is cut short or damaged ({error}); {self.advice}") from None
        except csv.Error as error:
            raise CumaError(f"cannot read {self.path}: {error}; {self.advice}") from None
        except OSError as error:
            raise CumaError(f"cannot read {self.path}: {error.strerror or error}; check the path") from None


def _floats(cells: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Cells as float64 [N] (nan where there is no number), and where one holds something else, bool [N]."""
    try:
        value_N = pa.compute.cast(cells, pa.float64()).to_numpy(zero_copy_only=False)
        return value_N, np.zeros(len(value_N), bool)
    except pa.ArrowInvalid:
        trimmed = pa.compute.utf8_trim_whitespace(cells)
        number = pa.compute.match_substring_regex(trimmed, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$")
        known = pa.compute.if_else(number, trimmed, pa.scalar(None, pa.string()))
        value_N = pa.compute.cast(known, pa.float64()).to_numpy(zero_copy_only=False)
        return value_N, ~number.fill_null(True).to_numpy(zero_copy_only=False)


class _Counted(io.RawIOBase):
    """Bytes as they are read, counting lines and quotes, and shown on a bar."""

    def __init__(self, file: IO[bytes], bar: Any) -> None:
        self._file, self._bar, self.quotes, self.lines = file, bar, 0, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.quotes += data.count(b'"')
        self.lines += data.count(b"\n")
        self._bar.update(len(data))
        return data
