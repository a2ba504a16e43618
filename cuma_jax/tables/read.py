"""Tables from files and folders, as Arrow.

A name's ending says the format (`formats.READERS`): csv, tsv, jsonl (ndjson, json), parquet (pq), arrow (feather). The
text formats may be packed (`packed.PACKED`: gzip, bzip2, xz, zstd). A folder is its files one after the other, in name
order, or a data set that `datasets.save_to_disk` wrote.
"""

import hashlib
import json
import pathlib
from collections.abc import Sequence

import pyarrow as pa

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.formats import ENDINGS, READERS, ending_of, read_file, reader_of
from cuma_jax.tables.header import require_columns
from cuma_jax.tables.packed import digest, given_path
from cuma_jax.tables.problems import Strict


def read_table(
    path: pathlib.Path | str,
    columns: Sequence[str] | None = None,
    skipped: dict[str, int] | None = None,
    optional: Sequence[str] = (),
) -> pa.Table:
    """The table in a file or folder.

    Args:
        path: a file of a format above, or a folder of files of one format.
        columns: the columns wanted, in this order; None: all. "a.b" is the key b of the objects in column a.
        skipped: None: a line that cannot be read is an error. Else such lines are left out and counted here, under
            `UNREADABLE_LINES`: csv rows with too many or too few values; jsonl lines that are no JSON object or hold a
            value of another type (in a column that is wanted) than the lines before.
        optional: columns that are wanted as well, if they are there.

    Returns:
        One row a record. Every csv and tsv column is of strings (large_string), an empty one null; other formats keep
        their types.

    Raises:
        CumaError: nothing is there, a format is not known, a file is empty, damaged, not UTF-8, or lacks columns; it
            names the file, and the line where there is one.
    """
    tables = [_read_one(file, columns, skipped, optional) for file in table_files(path)]
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise CumaError(f"the files in {path} do not go together: {error}; give each its own data.path") from None


def _read_one(
    path: pathlib.Path, columns: Sequence[str] | None, skipped: dict[str, int] | None, optional: Sequence[str]
) -> pa.Table:
    table = read_file(path, columns, skipped=skipped, optional=optional)
    assert table is not None, "no table, and no error that says why"
    if columns is None:
        return table
    names = list(dict.fromkeys(name if name in table.column_names else name.partition(".")[0] for name in columns))
    require_columns(table.column_names, names, path)
    return table.select([*names, *(name for name in optional if name in table.column_names)])


def table_files(path: pathlib.Path | str) -> list[pathlib.Path]:
    """The files that `read_table` would read, in order; a `CumaError` for none, for no known format, or for several."""
    path = given_path(path)
    if path.is_file():
        reader_of(path, Strict())
        return [path]
    if not path.is_dir():
        what = "is a pipe or a device" if path.exists() else "does not exist"
        raise CumaError(f"{path} {what}; give a file or a folder of {ENDINGS}")
    if (path / "dataset_dict.json").is_file():
        raise CumaError(
            f"{path} holds several splits, written by save_to_disk; name one of its folders: "
            + ", ".join(str(state.parent) for state in sorted(path.glob("*/state.json")))
        )
    if (path / "state.json").is_file():
        return _saved_to_disk(path)
    found = [
        f for f in sorted(path.iterdir()) if f.is_file() and ending_of(f) in READERS and not f.name.startswith(".")
    ]
    if not found and (path / "data").is_dir():
        return table_files(path / "data")
    if not found:
        raise CumaError(f"{path} holds no file that ends in {ENDINGS}")
    if len({reader_of(file, Strict()) for file in found}) > 1:
        kinds = sorted({ending_of(file) for file in found})
        raise CumaError(f"{path} holds files of several formats ({', '.join(kinds)}); name one of its files")
    return found


def table_key(path: pathlib.Path | str) -> str:
    """A hex key of the bytes of every file that `read_table` would read; errors are those of `table_files`."""
    key = hashlib.sha256()
    for file in table_files(path):
        key.update(digest(file, Strict()))
    return key.hexdigest()[:32]


def _saved_to_disk(path: pathlib.Path) -> list[pathlib.Path]:
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        files = [path / pathlib.PurePath(entry["filename"]).name for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CumaError(f"cannot read {path / 'state.json'} ({error!r}); save the data set again") from None
    if lacking := [file.name for file in files if not file.is_file()]:
        raise CumaError(f"{path} lacks {', '.join(lacking)}, which its state.json lists; copy the whole folder")
    if not files:
        raise CumaError(f"{path} is a saved data set without any file of data")
    return files
