"""PRISM (HannahRoseKirk/prism-alignment): conversations with 21 models, every response scored from 1 to 100.

Kirk et al. 2024, arXiv 2404.16019; people's texts CC-BY-4.0, models' texts CC-BY-NC-4.0. docs/prism.md says what is
read and what is dropped.

Shapes: C conversations of the file, M messages, R respondents of the survey.
"""

import pathlib
from collections.abc import Callable
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
from cuma_jax.tables.formats import READERS, ending_of
from cuma_jax.tables.header import require_columns
from cuma_jax.tables.hub import hub_table
from cuma_jax.tables.read import read_table, table_key

VERSION = "1"
"""Raised whenever the reader's result changes: part of the cache key."""

HUB_NAME = "HannahRoseKirk/prism-alignment"
HUB_REVISION = "18ab5cfb37456f4ec8cbc00212ce54cf7b1239f6"
"""The commit that this reader was written against."""

FIELDS = {
    "location.reside_country": "country",
    "age": "age",
    "gender": "gender",
    "education": "education",
    "employment_status": "employment",
    "marital_status": "marital_status",
    "religion.simplified": "religion",
    "ethnicity.simplified": "ethnicity",
}
"""Columns of survey.jsonl that make a profile, and the names of their fields."""

OTHER_FIELDS = {"location.birth_country": "birth_country", "english_proficiency": "english_proficiency"}
"""Further columns that `profile.fields` may ask for."""

FLAGS = ("included_in_balanced_subset", "included_in_US_REP", "included_in_UK_REP")
MESSAGE = ("turn", "role", "content", "score", "if_chosen")

BAD_ROLES = "conversations whose roles are not one user message and then models' in every turn"
TWO_CHOSEN = "conversations with two different responses chosen in one turn"
BAD_SCORE = "conversations with scores outside 1 to 100"
NO_PERSON = "conversations of a user who is not in the survey"
NO_ID = "conversations without an id, a user or a history"
REPEATED = "conversations that repeat the id of another"
REPEATED_USER = "rows of the survey without a user_id, or with that of another"


def prepare(data: DataConfig, hub_cache: str) -> tuple[str, Callable[[], Preferences]]:
    """A source of `preferences.load.SOURCES`; `path`, `revision` and `bad_rows` of `data` are used."""
    if data.subset:
        raise CumaError(f"data.subset {data.subset!r}: prism has only one form; leave it empty")
    content = [HUB_NAME, data.revision or HUB_REVISION]
    if data.path:
        content = [table_key(_local(data.path, name)) for name in ("survey", "conversations")]
    return content_key(VERSION, *content), lambda: read_prism(data.path, data.revision, data.bad_rows, hub_cache)


def read_prism(
    path: str = "", revision: str = "", bad_rows: Literal["error", "skip"] = "error", cache_dir: str | None = None
) -> Preferences:
    """Reads the survey and the conversations; people are those of the survey who have a conversation, and `scores` has
    one score a candidate. A `CumaError` where a file cannot be read or lacks columns, or nothing in it can be used.

    Args:
        path: a folder with survey.jsonl and conversations.jsonl (or .parquet, .arrow, or folders of these names);
            empty: from the hub.
        revision: the hub's commit; empty: `HUB_REVISION`.
        bad_rows: stop at a conversation that cannot be right, or leave it out and count it.
    """
    skipped: dict[str, int] = {}
    tables, places = {}, {}
    for name in ("survey", "conversations"):
        if path:
            places[name] = str(_local(path, name))
            tables[name] = read_table(places[name], skipped=None if bad_rows == "error" else skipped)
        else:
            commit = revision or HUB_REVISION
            places[name] = f"{HUB_NAME} ({name}) at {commit}"
            tables[name] = hub_table(HUB_NAME, name, commit, "train", cache_dir)
    surveyed, row_of_user = _surveyed(tables["survey"], bad_rows, skipped, places["survey"])
    where, table = places["conversations"], tables["conversations"].combine_chunks()
    require_columns(table.column_names, ["conversation_id", "user_id", "conversation_history"], where)

    ids, users = (texts.ids_of(table, column, where) for column in ("conversation_id", "user_id"))
    history = _history(table, where)
    drop = _Drop(ids, bad_rows, skipped, where)
    silent = pc.fill_null(pc.list_value_length(history), 0).to_numpy() == 0
    drop((ids.isna() | users.isna()).to_numpy() | silent, NO_ID)
    drop(ids.duplicated().to_numpy(), REPEATED)
    person_C = users.map(row_of_user)
    drop(person_C.isna().to_numpy(), NO_PERSON)
    raw = _raw_turns(history, drop)
    turns, used_K = raw_turns.build_turns(raw, int((~drop.bad_C).sum()), skipped)
    if not used_K.any():
        raise CumaError(f"{where}: no conversation can be used: {skipped}")
    kept = np.flatnonzero(~drop.bad_C)[used_K]

    persons, person = np.unique(person_C.iloc[kept].to_numpy(np.int64), return_inverse=True)
    prompt_ids, prompt = texts.number_prompts(texts.joined(turns.filter(pc.equal(turns["turn"], 0))["prompt"]))
    conversations = pd.DataFrame(
        {"conversation_id": ids.iloc[kept].array, "person": person.astype(np.int32), "prompt": prompt}
    )
    table = table.take(pa.array(kept))
    if "conversation_type" in table.column_names:
        kind = texts.text_column(table, "conversation_type", where).to_pandas()
        conversations["conversation_type"] = raw_turns.profile_column(kind)
    for flag in FLAGS:
        if flag in table.column_names:
            conversations[flag] = raw_turns.flag_column(table[flag])
        elif flag in surveyed:
            conversations[flag] = surveyed[flag].iloc[persons[person]].array
    fields = ["respondent_id", "weight", *FIELDS.values(), *(f for f in OTHER_FIELDS.values() if f in surveyed)]
    respondents = surveyed.loc[persons, fields].reset_index(drop=True)
    return Preferences("prism", respondents, tuple(FIELDS.values()), conversations, prompt_ids, turns, skipped)


def _local(path: str, name: str) -> pathlib.Path:
    folder = pathlib.Path(path).expanduser()
    if not folder.is_dir():
        raise CumaError(
            f"data.path {path!r} is no folder; prism is a folder with survey.jsonl and conversations.jsonl, as on the "
            f"hub ({HUB_NAME})"
        )
    found = [f for f in sorted(folder.glob(f"{name}.*")) if f.is_file() and ending_of(f) in READERS]
    found += [
        f for f in (folder / name, folder / name / "train") if f.is_dir() and any(p.is_file() for p in f.iterdir())
    ]
    if len(found) != 1:
        what = f"holds {', '.join(f.name for f in found)}; keep one" if found else f"holds no {name}.jsonl"
        raise CumaError(f"{folder} {what} (survey and conversations are both needed; fetch them from {HUB_NAME})")
    return found[0]


def _nested(table: pa.Table, name: str, where: str) -> pa.ChunkedArray | None:
    """A column, or `column.key` of a nested one; None where there is none."""
    column, _, key = name.partition(".")
    if column not in table.column_names:
        return None
    if not key:
        return texts.text_column(table, column, where)
    kind = table.schema.field(column).type
    if not pa.types.is_struct(kind):
        raise CumaError(
            f"{where}: column {column} is of type {kind}, not nested; csv cannot hold it: use survey.jsonl or parquet"
        )
    if kind.get_field_index(key) < 0:
        return None
    return texts.text_column(pa.table({name: pc.struct_field(table[column], key)}), name, where)


def _surveyed(
    table: pa.Table, bad_rows: Literal["error", "skip"], skipped: dict[str, int], where: str
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The survey, one row a person, and the row of each user."""
    require_columns(table.column_names, ["user_id", *dict.fromkeys(f.partition(".")[0] for f in FIELDS)], where)
    users = texts.ids_of(table, "user_id", where)
    bad = (users.isna() | users.duplicated()).to_numpy()
    raw_turns.drop_bad(bad, REPEATED_USER, lambda n: f"record {n + 1}", bad_rows, skipped, where)
    frame = pd.DataFrame({"respondent_id": users.astype("str"), "weight": 1.0})
    for name, field in (FIELDS | OTHER_FIELDS).items():
        values = _nested(table, name, where)
        if values is None and name in FIELDS:
            raise CumaError(f"{where} lacks {name}; fetch the file again from {HUB_NAME}")
        if values is not None:
            frame[field] = raw_turns.profile_column(values.to_pandas())
    for flag in FLAGS:
        if flag in table.column_names:
            frame[flag] = raw_turns.flag_column(table[flag])
    frame = frame[~bad].reset_index(drop=True)
    return frame, {user: row for row, user in enumerate(frame["respondent_id"])}


def _history(table: pa.Table, where: str) -> pa.Array:
    """The conversations' messages, as one list array of structs with the fields `MESSAGE`."""
    kind = table.schema.field("conversation_history").type
    item = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
    if item is None or not pa.types.is_struct(item):
        raise CumaError(
            f"{where}: column conversation_history is of type {kind}, not a list of messages; use conversations.jsonl "
            "or parquet"
        )
    require_columns([field.name for field in item], MESSAGE, f"{where}: conversation_history")
    return pa.concat_arrays(table["conversation_history"].chunks)


class _Drop:
    """Conversations found bad so far; each counts under the first reason found."""

    def __init__(self, ids: pd.Series, bad_rows: Literal["error", "skip"], skipped: dict[str, int], where: str):
        self.bad_C = np.zeros(len(ids), bool)
        self.where = where
        self._arguments = (lambda c: f"conversation {ids.iloc[c]}", bad_rows, skipped, where)

    def __call__(self, bad_C: np.ndarray, reason: str) -> None:
        raw_turns.drop_bad(bad_C & ~self.bad_C, reason, *self._arguments)
        self.bad_C |= bad_C


def _raw_turns(history: pa.Array, drop: _Drop) -> raw_turns.RawTurns:
    """Turns of the conversations that are not bad; the checks of messages add to `drop`."""
    num_conversations = len(history)
    conversation_M = pc.list_parent_indices(history).to_numpy().astype(np.int64)
    messages = history.flatten()
    turn_M = _numbers(messages, "turn", drop.where)
    score_M = _numbers(messages, "score", drop.where)
    columns = pa.table({name: pc.struct_field(messages, name) for name in ("role", "content", "if_chosen")})
    role_M = texts.text_column(columns, "role", drop.where)
    user_M, model_M = (
        pc.fill_null(pc.equal(role_M, role), False).to_numpy(zero_copy_only=False) for role in ("user", "model")
    )
    content_M = texts.text_column(columns, "content", f"{drop.where}: conversation_history").combine_chunks()
    chosen_M = raw_turns.flag_column(columns["if_chosen"]).to_numpy(dtype=bool, na_value=False) & model_M

    # In the order of the file: turn 0's user, its models, turn 1's user, ...
    same_M = np.append(False, np.diff(conversation_M) == 0)[: len(turn_M)]
    step_M = np.diff(turn_M, prepend=np.nan)
    expected_M = np.where(user_M, ~same_M | (step_M > 0), same_M & (step_M == 0))
    sound_M = (user_M | model_M) & expected_M & (turn_M >= 0) & (turn_M < 128) & (turn_M % 1 == 0)
    drop(_any(~sound_M, conversation_M, num_conversations), BAD_ROLES)
    wrong_M = model_M & ~((score_M >= 1) & (score_M <= 100))
    drop(_any(wrong_M, conversation_M, num_conversations), BAD_SCORE)
    # Two responses of one text may both be marked as chosen; two of different texts may not.
    turn_of_M = np.cumsum(user_M) - 1
    picked = np.flatnonzero(chosen_M)
    codes, _ = texts.codes_of(texts.clean_column(content_M.take(pa.array(picked)), {}))
    other = picked[1:][(np.diff(turn_of_M[picked]) == 0) & (np.diff(codes) != 0)]
    drop(np.bincount(conversation_M[other], minlength=num_conversations) > 0, TWO_CHOSEN)

    # Of those only the first in its turn.
    _, first = np.unique(turn_of_M[picked], return_index=True)
    keep_M = ~drop.bad_C[conversation_M]
    user_T, model_X = np.flatnonzero(user_M & keep_M), np.flatnonzero(model_M & keep_M)
    number_C = np.cumsum(~drop.bad_C) - 1
    return raw_turns.RawTurns(
        conversation_T=number_C[conversation_M[user_T]],
        turn_T=turn_M[user_T].astype(np.int64),
        prompt_T=content_M.take(pa.array(user_T)),
        turn_X=np.searchsorted(user_T, model_X, side="right") - 1,
        text_X=content_M.take(pa.array(model_X)),
        chosen_X=np.isin(model_X, picked[first]),
        score_X=score_M[model_X].astype(np.float32),
    )


def _any(bad_M: np.ndarray, conversation_M: np.ndarray, num_conversations: int) -> np.ndarray:
    return np.bincount(conversation_M[bad_M], minlength=num_conversations) > 0


def _numbers(messages: pa.StructArray, name: str, where: str) -> np.ndarray:
    """float64; nan where there is none."""
    values = pc.struct_field(messages, name)
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_null(values.type)):
        raise CumaError(f"{where}: conversation_history: {name} is of type {values.type}, not a number")
    return values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
