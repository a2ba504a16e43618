"""JSON lines, one object a line; and JSON texts inside columns."""

import io
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.json

from cuma_jax.tables.encoding import UNREADABLE_LINES, report_not_utf8
from cuma_jax.tables.packed import unpacked
from cuma_jax.tables.problems import Problems, count_skipped

_BLOCK = 32 << 20  # bytes; a line must fit in one
_ADVICE = "write one JSON object a line"


def read_jsonl(
    path: pathlib.Path, columns: Sequence[str] | None, problems: Problems, skipped: dict[str, int] | None
) -> pa.Table | None:
    """A reader of `formats`: JSON lines, plain or packed, all columns; they may be nested."""
    options = pa.json.ReadOptions(block_size=_BLOCK)
    try:
        with unpacked(path) as stream:
            # A plain file by its name: Arrow's threads then need nothing of Python.
            plain = isinstance(stream, io.BufferedReader)
            table = pa.json.read_json(str(path) if plain else stream, read_options=options)
        table.validate(full=True)
        return table
    except (pa.ArrowException, UnicodeDecodeError) as error:  # the latter: of a key
        reason = str(error)
    with unpacked(path) as stream:
        if report_not_utf8(path, stream, problems):
            return None
    kept = _sound_lines(path, problems, skipped)
    if kept is None:
        return None
    if skipped is None:  # every line is sound to Python
        problems.error(path, None, None, f"cannot be read ({reason})", _ADVICE)
        return None
    if not kept:
        problems.error(path, None, None, "has no line that can be read", _ADVICE)
        return None
    return pa.json.read_json(pa.BufferReader(b"".join(kept)), read_options=options)


def _sound_lines(path: pathlib.Path, problems: Problems, skipped: dict[str, int] | None) -> list[bytes] | None:
    """The lines that hold an object whose values are of the same types as in the lines before; None: a problem."""
    types: dict[str, str] = {}
    kept = []
    with unpacked(path) as stream:
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
                    problems.error(path, number, None, str(error), _ADVICE)
                    return None
                count_skipped(skipped, UNREADABLE_LINES)
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


def decode_json(table: pa.Table) -> pa.Table:
    """`table` with columns of JSON texts (Arrow's type arrow.json, also inside lists) as nested columns.

    `datasets` 5 makes such columns where the objects of a list do not all have the same keys. A `pa.ArrowInvalid` where
    values of one place are of different types.
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
