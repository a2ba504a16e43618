"""Community Alignment (facebook/community-alignment-dataset): four responses a turn, up to four turns, one preferred.

Zhang et al. 2025, arXiv 2507.09650; CC-BY-4.0. docs/community_alignment.md says what is read and what is dropped.

Shapes: N rows of the source, C conversations kept.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cuma_jax.config.data import DataConfig
from cuma_jax.preferences import raw_turns, texts
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key
from cuma_jax.tables.header import require_columns
from cuma_jax.tables.hub import hub_table
from cuma_jax.tables.read import read_table, table_files, table_key

VERSION = "1"
"""Raised whenever the reader's result changes: part of the cache key."""

HUB_NAME = "facebook/community-alignment-dataset"
HUB_REVISION = "97343c7f6399fcbea430ed0f37c1768281a78d56"
"""The commit of v1.1 that this reader was written against."""

TURN_NAMES = ("first", "second", "third", "fourth")
RESPONSES = ("response_a", "response_b", "response_c", "response_d")
FIELDS = {
    "annotator_country": "country",
    "annotator_age": "age",
    "annotator_gender": "gender",
    "annotator_education_level": "education",
    "annotator_political": "political",
    "annotator_ethnicity": "ethnicity",
}
"""Columns of the profile, and the names of their fields."""

FLAGS = ("is_pregenerated_first_prompt", "in_balanced_subset", "in_balanced_subset_10")
LABELS = {"assigned_lang": "language", "wave": "wave"}
SUBSETS = {"": "train", "v1.1": "train", "v1.0/full": "full", "v1.0/filtered": "filtered"}
"""Values of `data.subset`, and the split each is on the hub."""

_SLICE = 8_192  # rows at a time, so that temporary copies of their texts stay small
_TURN_COLUMNS = [f"{turn}_turn_{part}" for turn in TURN_NAMES for part in ("prompt", *RESPONSES, "preferred_response")]


def prepare(data: DataConfig, hub_cache: str) -> tuple[str, Callable[[], Preferences]]:
    """A source of `preferences.load.SOURCES`; `path`, `revision`, `subset` and `bad_rows` of `data` are used."""
    given = data.path, data.revision, data.subset, data.bad_rows, hub_cache
    named = (table_key(_local(data.path, data.subset)),) if data.path else (HUB_NAME, *_hub(data.revision, data.subset))
    return content_key(VERSION, *named), lambda: read_community_alignment(*given)


def read_community_alignment(
    path: str = "",
    revision: str = "",
    subset: str = "",
    bad_rows: Literal["error", "skip"] = "error",
    cache_dir: str | None = None,
) -> Preferences:
    """Reads the table: one conversation a row, each turn with a preferred response and at most four distinct
    candidates; no scores. A `CumaError` where it cannot be read, lacks columns, or nothing of it can be used.

    Args:
        path: a file, or a folder of files; empty: from the hub.
        revision: the hub's commit; empty: `HUB_REVISION` (v1.1).
        subset: a key of `SUBSETS`; empty: v1.1.
        bad_rows: stop at a row that has no ids, repeats a conversation's, or prefers a response of no known name; or
            leave it out and count it.
    """
    skipped: dict[str, int] = {}
    columns = ["conversation_id", "annotator_id", *_TURN_COLUMNS, *FIELDS]
    if path:
        where: object = _local(path, subset)
        table = read_table(_local(path, subset), skipped=None if bad_rows == "error" else skipped)
    else:
        commit, config, split = _hub(revision, subset)
        where = f"{HUB_NAME} at {commit}"
        # By default pandas, which `datasets` reads csv with, takes a response "None" or "N/A" for a missing one.
        options = {"keep_default_na": False, "na_values": [""]}
        table = hub_table(HUB_NAME, config or None, commit, split, cache_dir, **options)
    require_columns(table.column_names, columns, where)
    extra = [name for name in (*FLAGS, *LABELS) if name in table.column_names]
    table = _sound_rows(table.select([*columns, *extra]), bad_rows, skipped, where)

    parts, kept_N = [], np.zeros(len(table), bool)
    for start in range(0, len(table), _SLICE):
        piece = table.slice(start, _SLICE)
        turns, kept = raw_turns.build_turns(_raw_turns(piece, bad_rows, skipped, where), len(piece), skipped)
        parts.append(raw_turns.shifted(turns, int(kept_N.sum())))
        kept_N[start : start + len(piece)] = kept
    if not kept_N.any():
        raise CumaError(f"{where}: no conversation can be used: {skipped}")
    turns, table = pa.concat_tables(parts), table.filter(pa.array(kept_N))
    respondents, person = _annotators(table, where, skipped)
    opening = turns.filter(pc.equal(turns["turn"], 0))["prompt"]
    prompt_ids, prompt = texts.number_prompts(texts.joined(opening))
    conversations = pd.DataFrame(
        {
            "conversation_id": texts.ids_of(table, "conversation_id", where).astype("str"),
            "person": person,
            "prompt": prompt,
        }
    )
    for column, name in LABELS.items():
        if column in table.column_names:
            label = texts.text_column(table, column, where, numbers=True)
            conversations[name] = raw_turns.profile_column(label.to_pandas())
    for column in FLAGS:
        if column in table.column_names:
            conversations[column] = raw_turns.flag_column(table[column])
    return Preferences(
        "community_alignment", respondents, tuple(FIELDS.values()), conversations, prompt_ids, turns, skipped
    )


def _local(path: str, subset: str) -> pathlib.Path:
    """The file or folder to read; v1.0 has two files that overlap."""
    split = _split(subset)
    files = table_files(path)
    named = [file for file in files if file.name.startswith(("full_", "filtered_"))]
    if not named or len(files) == 1:
        return pathlib.Path(path).expanduser()
    chosen = [file for file in files if file.name.startswith(f"{split}_")]
    if len(chosen) != 1:
        raise CumaError(
            f"{path} holds {', '.join(file.name for file in files)}, which overlap; say which: --data.subset v1.0/full "
            "or v1.0/filtered, or name one file"
        )
    return chosen[0]


def _split(subset: str) -> str:
    if subset not in SUBSETS:
        raise CumaError(f"data.subset {subset!r} is none of community_alignment's: {', '.join(filter(None, SUBSETS))}")
    return SUBSETS[subset]


def _hub(revision: str, subset: str) -> tuple[str, str, str]:
    """Commit, config and split on the hub."""
    split = _split(subset)
    if split == "train":
        return revision or HUB_REVISION, "", split
    if not revision:
        raise CumaError(
            f"data.subset {subset!r}: v1.0 is an older commit of {HUB_NAME}; name it (--data.revision), or a copy of "
            "its files (--data.path)"
        )
    return revision, "benchmark", split


def _sound_rows(
    table: pa.Table, bad_rows: Literal["error", "skip"], skipped: dict[str, int], where: object
) -> pa.Table:
    ids, annotators = (texts.ids_of(table, column, where) for column in ("conversation_id", "annotator_id"))
    unnamed = (ids.isna() | annotators.isna()).to_numpy()
    reason = "rows without a conversation_id or annotator_id"
    raw_turns.drop_bad(unnamed, reason, lambda n: f"record {n + 1}", bad_rows, skipped, where)
    repeated = (ids.duplicated() & ids.notna()).to_numpy() & ~unnamed
    reason = "rows that repeat the conversation_id of another"
    raw_turns.drop_bad(repeated, reason, lambda n: f"conversation {ids.iloc[n]}", bad_rows, skipped, where)
    return table.filter(pa.array(~unnamed & ~repeated))


def _raw_turns(
    table: pa.Table, bad_rows: Literal["error", "skip"], skipped: dict[str, int], where: object
) -> raw_turns.RawTurns:
    """The four turns of each row, those that are missing too; candidates in the order a, b, c, d."""
    num_rows, num_turns = len(table), len(TURN_NAMES)
    prompt_T, preferred_T = (_rows_first(table, [part], where) for part in ("prompt", "preferred_response"))
    preferred_T = pc.utf8_lower(pc.utf8_trim_whitespace(preferred_T))
    position_T = pc.index_in(preferred_T, pa.array(RESPONSES, pa.large_string())).fill_null(-1).to_numpy()
    said_T = pc.fill_null(pc.not_equal(preferred_T, ""), False).to_numpy(zero_copy_only=False)
    ids = table["conversation_id"]

    def name(t: int) -> str:
        turn = TURN_NAMES[t % num_turns]
        return f"conversation {ids[t // num_turns]}, {turn}_turn_preferred_response {preferred_T[t].as_py()!r}"

    reason = f"preferred responses that are none of {', '.join(RESPONSES)}"
    raw_turns.drop_bad(said_T & (position_T < 0), reason, name, bad_rows, skipped, where)
    choice_X = np.tile(np.arange(len(RESPONSES)), num_rows * num_turns)
    return raw_turns.RawTurns(
        conversation_T=np.repeat(np.arange(num_rows), num_turns),
        turn_T=np.tile(np.arange(num_turns), num_rows),
        prompt_T=prompt_T,
        turn_X=np.repeat(np.arange(num_rows * num_turns), len(RESPONSES)),
        text_X=_rows_first(table, RESPONSES, where),
        chosen_X=choice_X == np.repeat(position_T, len(RESPONSES)),
    )


def _rows_first(table: pa.Table, parts: Sequence[str], where: object) -> pa.Array:
    """These parts of the four turns as one array: the first row's values, the second row's, ..."""
    names = [f"{turn}_turn_{part}" for turn in TURN_NAMES for part in parts]
    columns = [texts.joined(texts.text_column(table, name, where)) for name in names]
    order = np.arange(len(columns) * len(table)).reshape(len(columns), len(table)).T.ravel()
    return pa.concat_arrays(columns).take(pa.array(order))


def _annotators(table: pa.Table, where: object, skipped: dict[str, int]) -> tuple[pd.DataFrame, np.ndarray]:
    """One row an annotator, and the annotator of each conversation."""
    names, person = np.unique(texts.ids_of(table, "annotator_id", where).to_numpy(dtype=object), return_inverse=True)
    rows = {}
    for column, field in FIELDS.items():
        values = texts.text_column(table, column, where, numbers=True).to_pandas()
        rows[field] = raw_turns.profile_column(values, title=field == "country")
    profiles = raw_turns.most_frequent(pd.DataFrame(rows), person, len(names), skipped)
    respondents = pd.DataFrame({"respondent_id": pd.Series(names, dtype="str"), "weight": 1.0})
    return pd.concat([respondents, profiles], axis=1), person.astype(np.int32)
