"""Readers of single files: csv and tsv, JSON lines, Parquet, Arrow; the text formats may be gzipped."""

import contextlib
import csv
import difflib
import gzip
import io
import json
import pathlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.text_faults import DELIMITERS, first_not_utf8, other_delimiter

KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
"""Endings that are read, and the format each means."""

UNREADABLE = "lines that cannot be read"
"""What `read_table` counts such lines under."""

_BLOCK = 32 << 20  # bytes; a line of JSON must fit in one
ENDINGS = ".csv, .tsv, .jsonl, .parquet or .arrow (.csv, .tsv and .jsonl also with .gz)"
"""The names that are read, in words."""


def require_columns(names: Sequence[str], wanted: Sequence[str], where: object) -> None:
    """Checks that every name in `wanted` is among `names`.

    Raises:
        CumaError: names all that are missing, and what comes near them.
    """
    missing = [column for column in wanted if column not in names]
    if not missing:
        return
    near = [n for column in missing for n in difflib.get_close_matches(column, names, n=1)]
    shown = ", ".join(map(str, list(names)[:40])) + (", ..." if len(names) > 40 else "")
    raise CumaError(
        f"{where} lacks column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
        + (f"did you mean {', '.join(dict.fromkeys(near))}? " if near else "")
        + f"it has {shown}"
    )


def ending_of(path: pathlib.Path) -> str:
    """What a name ends in, leaving out .gz."""
    return pathlib.Path(path.name.lower().removesuffix(".gz")).suffix


def kind_of(path: pathlib.Path) -> str:
    """The format of a file, by its name.

    Raises:
        CumaError: it is not one of `KINDS`.
    """
    kind = KINDS.get(ending_of(path))
    if kind is None or (_gzipped(path) and kind in ("parquet", "arrow")):
        raise CumaError(f"{path}: this format is not read; the name must end in {ENDINGS}")
    return kind


def _gzipped(path: pathlib.Path) -> bool:
    return path.name.lower().endswith(".gz")


def read_file(path: pathlib.Path, columns: Sequence[str] | None, skipped: dict[str, int] | None) -> pa.Table:
    """The table in one file; see `tables.read_table`."""
    if path.stat().st_size == 0:
        raise CumaError(f"{path} is empty; fetch or export it again")
    kind = kind_of(path)
    try:
        if kind in ("csv", "tsv"):
            table = _read_csv(path, "\t" if kind == "tsv" else ",", columns, skipped)
        elif kind == "jsonl":
            table = _read_json(path, skipped)
        elif kind == "parquet":
            with pa.parquet.ParquetFile(path) as file:
                require_columns(file.schema_arrow.names, columns or (), path)
                table = decode_json(file.read(columns=None if columns is None else list(columns)))
        else:
            table = decode_json(_read_arrow(path))
        if kind in ("parquet", "arrow"):  # these may hold bytes that are no UTF-8
            table.validate(full=True)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CumaError(f"cannot read {path}: {reason}; is it damaged or cut off? Fetch or export it again") from None
    require_columns(table.column_names, columns or (), path)
    if table.num_rows == 0:
        raise CumaError(f"{path} has no rows; fetch or export it again")
    return table if columns is None else table.select(list(columns))


def _open(path: pathlib.Path) -> BinaryIO:
    return gzip.open(path) if _gzipped(path) else path.open("rb")  # type: ignore[return-value]


@contextlib.contextmanager
def _source(path: pathlib.Path) -> Iterator[Any]:
    """What Arrow's readers take: gzip through Python, which notices a file that is cut off."""
    if _gzipped(path):
        with gzip.open(path) as stream:
            yield pa.PythonFile(stream, mode="r")
    else:
        yield str(path)


def _read_csv(
    path: pathlib.Path, delimiter: str, columns: Sequence[str] | None, skipped: dict[str, int] | None
) -> pa.Table:
    header = _header(path, delimiter)
    if columns is not None and not set(columns) <= set(header):
        if other := other_delimiter(header, delimiter, columns):
            raise CumaError(
                f"{path} is separated by {DELIMITERS[other]}; a .csv must be separated by commas and a .tsv by tabs: "
                "save it again, or rename it"
            )
        require_columns(header, columns, path)
    bad: list[Any] = []

    def on_bad(row: Any) -> str:
        bad.append(row)
        return "error" if skipped is None else "skip"

    def read(use_threads: bool) -> pa.Table:
        bad.clear()
        with _source(path) as source:
            return pa.csv.read_csv(
                source,
                read_options=pa.csv.ReadOptions(block_size=_BLOCK, use_threads=use_threads),
                parse_options=pa.csv.ParseOptions(
                    delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_bad
                ),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=list(columns or ()),
                    column_types=dict.fromkeys(header, pa.large_string()),
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )

    try:
        try:
            table = read(use_threads=True)
        except pa.ArrowInvalid:
            table = read(use_threads=False)  # only one thread knows the number of the row
    except pa.ArrowInvalid as error:
        _not_utf8(path)
        if bad:
            row = bad[0]
            raise CumaError(
                f"{path}, row {row.number} (the column names are row 1): {row.actual_columns} cells instead of "
                f"{row.expected_columns} ({(row.text or '')[:80]!r}); is a quote or a delimiter missing? Cells that "
                'hold commas, quotes or line ends must be in double quotes, a quote in them written ""'
            ) from None
        raise CumaError(f"cannot read {path}: {error}") from None
    if bad and skipped is not None:
        skipped[UNREADABLE] = skipped.get(UNREADABLE, 0) + len(bad)
    last = table.slice(table.num_rows - 1).to_pylist() if table.num_rows else [{}]
    if any("\n" in (cell or "") for cell in last[0].values()) and _quotes(path) % 2:
        raise CumaError(
            f"{path}: a quote is never closed; the last record runs to the end of the file: {last[0]!r:.200}"
        )
    return table


def _quotes(path: pathlib.Path) -> int:
    with _open(path) as stream:
        return sum(block.count(b'"') for block in iter(lambda: stream.read(_BLOCK), b""))


def _header(path: pathlib.Path, delimiter: str) -> list[str]:
    try:
        with _open(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            header = next(csv.reader(text, delimiter=delimiter), [])
    except UnicodeDecodeError:
        _not_utf8(path)
        raise CumaError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except csv.Error as error:
        raise CumaError(f"{path}: cannot read its first line, the column names: {error}") from None
    if not any(header):
        raise CumaError(f"{path}: its first line is empty; it must hold the column names")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise CumaError(f"{path}: column names occur twice: {', '.join(map(repr, repeated))}")
    return header


def _not_utf8(path: pathlib.Path) -> None:
    """Raises the error that names the first line that is not UTF-8, if there is one."""
    with _open(path) as stream:
        found = first_not_utf8(stream)
    if found:
        advice = "save the file as UTF-8, e.g. iconv -f latin1 -t utf8"
        raise CumaError(f"{path}, line {found[0]}: {found[1]}; {advice}")


def _read_json(path: pathlib.Path, skipped: dict[str, int] | None) -> pa.Table:
    options = pa.json.ReadOptions(block_size=_BLOCK)
    try:
        with _source(path) as source:
            table = pa.json.read_json(source, read_options=options)
        table.validate(full=True)
        return table
    except (pa.ArrowException, UnicodeDecodeError) as error:  # the latter: of a key
        _not_utf8(path)
        kept = _sound_lines(path, skipped)
        if skipped is None:  # every line is sound to Python
            raise CumaError(f"cannot read {path}: {error}; write one JSON object a line") from None
    if not kept:
        raise CumaError(f"{path} has no line that can be read; write one JSON object a line")
    return pa.json.read_json(pa.BufferReader(b"".join(kept)), read_options=options)


def _sound_lines(path: pathlib.Path, skipped: dict[str, int] | None) -> list[bytes]:
    """The lines that hold an object whose values are of the same types as in the lines before."""
    types: dict[str, str] = {}
    kept = []
    with _open(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"), parse_constant=_no_constant)
                json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
                if not isinstance(row, dict):
                    hint = "; a file of one JSON array is not read" if number == 1 and line.lstrip()[:1] == b"[" else ""
                    raise ValueError(f"it is no object{hint}")
                here: dict[str, str] = {}
                for where, kind in _types(row, ""):
                    before = types.get(where, here.setdefault(where, kind))
                    if before != kind:
                        raise ValueError(f"{where.lstrip('.')} is {kind}, but {before} before it")
            except (ValueError, RecursionError) as error:
                if skipped is None:
                    raise CumaError(f"{path}, line {number}: {error}; write one JSON object a line") from None
                skipped[UNREADABLE] = skipped.get(UNREADABLE, 0) + 1
                continue
            types |= here
            kept.append(line.rstrip(b"\r\n") + b"\n")
    return kept


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _types(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """(place, type) of every value in a JSON value; nulls have no type."""
    if isinstance(value, dict):
        yield where, "an object"
        for key, item in value.items():
            yield from _types(item, f"{where}.{key}")
    elif isinstance(value, list):
        yield where, "a list"
        for item in value:
            yield from _types(item, f"{where}[]")
    elif value is not None:
        kinds = {bool: "true or false", str: "a text"}
        yield where, kinds.get(type(value), "a number")


def _read_arrow(path: pathlib.Path) -> pa.Table:
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()


def decode_json(table: pa.Table) -> pa.Table:
    """`table` with columns of JSON texts (Arrow's type arrow.json, also inside lists) as nested columns.

    `datasets` 5 makes such columns where the objects of a list do not all have the same keys.

    Raises:
        pa.ArrowInvalid: values of one place are of different types.
    """
    for place, field in enumerate(table.schema):
        if _holds_json(field.type):
            array = pa.concat_arrays(table.column(place).chunks)
            table = table.set_column(place, field.name, _decoded(array))
    return table


def _holds_json(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_json(kind.value_type)
    return getattr(kind, "extension_name", "") == "arrow.json"


def _decoded(array: pa.Array) -> pa.Array:
    if isinstance(array, (pa.ListArray, pa.LargeListArray)):
        lengths = pa.compute.fill_null(pa.compute.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        make = pa.LargeListArray if isinstance(array, pa.LargeListArray) else pa.ListArray
        offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int64() if make is pa.LargeListArray else pa.int32())
        return make.from_arrays(offsets, _decoded(array.flatten()), mask=array.is_null())
    lines = b"\n".join(b'{"v": %s}' % (text.as_py() or "null").encode() for text in array.storage)
    if not lines:
        return pa.nulls(0)
    read, parse = pa.json.ReadOptions(block_size=_BLOCK), pa.json.ParseOptions(newlines_in_values=True)
    return pa.json.read_json(pa.BufferReader(lines), read, parse)["v"].combine_chunks()
