"""Spreadsheets (xlsx, xlsm, ods): the first sheet that holds something, its cells as texts."""

import datetime
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.encoding import visible
from cuma_jax.tables.problems import Problems

NAMES = (".xlsx", ".xlsm", ".ods")
"""What a name ends in; which of them it is, pandas sees from the bytes."""

_RATIO, _FREE = 100, 64 << 20  # as in `packed`: what unpacks to more is no table
_EXACT = 2**53


def read_spreadsheet(
    path: pathlib.Path, columns: Sequence[str] | None, problems: Problems, skipped: object
) -> pa.Table | None:
    """A `formats.Reader`: every column of texts, a cell without a value null; a number that is whole has no point.

    The first row holds the names of the columns.
    """
    import pandas as pd

    again = "save the sheet as csv (UTF-8), and name that file"
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > _FREE + _RATIO * path.stat().st_size:
                problems.error(path, None, None, f"unpacks to {size / 1e6:.3g} MB, which no table does", again)
                return None
        with pd.ExcelFile(path) as book:
            sheets = {str(name): _cells(book, name) for name in book.sheet_names}
    except ImportError:
        message = f"{path}: {path.suffix} files are read by openpyxl and odfpy: pip install 'cuma_jax[survey]'"
        raise CumaError(message) from None
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the readers' own, of the zip, of XML, and of what is in it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        hint = f"is it damaged, cut off, or protected by a password? Then {again}"
        problems.error(path, None, None, f"cannot be read as a spreadsheet ({reason})", hint)
        return None
    full = [name for name, rows in sheets.items() if rows]
    if not full:
        problems.error(path, None, None, "the file is empty", problems.advice.again)
        return None
    if len(full) > 1:
        message = f"only its first sheet, {full[0]!r}, is read; there are {', '.join(map(repr, full[1:]))}"
        problems.warning(path, None, None, message, "save another sheet as csv, if that is meant")
    names, *rows = sheets[full[0]]
    width = max((n + 1 for n, name in enumerate(names) if name is not None), default=0)
    texts = [[row[n] if n < len(row) else None for row in rows] for n in range(width)]
    return pa.Table.from_arrays(
        [pa.array(column, pa.large_string()) for column in texts], names=[name or "" for name in names[:width]]
    )


def _cells(book: Any, name: int | str) -> list[list[str | None]]:
    """The cells of a sheet row by row, without empty rows at its end."""
    frame = book.parse(name, header=None, dtype=object, keep_default_na=False, na_filter=False)
    rows = [[_text(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    while rows and not any(rows[-1]):
        rows.pop()
    return rows


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).upper()  # as spreadsheets show it
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return visible(str(value)) or None if value is not None else None
