"""Preference data on disk: a folder of three Parquet tables and one JSON file, written whole or not at all."""

import json
import pathlib

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from cuma_jax.preferences.preferences import TURNS_SCHEMA, Preferences
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write

VERSION = "1"
"""Raised whenever the files change: part of the cache key."""

_RESPONDENTS, _CONVERSATIONS, _TURNS = "respondents.parquet", "conversations.parquet", "turns.parquet"
_META = "preferences.json"


def save_preferences(prefs: Preferences, folder: pathlib.Path) -> None:
    """Writes `prefs` to `folder` (an existing folder is kept as it is: folders are named by content)."""
    meta = {name: getattr(prefs, name) for name in ("name", "profile_fields", "prompt_ids", "skipped")}

    def write(part: pathlib.Path) -> None:
        part.mkdir()
        prefs.respondents.to_parquet(part / _RESPONDENTS, index=False)
        prefs.conversations.to_parquet(part / _CONVERSATIONS, index=False)
        pa.parquet.write_table(prefs.turns, part / _TURNS, row_group_size=16_384, compression="zstd")
        (part / _META).write_text(json.dumps(meta, ensure_ascii=False, indent=1), encoding="utf-8")

    atomic_write(folder, write)


def load_saved_preferences(folder: pathlib.Path) -> Preferences:
    """What `save_preferences` wrote to `folder`, equal in every value; a `CumaError` where a file cannot be read."""
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        turns = pa.parquet.read_table(folder / _TURNS).cast(TURNS_SCHEMA)
        tables = [pd.read_parquet(folder / name) for name in (_RESPONDENTS, _CONVERSATIONS)]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise CumaError(f"cannot read the saved data in {folder}: {error}; delete the folder to rebuild it") from None
    fields, prompt_ids = tuple(meta["profile_fields"]), tuple(meta["prompt_ids"])
    return Preferences(meta["name"], tables[0], fields, tables[1], prompt_ids, turns, meta["skipped"])
