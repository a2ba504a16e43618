"""csv and tsv: the header, the rows as Arrow batches in bounded memory, and the line of each fault.

Arrow reads; the csv module, a hundred times slower, is asked only for the header and where something is wrong.
"""

import contextlib
import csv
import functools
import io
import itertools
import pathlib
import sys
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from tqdm import tqdm

from cuma_jax.tables.encoding import UNREADABLE, report_not_utf8
from cuma_jax.tables.header import other_delimiter, report_delimiter, report_repeated, require_columns
from cuma_jax.tables.packed import reported, unpacked
from cuma_jax.tables.problems import Problems

BLOCK_BYTES = 32 << 20
"""Read at a time; a row must fit in."""

_END = "\0the end\0"


class Delimited:
    """A csv or tsv, plain or packed.

    Attributes:
        num_rows: rows that `batches` has given so far.
        ragged: number among all rows (from 0) of each that has another number of columns than the header.
        unclosed_line: where a quote is opened and never closed, once `batches` is through; 0: nowhere.
        stopped: whether `batches` could not go on to the end.
    """

    def __init__(
        self, path: pathlib.Path, delimiter: str, problems: Problems, data: bytes | None = None, first_line: int = 1
    ) -> None:
        """`data`: the text, where it has been read already (UTF-8), from line `first_line` on."""
        self.path, self.delimiter, self._problems, self._data = path, delimiter, problems, data
        self._first_line = first_line
        self.num_rows, self.unclosed_line, self.stopped = 0, 0, False
        self.ragged: list[int] = []

    @functools.cached_property
    def header(self) -> list[str]:
        """Names of the columns; a file without any is a problem (then: none)."""
        with reported(self.path, self._problems):
            found = next(self.records(), None)
            if found is None:
                self._problems.error(self.path, None, None, "the file is empty", self._problems.advice.again)
            elif not any(found[1]):
                message = "its first line is empty; it must hold the names of the columns"
                self._problems.error(self.path, 1, None, message, self._problems.advice.again)
            else:
                return found[1]
        return []

    def check(self, needed: Sequence[str] | None) -> None:
        """Reports a header that has one of the columns `needed` twice (None: any), or is split by another delimiter; a
        `CumaError` where one is missing.
        """
        lacking = needed is None or not set(needed) <= set(self.header)
        if lacking and any(UNREADABLE in name for name in self.header) and self._not_utf8():
            return
        if lacking and (other := other_delimiter(self.header, self.delimiter, needed)):
            report_delimiter(self.path, 1, self.delimiter, other, self._problems)
        report_repeated(self.path, self.header, self.header if needed is None else needed, self._problems)
        require_columns(self.header, needed or (), self.path, self._problems.advice.columns)

    def batches(
        self,
        columns: Sequence[int],
        kind: pa.DataType,
        nulls: Sequence[str] = ("",),
        skip: bool = False,
        block: int = BLOCK_BYTES,
    ) -> Iterator[pa.RecordBatch]:
        """The rows, block by block: the columns at these positions of the header (one at least), each of type `kind`.

        With `skip`, rows with another number of columns than the header are left out (see `ragged`), not an error.
        """
        self.num_rows, self.ragged = 0, []
        names = [str(place) for place in range(len(self.header))]
        wanted = [names[place] for place in columns]

        def on_ragged(row: pa.csv.InvalidRow) -> str:
            self.ragged.append(row.number - 2)
            return "skip" if skip else "error"

        with reported(self.path, self._problems), self._open() as file, self._bar(file) as bar:
            counted, reader, fault = _Counted(file, bar), None, Exception()
            # By position, because names may repeat. One thread, so that a ragged row comes with its number.
            read = pa.csv.ReadOptions(column_names=names, skip_rows_after_names=1, block_size=block, use_threads=False)
            convert = pa.csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, kind),
                null_values=list(nulls),
                strings_can_be_null=bool(nulls),
            )
            parse = pa.csv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=on_ragged
            )
            try:
                reader = pa.csv.open_csv(counted, read, parse, convert)
                for batch in reader:
                    self.num_rows += batch.num_rows
                    yield batch
            except Exception as error:
                # Without its frames, which hold the file.
                self.stopped, fault = True, error.with_traceback(None)
            finally:
                quotes, lines = counted.quotes, counted.lines
                held = weakref.ref(counted), weakref.ref(on_ragged)
                del counted, reader, parse, on_ragged
                _wait_until_released(held)
            if self.stopped and not isinstance(fault, (pa.ArrowException, ValueError)):
                raise fault
            if self.stopped or lines > self.num_rows + len(self.ragged) + 1:
                self.unclosed_line = self._unclosed() if quotes % 2 else 0
            if self.stopped:
                self._explain(str(fault))

    def records(self, end: bool = False) -> Iterator[tuple[int, list[str]]]:
        """(the line it begins on, its values) of each record, the header's first; slow.

        With `end` there is one more, `[_END]`, unless a quote that is never closed swallows it.
        """
        limit = csv.field_size_limit(2**31 - 1)
        try:
            with self._open() as file:
                text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
                reader = csv.reader(itertools.chain(text, [_END] if end else []), delimiter=self.delimiter)
                before = 0
                for record in reader:
                    yield before + self._first_line, record
                    before = reader.line_num
                text.detach()
        finally:
            csv.field_size_limit(limit)

    def lines(self) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """The line on which each row begins, int64 [rows]; and (line, columns) of each row of another width; slow."""
        sizes = [(line, len(record)) for line, record in self.records() if record][1:]
        good = [line for line, size in sizes if size == len(self.header)]
        # Where the csv module and Arrow part ways, better a line that is near than none.
        good += range(len(good) + 2, self.num_rows + 2)
        return np.array(good, np.int64), [place for place in sizes if place[1] != len(self.header)]

    def report_unclosed(self) -> None:
        """A quote that is never closed, if `batches` has met one, is an error."""
        if self.unclosed_line:
            message = 'a quote (") is opened and never closed, which hides the rows behind it'
            self._problems.error(self.path, self.unclosed_line, None, message, self._problems.advice.ragged)

    def report_ragged(self, line: int, width: int, count: int = 1) -> None:
        """Rows with another number of columns than the header are an error."""
        more = f" ({count} rows have another number of columns than the header)" if count > 1 else ""
        message = f"{width} columns, but the header has {len(self.header)}{more}"
        self._problems.error(self.path, line, None, message, self._problems.advice.ragged)

    def _explain(self, message: str) -> None:
        """Reports why Arrow stopped."""
        if ("UTF8" in message or not self.ragged) and self._not_utf8():
            return
        wrong = self.lines()[1] if self.ragged and not self.unclosed_line else []
        if self.unclosed_line:
            self.report_unclosed()
        elif wrong:
            self.report_ragged(*wrong[0])
        else:
            found = f"cannot be read as a table ({message[:200]})"
            self._problems.error(self.path, None, None, found, self._problems.advice.ragged)

    def _unclosed(self) -> int:
        """The line on which a record begins that runs to the end of the file by a quote never closed; 0: none."""
        line, record = 0, [_END]
        for line, record in self.records(end=True):  # noqa: B007  # the last one counts
            pass
        return 0 if record == [_END] else line

    def _not_utf8(self) -> bool:
        with reported(self.path, self._problems), self._open() as file:
            return report_not_utf8(self.path, file, self._problems)
        return True  # what else is wrong has been told

    def _open(self) -> contextlib.AbstractContextManager[IO[bytes]]:
        return unpacked(self.path) if self._data is None else io.BytesIO(self._data)

    def _bar(self, file: IO[bytes]) -> Any:
        """A bar of the bytes read, on a terminal; how many there are is not known of a packed file."""
        return tqdm(
            total=self.path.stat().st_size if isinstance(file, io.BufferedReader) else None,
            desc=f"reading {self.path.name}",
            unit="B",
            unit_scale=True,
            leave=False,
            dynamic_ncols=True,
            disable=self._data is not None or not sys.stderr.isatty(),
        )


def _wait_until_released(held: Iterable[weakref.ref[Any]]) -> None:
    """Arrow's reading thread lets go of what it was given a moment after the last batch.

    If the interpreter ended in that moment, the thread would take the process down.
    """
    for _ in range(1000):
        if all(ref() is None for ref in held):
            return
        time.sleep(0.001)


class _Counted(io.RawIOBase):
    """Bytes as they are read, ended by a line end, counting lines and quotes, and shown on a bar."""

    def __init__(self, file: IO[bytes], bar: Any) -> None:
        self._file, self._bar, self.quotes, self.lines, self._last = file, bar, 0, 0, b"\n"

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        # Without it Arrow does not read a header that is all there is.
        data = data or (b"" if self._last in b"\r\n" else b"\n")
        self._last = data[-1:] or b"\n"
        self.quotes += data.count(b'"')
        self.lines += data.count(b"\n")
        self._bar.update(len(data))
        return data
