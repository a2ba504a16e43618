"""Tables from files of the usual formats, and from the Hugging Face hub, as Arrow.

A name's ending says the format: csv, tsv, jsonl (ndjson), parquet, arrow (feather); the text formats may be gzipped. A
folder is its files one after the other, in name order, or a data set that `datasets.save_to_disk` wrote.
"""

import functools
import hashlib
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.formats import ENDINGS, KINDS, decode_json, ending_of, kind_of, read_file


def read_table(
    path: pathlib.Path | str, columns: Sequence[str] | None = None, skipped: dict[str, int] | None = None
) -> pa.Table:
    """The table in a file or folder.

    Args:
        path: a file of a format above, or a folder of files of one format.
        columns: the columns wanted, in this order; None: all.
        skipped: None: a line that cannot be read is an error. Else such lines are left out and counted here, under
            `UNREADABLE`: csv rows with too many or too few cells; jsonl lines that are no JSON object or hold a value
            of another type than the lines before.

    Returns:
        One row a record. Every csv and tsv column is of strings (large_string), an empty cell is null; other formats
        keep their types.

    Raises:
        CumaError: nothing is there, a format is not known, a file is empty, damaged, not UTF-8, or lacks columns; it
            names the file, and the line where there is one.
    """
    tables = [read_file(file, columns, skipped) for file in table_files(path)]
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise CumaError(f"the files in {path} do not go together: {error}; give each its own data.path") from None


def table_files(path: pathlib.Path | str) -> list[pathlib.Path]:
    """The files that `read_table` would read, in order.

    Raises:
        CumaError: there is nothing to read, or it is of no format or of several.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_file():
        kind_of(path)
        return [path]
    if not path.is_dir():
        raise CumaError(f"{path} does not exist; give a file or a folder of {ENDINGS}")
    if (path / "dataset_dict.json").is_file():
        raise CumaError(
            f"{path} holds several splits, written by save_to_disk; name one of its folders: "
            + ", ".join(str(state.parent) for state in sorted(path.glob("*/state.json")))
        )
    if (path / "state.json").is_file():
        return _saved_to_disk(path)
    found = [f for f in sorted(path.iterdir()) if f.is_file() and ending_of(f) in KINDS and not f.name.startswith(".")]
    if not found and (path / "data").is_dir():
        return table_files(path / "data")
    if not found:
        raise CumaError(f"{path} holds no file that ends in {ENDINGS}")
    if len(kinds := {kind_of(file) for file in found}) > 1:
        raise CumaError(f"{path} holds files of several formats ({', '.join(sorted(kinds))}); name one of its files")
    return found


def table_key(path: pathlib.Path | str) -> str:
    """A hex key of the bytes of every file that `read_table` would read.

    Raises:
        CumaError: as `table_files`.
    """
    digest = hashlib.sha256()
    for file in table_files(path):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "blake2b").digest())
    return digest.hexdigest()[:32]


def hub_table(
    name: str, config: str | None, revision: str, split: str = "train", cache_dir: str | None = None, **options: Any
) -> pa.Table:
    """A split of a data set on the Hugging Face hub (or of a local folder laid out like one), through `datasets`.

    Args:
        name: `owner/name`, or a folder.
        config: the data set's configuration; None: its only one.
        revision: commit hash or tag; empty: the newest.
        split: the split.
        cache_dir: where `datasets` keeps what it fetched; None: its own place.
        options: passed on to the reader of `datasets`, e.g. `keep_default_na` for csv.

    Raises:
        CumaError: it cannot be fetched or read; the message says how to do without the hub.
    """
    import datasets  # costs a second, and most runs need none of it

    try:
        loaded = datasets.load_dataset(
            name, config, revision=revision or None, split=split, cache_dir=cache_dir, **options
        )
    except Exception as error:  # the hub's clients raise errors of a dozen unrelated types
        raise _hub_error(name, config, revision, split, error) from None
    try:
        return decode_json(loaded.data.table)
    except pa.ArrowException as error:
        raise CumaError(
            f"{name} at {revision or 'its newest commit'}: {error}; download its files and name them: --data.path"
        ) from None


@functools.cache
def newest_revision(name: str) -> str:
    """The hash of the newest commit of a data set on the hub, asked for once; says on stderr which it is.

    Raises:
        CumaError: the hub does not answer.
    """
    import huggingface_hub

    try:
        revision = huggingface_hub.HfApi().dataset_info(name).sha or "main"
    except Exception as error:  # as above
        raise _hub_error(name, None, "", None, error) from None
    print(f"{name}: reading its newest commit; --data.revision {revision} pins it", file=sys.stderr, flush=True)
    return revision


def _hub_error(name: str, config: str | None, revision: str, split: str | None, error: Exception) -> CumaError:
    what = " ".join([name, *(f"{k} {v}" for k, v in [("config", config), ("split", split)] if v)])
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return CumaError(
        f"cannot read the data set {what} at {revision or 'its newest commit'} from the Hugging Face hub "
        f"({type(error).__name__}: {reason}); check the network, or download its files and name the file or folder: "
        "--data.path"
    )


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
