"""A user's table (csv, tsv, gzip, parquet) as columns of distinct texts, with the line that each row stands in.

Nothing here stops at the first fault: what can be read is read, so that a check finds the other faults as well.

Shapes: N rows, B bytes.
"""

import csv
import dataclasses
import io
import pathlib
import zlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from cuma_jax.tables.problems import Problems, near
from cuma_jax.tables.text_faults import DELIMITERS, other_delimiter

UNREADABLE = "\ufffd"
"""In a value: a byte that is not of the file's encoding. It has been reported; the value counts as missing."""

_PARQUET = (".parquet", ".pq")
_BLOCK = 1 << 24


@dataclasses.dataclass(frozen=True)
class Column:
    """A column as texts without blanks at the ends: row n holds `values[code_N[n]]` (int32)."""

    code_N: np.ndarray
    values: list[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """The columns asked for that are there.

    Attributes:
        line_N: int64, each row's line in the file, counted from 1 with the header (parquet: its row).
        num_empty: empty rows that are not among the N.
    """

    path: pathlib.Path
    columns: dict[str, Column]
    line_N: np.ndarray
    num_empty: int = 0

    def __len__(self) -> int:
        return len(self.line_N)

    def line(self, mask_N: np.ndarray) -> int:
        """The line of the first row in `mask_N` (bool, one of them true)."""
        return int(self.line_N[int(np.argmax(mask_N))])

    @property
    def unit(self) -> str:
        """What `line_N` counts."""
        return "row" if self.path.suffix.lower() in _PARQUET else "line"


def read_columns(
    path: pathlib.Path, wanted: dict[str, str], delimiter: str, encoding: str, problems: Problems
) -> Table | None:
    """Reads the columns `wanted` (column -> what it is for, for messages) of the table at `path`.

    Args:
        delimiter: one character; empty: a comma, or a tab if the name says tsv.
        encoding: of a text file; a parquet file has its own.

    Returns:
        The table, with the rows that have the right number of columns; None if nothing can be read. Lines that are
        empty, or hold nothing but delimiters, are no rows.
    """
    data = _read_bytes(path, problems)
    if data is None:
        return None
    if path.suffix.lower() in _PARQUET:
        return _read_parquet(path, data, wanted, problems)
    text = _decode(path, data, encoding, problems)
    return _read_text(path, text, wanted, delimiter or _usual(path), problems) if text.strip() else None


def read_header(path: pathlib.Path, encoding: str, problems: Problems) -> tuple[list[str], str]:
    """The names of the table's columns, and the delimiter that they seem to be separated by."""
    data = _read_bytes(path, problems)
    if data is None:
        return [], ""
    if path.suffix.lower() in _PARQUET:
        try:
            return list(pa.parquet.read_schema(pa.py_buffer(data)).names), ","
        except (pa.ArrowException, OSError) as error:
            problems.error(path, None, None, f"cannot be read as parquet ({str(error)[:200]})", "write the file again")
            return [], ""
    text = _decode(path, data, encoding, problems)
    if not text.strip():
        return [], ""
    first = text[: _records(text)[0][0]].decode("utf-8", errors="replace").strip("\n")
    delimiter = max((_usual(path), *DELIMITERS), key=lambda d: len(_split(first, d)))
    return _split(first, delimiter), delimiter


def _usual(path: pathlib.Path) -> str:
    return "\t" if ".tsv" in path.name.lower() else ","


def _read_bytes(path: pathlib.Path, problems: Problems) -> bytes | None:
    """The bytes in `path`, decompressed; of a truncated gzip file what there is, and a problem."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        problems.error(path, None, None, what, "check the path; it is relative to the survey's YAML file")
        return None
    if data[:2] == b"PK" or path.suffix.lower() in (".xlsx", ".xls", ".ods", ".sav", ".dta", ".zip"):
        problems.error(
            path, None, None, "this is not a csv file", "save the table as csv (UTF-8) in the program it is of"
        )
        return None
    if data[:2] != b"\x1f\x8b":
        return data
    parts, rest = [], data
    try:
        while rest:
            stream = zlib.decompressobj(wbits=31)
            parts.append(stream.decompress(rest))
            if not stream.eof:
                raise zlib.error("it ends too early")
            rest = stream.unused_data.lstrip(b"\0")
    except zlib.error as error:
        whole = b"".join(parts)
        lines, why = whole.count(b"\n"), str(error).split(": ")[-1]
        problems.error(path, None, None, f"the gzip file is damaged after line {lines}: {why}", "copy the file again")
        # The last line may be half of one.
        return whole[: whole.rfind(b"\n") + 1] or None
    return b"".join(parts)


def _decode(path: pathlib.Path, data: bytes, encoding: str, problems: Problems) -> bytes:
    """The file as UTF-8 with `\\n` line ends; bytes that are not of its encoding become `UNREADABLE`."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") and not encoding.startswith("utf-16"):
        problems.error(
            path, 1, None, f"the file is UTF-16, not {encoding}", "say `encoding: utf-16`, or save it as UTF-8"
        )
        encoding = "utf-16"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        _report_bytes(path, data, encoding, error, problems)
        text = data.decode(encoding, errors="replace")
    except UnicodeError as error:
        problems.error(path, None, None, f"is not {encoding} ({error})", "say which `encoding:` it has")
        text = data.decode("latin-1")
    # A text that is already UTF-8 is not copied.
    clean = data if encoding == "utf-8" and UNREADABLE not in text else text.encode("utf-8", errors="replace")
    clean = clean.removeprefix(b"\xef\xbb\xbf")
    if not clean.strip():
        problems.error(path, None, None, "the file is empty", "it needs a header line and one line for each row")
    return clean.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in clean else clean


def _report_bytes(
    path: pathlib.Path, data: bytes, encoding: str, error: UnicodeDecodeError, problems: Problems
) -> None:
    lines = [data.count(b"\n", 0, error.start) + 1]
    if encoding == "utf-8":
        for number, line in enumerate(data.split(b"\n"), 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                lines.append(number)
    count = len(set(lines))
    more = f" ({count} lines have such bytes)" if count > 1 else ""
    found = f"byte 0x{data[error.start]:02x} is not {encoding.upper()}{more}"
    guess = "latin-1" if encoding == "utf-8" else "the encoding the file was saved in"
    hint = f"save the file as UTF-8, or say `encoding: {guess}` in the YAML file"
    problems.error(path, min(lines), None, found, hint)


def _read_text(
    path: pathlib.Path, data: bytes, wanted: dict[str, str], delimiter: str, problems: Problems
) -> Table | None:
    end_N, line_N = _records(data)
    first = data[: end_N[0]].decode("utf-8", errors="replace").strip("\n")
    header = _split(first, delimiter)
    if other := other_delimiter(header, delimiter):
        message = f"the header is one column, {first[:60]!r}, so {delimiter!r} does not separate the columns"
        name = "tab" if other == "\t" else f'"{other}"'
        problems.error(path, int(line_N[0]), None, message, f"say `delimiter: {name}` in the YAML file")
        header, delimiter = _split(first, other), other
    found = find_columns(path, header, wanted, problems, int(line_N[0]))
    if len(end_N) == 1:
        problems.error(path, None, None, "there is a header, but no row", "it needs one line for each row")
        return None
    body, line_N = data[end_N[0] :], line_N[1:]
    ragged: list[tuple[int, int, bool]] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        ragged.append((row.number, row.actual_columns, "\n" in row.text.strip("\n")))
        return "skip"

    # Columns are read by position: names in a file may repeat.
    names, kind = [str(i) for i in range(len(header))], pa.dictionary(pa.int32(), pa.string())
    try:
        table = pa.csv.read_csv(
            pa.py_buffer(body),
            # One thread, so that a row that does not fit comes with its number.
            read_options=pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=_BLOCK),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
            convert_options=pa.csv.ConvertOptions(
                include_columns=[str(i) for i in found.values()] or names[:1],
                column_types=dict.fromkeys(names, kind),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, ValueError) as error:
        hint = "is a quote opened and not closed? Each text with a quote in it needs quotes around it"
        problems.error(path, None, None, f"cannot be read as a table ({str(error)[:200]})", hint)
        return None
    if table.num_rows + len(ragged) != len(line_N):
        # A quote inside a text without quotes: lines are counted as if no text went over two of them.
        line_N = np.flatnonzero([bool(line) for line in data.split(b"\n")])[1:] + 1
    if table.num_rows + len(ragged) != len(line_N):
        line_N = np.arange(table.num_rows + len(ragged)) + 2
    if ragged:
        _report_ragged(path, ragged, line_N, len(header), problems)
        line_N = np.delete(line_N, [number - 1 for number, _, _ in ragged])
    columns = {name: _column(table.column(str(i))) for name, i in found.items()}
    table = _without_empty_rows(Table(path, columns, line_N))
    if not len(table) and not ragged:
        problems.error(path, None, None, "all rows are empty", "it needs one line for each row")
    return table if len(table) else None


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader(io.StringIO(line, newline=""), delimiter=delimiter), [""])]
    except csv.Error:
        return [name.strip() for name in line.split(delimiter)]


def _records(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """End (behind its newline) and line number of each record; a newline between two quotes ends none."""
    data_B = np.frombuffer(data, np.uint8)
    newline, quote = np.flatnonzero(data_B == ord("\n")), np.flatnonzero(data_B == ord('"'))
    if not len(newline) or newline[-1] != len(data) - 1:
        newline = np.append(newline, len(data) - 1)
    closed = np.searchsorted(quote, newline) % 2 == 0
    closed[-1] = True
    end = newline[closed] + 1
    line = np.concatenate([[0], np.flatnonzero(closed)[:-1] + 1]) + 1
    start = np.concatenate([[0], end[:-1]])
    # A line of nothing is no record; the first record begins after the empty lines before it.
    keep = (end - start > 1) | (data_B[start] != ord("\n"))
    return end[keep], line[keep]


def _report_ragged(
    path: pathlib.Path, ragged: list[tuple[int, int, bool]], line_N: np.ndarray, width: int, problems: Problems
) -> None:
    number, actual, several = ragged[0]
    more = f" ({len(ragged)} rows have another number of columns than the header)" if len(ragged) > 1 else ""
    hint = "a text that holds the delimiter needs quotes around it"
    hint = "is a quote opened and not closed?" if several else hint
    problems.error(path, int(line_N[number - 1]), None, f"{actual} columns, but the header has {width}{more}", hint)


def find_columns(
    path: pathlib.Path, header: list[str], wanted: dict[str, str], problems: Problems, line: int | None
) -> dict[str, int]:
    """Position of each wanted column in the header; one that is not there, or there twice, is a problem."""
    found = {}
    for name, purpose in wanted.items():
        if header.count(name) > 1:
            problems.error(path, line, name, "the header has this column twice", "rename one of them")
        elif name not in header:
            message = f"there is no such column ({purpose})"
            problems.error(path, line, name, message, near(name, header))
        else:
            found[name] = header.index(name)
    return found


def _read_parquet(path: pathlib.Path, data: bytes, wanted: dict[str, str], problems: Problems) -> Table | None:
    columns = {}
    try:
        file = pa.parquet.ParquetFile(pa.py_buffer(data))
        found = find_columns(path, list(file.schema_arrow.names), wanted, problems, None)
        table = file.read(columns=[name for name in found if "." not in name] or None)
        for name, i in found.items():
            column = table.column(name) if "." not in name else table.column(i)
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            if pa.types.is_nested(column.type):
                problems.error(path, None, name, f"is of type {column.type}", "it must be text or numbers")
                continue
            columns[name] = _column(column.cast(pa.string()).dictionary_encode())
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        problems.error(path, None, None, f"cannot be read as parquet ({str(error)[:200]})", "write the file again")
        return None
    if table.num_rows == 0:
        problems.error(path, None, None, "the file has no rows")
        return None
    return Table(path, columns, np.arange(1, table.num_rows + 1))


def _column(chunked: pa.ChunkedArray) -> Column:
    """A dictionary column with one dictionary of texts without blanks at their ends; null is the empty text."""
    array = chunked.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], chunked.type)
    codes = pc.fill_null(array.indices, len(array.dictionary)).to_numpy(zero_copy_only=False)
    values = [value.strip() for value in [*array.dictionary.to_pylist(), ""]]
    return distinct(codes, values)


def distinct(code_N: np.ndarray, values: Iterable[str]) -> Column:
    """The column with each value once; equal values get one code."""
    position: dict[str, int] = {}
    code_V = np.array([position.setdefault(value, len(position)) for value in values], np.int32)
    return Column(code_V[code_N], list(position))


def _without_empty_rows(table: Table) -> Table:
    if not table.columns:
        return table
    empty_N = np.ones(len(table), bool)
    for column in table.columns.values():
        empty_N &= np.array([value == "" for value in column.values])[column.code_N]
    if not empty_N.any():
        return table
    columns = {name: Column(column.code_N[~empty_N], column.values) for name, column in table.columns.items()}
    return Table(table.path, columns, table.line_N[~empty_N], int(empty_N.sum()))
