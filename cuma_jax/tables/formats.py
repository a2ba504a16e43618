"""The formats that are read: one function each, found by a name's ending. A new format is a line in `READERS`."""

import functools
import pathlib
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.parquet

from cuma_jax.runtime.memory import machine_bytes
from cuma_jax.tables.delimited import Delimited
from cuma_jax.tables.encoding import UNREADABLE_LINES
from cuma_jax.tables.jsonl import decode_json, read_jsonl
from cuma_jax.tables.packed import PACKED, check_kind, opened, reported
from cuma_jax.tables.problems import Problems, Strict, count_skipped
from cuma_jax.tables.spreadsheets import NAMES as SPREADSHEETS
from cuma_jax.tables.spreadsheets import read_spreadsheet
from cuma_jax.tables.statistical_files import READ_BY, read_statistical

Columns = Sequence[str] | None
Skipped = dict[str, int] | None
_CELL = 4  # bytes of a value, at least: its code
Reader = Callable[[pathlib.Path, Columns, Problems, Skipped], pa.Table | None]
"""(file, columns, problems, skipped) -> the file as a table, with at least those of `columns` that it has (None: all).

What is wrong goes to `problems`; if nothing can be read, the result is None. `skipped`: None: a line that cannot be
read is an error; else such lines are left out and counted there, under `UNREADABLE_LINES`.
"""


def _read_delimited(
    path: pathlib.Path, columns: Columns, problems: Problems, skipped: Skipped, delimiter: str
) -> pa.Table | None:
    """Every column of texts (large_string), an empty text null."""
    source = Delimited(path, delimiter, problems)
    source.check(columns)
    first = {name: place for place, name in reversed(list(enumerate(source.header)))}
    names = [name for name in dict.fromkeys(columns or source.header) if name in first]
    places = [first[name] for name in names]
    if not places:
        return None
    schema = pa.schema([(str(place), pa.large_string()) for place in places])
    batches = source.batches(places, pa.large_string(), skip=skipped is not None)
    table = pa.Table.from_batches(batches, schema).rename_columns(names)
    # Where bad rows are left out, so is one that such a quote makes of the end of the file.
    if not source.ragged or source.ragged[-1] < table.num_rows + len(source.ragged) - 1:
        source.report_unclosed()
    if skipped is not None:
        count_skipped(skipped, UNREADABLE_LINES, len(source.ragged))
    return table


def _read_parquet(path: pathlib.Path, columns: Columns, problems: Problems, skipped: Skipped) -> pa.Table | None:
    with pa.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        # To its reader, a name with a dot is the path of a nested column.
        some = columns is not None and not any("." in name for name in columns)
        wanted = [name for name in names if name in (columns or ())] if some else names
        size, most = _unpacked_bytes(file.metadata, wanted), machine_bytes()
        if most is not None and size > most:
            message = f"says that it unpacks to {size / 1e9:.3g} GB, and this machine has {most / 1e9:.3g} GB of memory"
            problems.error(path, None, None, message, f"split it into smaller files; or {problems.advice.again}")
            return None
        return _checked(file.read(columns=wanted if some else None))


def _unpacked_bytes(metadata: pa.parquet.FileMetaData, names: Sequence[str]) -> int:
    """What columns take in the memory at least: a value that repeats may be a few bytes on the disk, however often."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    places = [c for c in range(metadata.num_columns) if metadata.schema.column(c).path.partition(".")[0] in names]
    stored = sum(group.column(c).total_uncompressed_size for group in groups for c in places)
    return max(stored, metadata.num_rows * len(names) * _CELL)


def _read_arrow(path: pathlib.Path, columns: Columns, problems: Problems, skipped: Skipped) -> pa.Table | None:
    source = pa.memory_map(str(path))
    try:
        return _checked(pa.ipc.open_file(source).read_all())
    except pa.ArrowInvalid:
        source.seek(0)
        return _checked(pa.ipc.open_stream(source).read_all())


def _checked(table: pa.Table) -> pa.Table:
    """These formats may hold bytes that are no UTF-8, and JSON texts."""
    table = decode_json(table)
    table.validate(full=True)
    return table


_CSV, _TSV = (functools.partial(_read_delimited, delimiter=delimiter) for delimiter in ",\t")
READERS: dict[str, Reader] = {
    ".csv": _CSV,
    ".tsv": _TSV,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_jsonl,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
    **dict.fromkeys(READ_BY, read_statistical),
    **dict.fromkeys(SPREADSHEETS, read_spreadsheet),
}
"""What a name ends in (before one of `PACKED`), and the function that reads such a file."""

_PACKABLE = (_CSV, _TSV, read_jsonl)
ENDINGS = (
    ".csv, .tsv or .jsonl (also with .gz, .bz2, .xz or .zst), .parquet, .arrow, .feather, .sav, .zsav, .por, .dta, "
    ".sas7bdat, .xpt, .xlsx or .ods"
)
"""The names that are read, in words."""
NOT_READ = (".xls", ".zip", ".rds", ".rda", ".rdata", ".pdf", ".docx")
"""Endings of files that are no text, and that are not read."""


def ending_of(path: pathlib.Path) -> str:
    """What a name ends in, leaving out what it is packed with."""
    name = path.name.lower()
    return pathlib.PurePath(name[: -len(packed)] if (packed := _packed(path)) else name).suffix


def _packed(path: pathlib.Path) -> str:
    return next((ending for ending in PACKED if path.name.lower().endswith(ending)), "")


def reader_of(path: pathlib.Path, problems: Problems) -> Reader | None:
    """The function that reads a file of this name; None, and a problem, if there is none."""
    reader = READERS.get(ending_of(path))
    if reader is None or (_packed(path) and reader not in _PACKABLE):
        hint = f"the name must end in {ENDINGS}; programs that have other formats can save a table as csv (UTF-8)"
        what = "this format is not read" if reader is None else f"a packed {ending_of(path)} is not read: unpack it"
        problems.error(path, None, None, what, hint)
        return None
    return reader


def _has(table: pa.Table, columns: Sequence[str]) -> bool:
    """Whether a table has these columns, "a.b" as it is or as a part of "a"."""
    names = set(table.column_names)
    return all(name in names or name.partition(".")[0] in names for name in columns)


def read_file(
    path: pathlib.Path,
    columns: Columns,
    problems: Problems | None = None,
    skipped: Skipped = None,
    optional: Sequence[str] = (),
) -> pa.Table | None:
    """The table in one file of any format; see `Reader`. Without `problems` the first fault is an error.

    With `columns`, those of `optional` that are there are read as well. With none of them, of a file of a statistical
    program only the names are read.

    Where one of `columns` is missing, the table has every column that there is.
    """
    problems = Strict() if problems is None else problems
    reader = reader_of(path, problems)
    if reader is None:
        return None
    with reported(path, problems):
        try:
            with opened(path):
                empty = path.stat().st_size == 0
            if empty:
                problems.error(path, None, None, "the file is empty", problems.advice.again)
                return None
            if reader not in _PACKABLE:
                check_kind(path, ending_of(path))
            table = reader(path, columns and [*columns, *optional], problems, skipped)
            if table is not None and not _has(table, columns or ()):
                table = reader(path, None, problems, skipped)  # all of it, for a message with the names that come near
        except (pa.ArrowException, UnicodeDecodeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            hint = f"is it damaged or cut off? Then {problems.advice.damaged}"
            problems.error(path, None, None, f"cannot be read ({reason})", hint)
            return None
        if table is not None and table.num_rows == 0 and (columns is None or columns):
            problems.error(path, None, None, "the file has no rows", problems.advice.again)
            return None
        return table
    return None
