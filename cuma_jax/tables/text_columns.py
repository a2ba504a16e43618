"""A user's table of any format as columns of distinct texts, with the line that each row stands in.

Nothing here stops at the first fault: what can be read is read, so that a check finds the other faults as well.

Shapes: N rows, V distinct values of a column.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cuma_jax.tables.delimited import Delimited
from cuma_jax.tables.encoding import NOT_KNOWN, decode, guess_encoding, spelled, visible
from cuma_jax.tables.formats import NOT_READ, READERS, ending_of, read_file
from cuma_jax.tables.header import DELIMITERS, find_columns, other_delimiter, report_delimiter
from cuma_jax.tables.packed import read_unpacked
from cuma_jax.tables.problems import Problems
from cuma_jax.tables.statistical_files import READ_BY, Variable, variable_of

_EXACT = 2**53  # above it a float64 does not hold every whole number
_SEP = re.compile(rb'"?sep=([,;|\t])"?[,;|\t]*\n', re.IGNORECASE)
_HEADERS, _IMPORT = 3, '{"ImportId"'


@dataclasses.dataclass(frozen=True)
class Column:
    """A column as texts, each `visible`: row n holds `values[code_N[n]]` (int32)."""

    code_N: np.ndarray
    values: list[str]


@dataclasses.dataclass(frozen=True)
class TextTable:
    """The columns asked for that are there.

    Attributes:
        row_N: int64, number of each row among those that have the right number of columns.
        source: where the line of a row is found; None for a format without lines.
        num_empty: empty rows that are not among the N.
        num_headers: further header lines that are not among the N.
        variables: what the file says of each column: a wording, the text of each code.
    """

    path: pathlib.Path
    columns: dict[str, Column]
    row_N: np.ndarray
    source: Delimited | None = None
    num_empty: int = 0
    num_headers: int = 0
    variables: Mapping[str, Variable] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row_N)

    @property
    def unit(self) -> str:
        """What `line_N` counts."""
        return "row" if self.source is None else "line"

    @functools.cached_property
    def line_N(self) -> np.ndarray:
        """int64, each row's line in the file, counted from 1 with the header (or its row); slow: for messages."""
        return self.row_N + 1 if self.source is None else self.source.lines()[0][self.row_N]

    def line(self, mask_N: np.ndarray) -> int:
        """The line of the first row in `mask_N` (bool, one of them true)."""
        return int(self.line_N[int(np.argmax(mask_N))])


def read_columns(
    path: pathlib.Path, wanted: Mapping[str, str], delimiter: str, encoding: str, problems: Problems
) -> TextTable | None:
    """Reads the columns `wanted` (column -> what it is for, for messages) of the table at `path`.

    A file whose name is of no format in `formats.READERS` is read as a csv. `delimiter` and `encoding` are a csv's; an
    empty delimiter is a comma, or a tab if the name says tsv. The rows are those that have the right number of columns;
    lines that are empty, or hold nothing but delimiters, are no rows. None if nothing can be read.
    """
    if not _is_text(path):
        return _read_other(path, wanted, problems)
    data = read_unpacked(path, problems)
    text = b"" if data is None else decode(path, data, encoding, problems)
    if not text.strip():
        return None
    return _read_delimited(path, text, wanted, delimiter or usual_delimiter(path), problems)


def read_header(path: pathlib.Path, problems: Problems) -> tuple[list[str], str, str]:
    """The names of the table's columns, and the delimiter and the encoding (or `NOT_KNOWN`) that it seems to have."""
    if not _is_text(path):
        table = read_file(path, () if ending_of(path) in READ_BY else None, problems)
        return ([] if table is None else [spelled(n) for n in table.column_names]), ",", "utf-8"
    data = read_unpacked(path, problems)
    encoding = guess_encoding(data or b"")
    # What cannot be told is read somehow here: who asks says so.
    known = "latin-1" if encoding == NOT_KNOWN else encoding
    text = b"" if data is None else decode(path, data, known, Problems() if known != encoding else problems)
    text, _, said = _without_sep_line(text)
    if not text.strip():
        return [], "", encoding
    if said:
        return Delimited(path, said, problems, text).header, usual_delimiter(path), encoding
    if not Delimited(path, ",", problems, text).header:
        return [], "", encoding
    delimiters = dict.fromkeys((usual_delimiter(path), *DELIMITERS))
    headers = {d: Delimited(path, d, problems, text).header for d in delimiters}
    delimiter = max(headers, key=lambda d: len(headers[d]))
    return headers[delimiter], delimiter, encoding


def _without_sep_line(text: bytes) -> tuple[bytes, int, str]:
    """A text without empty lines before the header and Excel's line `sep=;`; the header's line; what that line says."""
    body = text.lstrip(b"\n")
    first = len(text) - len(body) + 1
    match = _SEP.match(body)
    return (body[match.end() :], first + 1, match[1].decode()) if match else (body, first, "")


def usual_delimiter(path: pathlib.Path) -> str:
    """What separates columns in a file of this name, unless it is said."""
    return "\t" if ".tsv" in path.name.lower() else ","


def _is_text(path: pathlib.Path) -> bool:
    ending = ending_of(path)
    return ending in (".csv", ".tsv") or ending not in (*READERS, *NOT_READ)


def _read_delimited(
    path: pathlib.Path, text: bytes, wanted: Mapping[str, str], delimiter: str, problems: Problems
) -> TextTable | None:
    body, first, said = _without_sep_line(text)
    delimiter = said or delimiter
    source = Delimited(path, delimiter, problems, body, first)
    if other := other_delimiter(source.header, delimiter):
        report_delimiter(path, first, delimiter, other, problems)
        source = Delimited(path, other, problems, body, first)
    if not source.header:
        return None
    found = find_columns(path, source.header, wanted, problems, first)
    kind = pa.dictionary(pa.int32(), pa.string())
    batches = list(source.batches(list(found.values()) or [0], kind, nulls=(), skip=True))
    if source.stopped:
        return None
    source.report_unclosed()  # and not the row that such a quote makes of the end of the file
    ragged = (
        [(line, width) for line, width in source.lines()[1] if line != source.unclosed_line] if source.ragged else []
    )
    if ragged:
        source.report_ragged(*ragged[0], len(ragged))
    if not batches and not source.ragged:
        problems.error(path, None, None, "there is a header, but no row", problems.advice.again)
    columns = {
        name: _column(pa.chunked_array([batch.column(i) for batch in batches], kind)) for i, name in enumerate(found)
    }
    table = _without_headers(TextTable(path, columns, np.arange(source.num_rows), source), problems)
    table = _without_empty_rows(table)
    if batches and not len(table) and not source.ragged:
        problems.error(path, None, None, "all rows are empty", problems.advice.again)
    return table if len(table) else None


def _read_other(path: pathlib.Path, wanted: Mapping[str, str], problems: Problems) -> TextTable | None:
    """A table of a format that has no lines, and types of its own."""
    table = read_file(path, list(wanted), problems)
    if table is None:
        return None
    columns, said = {}, {}
    for name, place in find_columns(path, [spelled(n) for n in table.column_names], wanted, problems, None).items():
        column = whole_numbers(table.column(place))
        said[name] = variable_of(table.schema.field(place))
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_nested(column.type):
            problems.error(path, None, name, f"is of type {column.type}", "it must be text or numbers")
            continue
        try:
            columns[name] = _column(column.cast(pa.string()).dictionary_encode())
        except (pa.ArrowException, ValueError) as error:
            problems.error(path, None, name, f"is of type {column.type} ({str(error)[:200]})", "make it a text")
    found = TextTable(path, columns, np.arange(table.num_rows), variables=said)
    return _without_empty_rows(found) if len(columns) == len(wanted) else found


def whole_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of floats that are all whole as integers: ids and codes where an answer is missing, above all."""
    if not pa.types.is_floating(column.type):
        return column
    number = column.cast(pa.float64())
    exact = pc.and_(pc.equal(number, pc.floor(number)), pc.less(pc.abs(number), _EXACT))
    if not pc.all(pc.or_kleene(pc.is_nan(number), exact), min_count=0).as_py():
        return column
    return pc.if_else(pc.is_nan(number), None, number).cast(pa.int64())


def _column(chunked: pa.ChunkedArray) -> Column:
    """A dictionary column with one dictionary of texts without blanks at their ends; null is the empty text."""
    array = chunked.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], chunked.type)
    codes = pc.fill_null(array.indices, len(array.dictionary)).to_numpy(zero_copy_only=False)
    values = [visible(value) for value in [*array.dictionary.to_pylist(), ""]]
    return distinct(codes, values)


def distinct(code_N: np.ndarray, values: Iterable[str]) -> Column:
    """The column with each value once; equal values get one code."""
    position: dict[str, int] = {}
    code_V = np.array([position.setdefault(value, len(position)) for value in values], np.int32)
    return Column(code_V[code_N], list(position))


def _without_empty_rows(table: TextTable) -> TextTable:
    if not table.columns:
        return table
    empty_N = np.ones(len(table), bool)
    for column in table.columns.values():
        empty_N &= np.array([value == "" for value in column.values])[column.code_N]
    if not empty_N.any():
        return table
    return dataclasses.replace(_rows(table, ~empty_N), num_empty=int(empty_N.sum()))


def _rows(table: TextTable, keep_N: np.ndarray) -> TextTable:
    columns = {name: _used(column, keep_N) for name, column in table.columns.items()}
    return dataclasses.replace(table, columns=columns, row_N=table.row_N[keep_N])


def _used(column: Column, keep_N: np.ndarray) -> Column:
    """The kept rows, with their values alone: those of a header line would tell of the others ("Mr. A" of numbers)."""
    used, code_N = np.unique(column.code_N[keep_N], return_inverse=True)
    return Column(code_N.astype(np.int32), [column.values[v] for v in used])


def _without_headers(table: TextTable, problems: Problems) -> TextTable:
    """Without the further header lines of a Qualtrics export: the wordings, and then {"ImportId": ...} in each cell."""
    firsts = {name: [column.values[v] for v in column.code_N[:_HEADERS]] for name, column in table.columns.items()}
    last = max((n for first in firsts.values() for n, text in enumerate(first) if text.startswith(_IMPORT)), default=-1)
    if last < 0:
        return table
    keep_N = np.arange(len(table)) > last
    message = f"the first {last + 1} rows are further header lines of a Qualtrics export (up to {_IMPORT}...)"
    problems.warning(table.path, int(table.line_N[0]), None, message, "they are skipped and counted")
    said = {name: Variable(first[0]) for name, first in firsts.items() if last > 0}
    return dataclasses.replace(_rows(table, keep_N), num_headers=last + 1, variables=said)
