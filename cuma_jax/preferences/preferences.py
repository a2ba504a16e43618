"""Preference data: people talk with models, and say which of several responses they prefer.

One row a turn: the prompt, the candidate responses, which was chosen and, where the source has them, the scores. A
conversation goes on with the chosen response. Texts stay in Arrow; 90 k conversations never become Python strings.

Shapes: C conversations, T turns, R respondents.
"""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.fields.context import Context

TURNS_SCHEMA = pa.schema(
    {
        "conversation": pa.int32(),
        "turn": pa.int8(),
        "prompt": pa.large_string(),
        "candidates": pa.list_(pa.large_string()),
        "scores": pa.list_(pa.float32()),
        "chosen": pa.int8(),
    }
)
"""Columns of `Preferences.turns`."""


@dataclasses.dataclass(frozen=True)
class Preferences:
    """Conversations of one source, and what their people preferred.

    Attributes:
        respondents: one row an annotator, as in `Survey`: `respondent_id` (str, unique), `weight`, an optional
            `split`, and fields as pandas categoricals of strings.
        profile_fields: the fields that a profile has by default.
        conversations: one row a conversation. Columns: `conversation_id` (str, unique), `person` (int32, row of
            `respondents`), `prompt` (int32, position in `prompt_ids`), and whatever else the source says of it.
        prompt_ids: one id for each distinct opening prompt (`texts.number_prompts`), so that a prompt asked of many
            people is held out for all of them.
        turns: Arrow table of `TURNS_SCHEMA`, sorted by conversation and turn. `turn` counts from 0 without a gap;
            `candidates` has at least one text and no two that are equal after `texts.normalised`; `scores` aligns with
            it, or is null; `chosen` is a position in it, or -1 in a conversation's last turn where nothing was chosen
            (the readers here drop such a turn: nothing can be learned from it).
        skipped: counts of what the reader left out or changed, by reason.
        numeric_fields, context: as in `Survey`.
    """

    name: str
    respondents: pd.DataFrame
    profile_fields: tuple[str, ...]
    conversations: pd.DataFrame
    prompt_ids: tuple[str, ...]
    turns: pa.Table
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    numeric_fields: tuple[str, ...] = ()
    context: tuple[Context, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    @functools.cached_property
    def first_turn_C(self) -> np.ndarray:
        """int64 [C + 1]: the turns of conversation c are rows first_turn_C[c] to first_turn_C[c + 1] - 1."""
        conversation_T = self.turns["conversation"].to_numpy()
        return np.searchsorted(conversation_T, np.arange(len(self.conversations) + 1))


def _check(prefs: Preferences) -> None:
    where = f"preferences {prefs.name!r}"
    for table, frame, columns in (
        ("respondents", prefs.respondents, ("respondent_id", "weight", *prefs.profile_fields)),
        ("conversations", prefs.conversations, ("conversation_id", "person", "prompt")),
    ):
        if missing := set(columns) - set(frame.columns):
            raise CumaError(f"{where}: the {table} table lacks columns {sorted(missing)}")
        ids = frame[columns[0]]
        if ids.duplicated().any():
            raise CumaError(f"{where}: {columns[0]} {ids[ids.duplicated()].iloc[0]!r} occurs more than once")
    if not prefs.turns.schema.equals(TURNS_SCHEMA):
        raise CumaError(f"{where}: the turns table has columns {prefs.turns.schema}, not {TURNS_SCHEMA}")
    for name, size in (("person", len(prefs.respondents)), ("prompt", len(prefs.prompt_ids))):
        index = prefs.conversations[name].to_numpy()
        if len(index) and (index.min() < 0 or index.max() >= size):
            raise CumaError(f"{where}: conversations name a {name} outside 0..{size - 1}")
    _check_turns(prefs, where)


def _check_turns(prefs: Preferences, where: str) -> None:
    turns, num_conversations = prefs.turns, len(prefs.conversations)
    if any(turns[name].null_count for name in ("conversation", "turn", "prompt", "candidates", "chosen")):
        raise CumaError(f"{where}: the turns table has empty values")
    conversation_T, turn_T = turns["conversation"].to_numpy(), turns["turn"].to_numpy()
    count_T, chosen_T = pc.list_value_length(turns["candidates"]).to_numpy(), turns["chosen"].to_numpy()
    if not np.array_equal(np.unique(conversation_T), np.arange(num_conversations)):
        raise CumaError(f"{where}: every conversation needs a turn, and every turn a conversation")
    new_T = np.diff(conversation_T, prepend=-1)
    expected_T = np.where(new_T != 0, 0, np.roll(turn_T, 1) + 1)
    if np.any(new_T < 0) or np.any(turn_T != expected_T):
        raise CumaError(f"{where}: turns are not sorted by conversation and turn, or one is missing in the middle")
    if np.any(count_T < 1) or np.any(chosen_T < -1) or np.any(chosen_T >= count_T):
        raise CumaError(f"{where}: a turn has no candidate, or chooses one that it does not have")
    last_T = np.append(new_T[1:] != 0, True)[: len(chosen_T)]
    if np.any((chosen_T < 0) & ~last_T):
        raise CumaError(f"{where}: a conversation goes on after a turn in which nothing was chosen")
    scored_T = turns["scores"].is_valid().to_numpy()
    scores_T = pc.fill_null(pc.list_value_length(turns["scores"]), -1).to_numpy()
    if np.any(scored_T & (scores_T != count_T)):
        raise CumaError(f"{where}: a turn has as many scores as candidates, or none")
