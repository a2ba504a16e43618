"""JSON lines, one object a line; and JSON texts inside columns."""

import io
import json
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.json

from cuma_jax.tables.encoding import UNREADABLE_LINES, report_not_utf8
from cuma_jax.tables.packed import Unpacked, unpacked
from cuma_jax.tables.problems import Problems, count_skipped

_BLOCK = 32 << 20  # bytes; a line must fit in one
_DEEPEST = 200  # objects and lists within each other
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_ADVICE = "write one JSON object a line"


def read_jsonl(
    path: pathlib.Path, columns: Sequence[str] | None, problems: Problems, skipped: dict[str, int] | None
) -> pa.Table | None:
    """A reader of `formats`: JSON lines, plain or packed; columns may be nested.

    Where Arrow cannot read all columns, only those of `columns` are looked at: "a" is a key, "a.b" the key b of the
    object (or of the objects in the list) a, of which other keys are then left out.
    """
    options = pa.json.ReadOptions(block_size=_BLOCK)
    deep = _deep_line(path)  # which Arrow's reader would not survive
    try:
        if deep:
            raise pa.ArrowInvalid(f"line {deep} is nested more than {_DEEPEST} deep")
        with unpacked(path) as stream:
            # A plain file by its name: Arrow's threads then need nothing of Python.
            plain = isinstance(stream, io.BufferedReader) and not isinstance(stream, Unpacked)
            table = pa.json.read_json(str(path) if plain else stream, read_options=options)
        table.validate(full=True)
        return table
    except (pa.ArrowException, UnicodeDecodeError) as error:  # the latter: of a key
        reason = str(error)
    with unpacked(path) as stream:
        if report_not_utf8(path, stream, problems):
            return None
    kept = _sound_lines(path, columns, problems, skipped)
    if kept is None:
        return None
    if not kept:
        problems.error(path, None, None, "has no line that can be read", _ADVICE)
        return None
    try:
        return pa.json.read_json(pa.BufferReader(b"".join(kept)), read_options=options)
    except pa.ArrowException:  # every line is sound to Python
        problems.error(path, None, None, f"cannot be read ({reason})", _ADVICE)
        return None


def _deep_line(path: pathlib.Path) -> int:
    """The number of the first line that is nested too deeply; 0: none is."""
    with unpacked(path) as stream:
        number = 1
        while line := stream.readline(_BLOCK):
            if _is_deep(line):
                return number
            number += line.endswith(b"\n")
    return 0


def _is_deep(line: bytes) -> bool:
    if line.count(b"[") + line.count(b"{") <= _DEEPEST:
        return False
    text = np.frombuffer(_STRING.sub(b"", line), np.uint8)
    opened = np.isin(text, (ord("["), ord("{"))).astype(np.int32) - np.isin(text, (ord("]"), ord("}")))
    return int(np.cumsum(opened).max(initial=0)) > _DEEPEST


def _only(value: Any, keys: Sequence[str] | None) -> Any:
    """The parts of a JSON value that `keys` name; None: all."""
    if not keys:
        return value
    if isinstance(value, list):
        return [_only(item, keys) for item in value]
    if not isinstance(value, dict):
        return value
    inner: dict[str, list[str]] = {}
    for key in keys:
        name, _, rest = key.partition(".")
        inner.setdefault(name, []).extend([rest] if rest else [])
    return {name: _only(value[name], rest) for name, rest in inner.items() if name in value}


def _sound_lines(
    path: pathlib.Path, columns: Sequence[str] | None, problems: Problems, skipped: dict[str, int] | None
) -> list[bytes] | None:
    """The lines that hold an object whose values are of the same types as in the lines before; None: a problem."""
    types: dict[str, str] = {}
    kept = []
    with unpacked(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                if _is_deep(line):
                    raise RecursionError(f"it is nested more than {_DEEPEST} deep")
                row = json.loads(line.decode("utf-8-sig"), parse_constant=_no_constant)
                row = _only(row, columns) if isinstance(row, dict) else row
                line = json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
                if not isinstance(row, dict):
                    hint = "; a file of one JSON array is not read" if number == 1 and isinstance(row, list) else ""
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
            kept.append(line + b"\n")
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
