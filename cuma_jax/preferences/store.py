"""Preference data on disk: a folder of three Parquet tables and one JSON file, written whole or not at all."""

import json
import pathlib

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from cuma_jax.preferences.preferences import TURNS_SCHEMA, Preferences
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write, undamaged

VERSION = "1"
"""Raised whenever the files change: part of the cache key."""

_RESPONDENTS, _CONVERSATIONS, _TURNS = "respondents.parquet", "conversations.parquet", "turns.parquet"
_META = "preferences.json"


def save_preferences(prefs: Preferences, folder: pathlib.Path) -> None:
    """Writes `prefs` to `folder` (an existing folder is kept as it is: folders are named by content)."""
    meta = {name: getattr(prefs, name) for name in ("name", "profile_fields", "prompt_ids", "skipped")}

    def write(part: pathlib.Path) -> None:
        part.mkdir()
        prefs.respondents.to_parquet(part / _RESPONDENTS, index=False, write_page_checksum=True)
        prefs.conversations.to_parquet(part / _CONVERSATIONS, index=False, write_page_checksum=True)
        pa.parquet.write_table(
            prefs.turns, part / _TURNS, row_group_size=16_384, compression="zstd", write_page_checksum=True
        )
        (part / _META).write_text(json.dumps(meta, ensure_ascii=False, indent=1), encoding="utf-8")

    atomic_write(folder, write)


def load_saved_preferences(folder: pathlib.Path) -> Preferences:
    """What `save_preferences` wrote to `folder`, equal in every value; a `CumaError` where a file cannot be read."""
    try:
        with undamaged(folder, "delete the folder, and the data are read anew"):
            return _load(folder)
    except FileNotFoundError as error:
        raise CumaError(f"{error.filename} is missing; delete {folder}, and the data are read anew") from None


def _load(folder: pathlib.Path) -> Preferences:
    meta = json.loads((folder / _META).read_text(encoding="utf-8"))
    turns = pa.parquet.read_table(folder / _TURNS, page_checksum_verification=True).cast(TURNS_SCHEMA)
    names = (_RESPONDENTS, _CONVERSATIONS)
    tables = [pd.read_parquet(folder / name, page_checksum_verification=True) for name in names]
    fields, prompt_ids = tuple(meta["profile_fields"]), tuple(meta["prompt_ids"])
    return Preferences(meta["name"], tables[0], fields, tables[1], prompt_ids, turns, meta["skipped"])
