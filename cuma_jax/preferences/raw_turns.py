"""From raw turns to the turns of a `Preferences`: cleaning, candidates that are alike, turns that are missing.

Shapes: C conversations, T raw turns, X candidates of all turns, K candidates of the fullest turn, P persons.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from cuma_jax.preferences import texts
from cuma_jax.preferences.preferences import TURNS_SCHEMA
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.survey import categorical
from cuma_jax.surveys.text import clean_text
from cuma_jax.tables.problems import count_skipped

EMPTY_CANDIDATES = "candidates without text"
ALIKE = "candidates that repeat another of their turn"
LIKE_CHOSEN = "candidates that repeat the preferred one of their turn"
NONE_CHOSEN = "turns in which nothing was preferred"
CHOSEN_EMPTY = "turns whose preferred response has no text"
GAPS = "conversations with a missing middle turn (the turns before it are kept)"
AFTER_GAP = "turns after a turn that is missing or has no preferred response"
NO_START = "conversations whose first turn cannot be used"
DIFFERING = "annotators whose rows differ in a profile field (the most frequent value is taken)"

NO_ANSWER = frozenset(
    {"", "prefer not to say", "prefer not to answer", "rather not say", "not specified", "n/a", "na", "nan", "null"}
    | {texts.EMPTY.casefold()}
)
"""Profile values, case folded, that mean nothing was said."""


@dataclasses.dataclass(frozen=True)
class RawTurns:
    """Turns as a source has them.

    Attributes:
        conversation_T: int64, ascending; every conversation of 0..C - 1 that has a turn.
        turn_T: int64, the source's number of the turn, ascending within a conversation; 0 is the first.
        prompt_T: large_string; null where the turn is missing.
        turn_X: int64, ascending; the turn (0..T - 1) of each candidate.
        text_X: large_string.
        chosen_X: bool.
        score_X: float32, or None where the source has none.
    """

    conversation_T: np.ndarray
    turn_T: np.ndarray
    prompt_T: pa.Array
    turn_X: np.ndarray
    text_X: pa.Array
    chosen_X: np.ndarray
    score_X: np.ndarray | None = None


def build_turns(raw: RawTurns, num_conversations: int, skipped: dict[str, int]) -> tuple[pa.Table, np.ndarray]:
    """The turns that can be used, as `TURNS_SCHEMA`, and bool [C]: which conversations have any.

    A conversation is kept up to its first turn without a prompt, without a preferred response, or out of number: what
    came after depends on what is missing. Every turn that is kept has a preferred response.
    """
    num_turns = len(raw.conversation_T)
    prompt_T, text_X = texts.clean_column(raw.prompt_T, skipped), texts.clean_column(raw.text_X, skipped)
    filled_X = text_X.is_valid().to_numpy(zero_copy_only=False)
    prompted_T = prompt_T.is_valid().to_numpy(zero_copy_only=False)
    count_skipped(skipped, EMPTY_CANDIDATES, (~filled_X & prompted_T[raw.turn_X]).sum())
    keep_X, like_chosen_X = _distinct(raw, text_X, filled_X)
    chosen_X = keep_X & raw.chosen_X

    has_chosen_T = np.bincount(raw.turn_X[chosen_X], minlength=num_turns) > 0
    meant_T = np.bincount(raw.turn_X[raw.chosen_X], minlength=num_turns) > 0
    start_T = np.searchsorted(raw.conversation_T, raw.conversation_T)
    in_place_T = raw.turn_T == np.arange(num_turns) - start_T
    good_T = prompted_T & has_chosen_T & in_place_T
    bad_before_T = np.cumsum(~good_T) - np.append(0, np.cumsum(~good_T))[start_T]
    keep_T = bad_before_T == 0
    # What ended each conversation: its first turn that is not good.
    ended_T = (bad_before_T == 1) & ~good_T
    answered_T = prompted_T & (np.bincount(raw.turn_X[filled_X], minlength=num_turns) > 0)
    count_skipped(skipped, NONE_CHOSEN, (ended_T & answered_T & in_place_T & ~meant_T).sum())
    count_skipped(skipped, CHOSEN_EMPTY, (ended_T & prompted_T & in_place_T & meant_T & ~has_chosen_T).sum())
    lost_T = answered_T & ~keep_T & ~(ended_T & in_place_T)
    count_skipped(skipped, AFTER_GAP, lost_T.sum())
    has_lost_C = np.bincount(raw.conversation_T[lost_T], minlength=num_conversations)
    kept_C = np.bincount(raw.conversation_T[keep_T], minlength=num_conversations) > 0
    count_skipped(skipped, GAPS, ((has_lost_C > 0) & kept_C).sum())
    count_skipped(skipped, NO_START, (~kept_C).sum())

    repeat_X = filled_X & ~keep_X & keep_T[raw.turn_X]
    count_skipped(skipped, LIKE_CHOSEN, (repeat_X & like_chosen_X).sum())
    count_skipped(skipped, ALIKE, (repeat_X & ~like_chosen_X).sum())
    keep_X &= keep_T[raw.turn_X]
    return _table(raw, prompt_T, text_X, keep_T, keep_X, chosen_X), kept_C


def _distinct(raw: RawTurns, text_X: pa.Array, filled_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which candidates stay, and which are like their turn's preferred one without being it.

    Of texts that are alike one stays, the preferred one before others.
    """
    codes_X = texts.codes_within(text_X, raw.turn_X)
    # Sorted so that of equal candidates of one turn the one to keep comes first.
    order_X = np.lexsort((np.arange(len(codes_X)), ~raw.chosen_X, codes_X, raw.turn_X))
    same_X = np.zeros(len(codes_X), bool)
    same_X[1:] = (np.diff(raw.turn_X[order_X]) == 0) & (np.diff(codes_X[order_X]) == 0)
    repeat_X = np.zeros(len(codes_X), bool)
    repeat_X[order_X] = same_X
    # The first of its run says whether a repeat is like the preferred one.
    head_X = np.maximum.accumulate(np.where(same_X, 0, np.arange(len(same_X))))
    like_chosen_X = np.zeros(len(codes_X), bool)
    like_chosen_X[order_X] = raw.chosen_X[order_X][head_X]
    return filled_X & ~repeat_X, like_chosen_X & ~raw.chosen_X


def _table(
    raw: RawTurns, prompt_T: pa.Array, text_X: pa.Array, keep_T: np.ndarray, keep_X: np.ndarray, chosen_X: np.ndarray
) -> pa.Table:
    rows_X = np.flatnonzero(keep_X)
    count_T = np.bincount(raw.turn_X[rows_X], minlength=len(keep_T))[keep_T]
    offsets = np.append(0, np.cumsum(count_T)).astype(np.int32)
    within_X = np.arange(len(rows_X)) - np.repeat(offsets[:-1], count_T)
    candidates = pa.ListArray.from_arrays(pa.array(offsets), text_X.take(pa.array(rows_X)))
    if raw.score_X is None:
        scores = pa.nulls(len(count_T), TURNS_SCHEMA.field("scores").type)
    else:
        scores = pa.ListArray.from_arrays(pa.array(offsets), pa.array(raw.score_X[rows_X].astype(np.float32)))
    _, conversation_T = np.unique(raw.conversation_T[keep_T], return_inverse=True)
    columns = {
        "conversation": pa.array(conversation_T.astype(np.int32)),
        "turn": pa.array(raw.turn_T[keep_T].astype(np.int8)),
        "prompt": prompt_T.filter(pa.array(keep_T)),
        "candidates": candidates,
        "scores": scores,
        "chosen": pa.array(within_X[chosen_X[rows_X]].astype(np.int8)),
    }
    return pa.table([columns[name] for name in TURNS_SCHEMA.names], schema=TURNS_SCHEMA)


def shifted(table: pa.Table, by: int) -> pa.Table:
    """`table` with its conversations numbered from `by`."""
    numbers = pa.array(table["conversation"].to_numpy() + np.int32(by))
    return table.set_column(0, TURNS_SCHEMA.field("conversation"), numbers)


def profile_column(values: pd.Series, title: bool = False) -> pd.Categorical:
    """A profile field: each distinct value cleaned, `NO_ANSWER` missing; `title`: lower case is capitalised."""
    codes, distinct = pd.factorize(values)
    names = [None if pd.isna(value) else clean_text(str(value)) for value in distinct]
    names = [None if name is None or name.casefold() in NO_ANSWER else name for name in names]
    if title:
        names = [name.title() if name is not None and name.islower() else name for name in names]
    return categorical(codes, names)


def most_frequent(frame: pd.DataFrame, person: np.ndarray, num_persons: int, skipped: dict[str, int]) -> pd.DataFrame:
    """One row a person: of each field the value most of the person's rows have (the earlier row's, in a tie).

    `frame` has categorical columns and one row a conversation, `person` the person of each (0..num_persons - 1).
    """
    differ = np.zeros(num_persons, bool)
    taken = {}
    for field in frame.columns:
        rows = pd.DataFrame({"person": person, "code": frame[field].cat.codes.to_numpy()})
        # In the order of the file (sort=False), so that of equal counts the earlier row's comes first.
        pairs = rows[rows["code"] >= 0].groupby(["person", "code"], sort=False).size().reset_index(name="count")
        first = pairs.sort_values("count", ascending=False, kind="stable").drop_duplicates("person")
        best = np.full(num_persons, -1)
        best[first["person"]] = first["code"]
        differ |= np.bincount(pairs["person"], minlength=num_persons) > 1
        taken[field] = pd.Categorical.from_codes(best, categories=frame[field].cat.categories)
    count_skipped(skipped, DIFFERING, differ.sum())
    return pd.DataFrame(taken)


def drop_bad(
    bad: np.ndarray,
    reason: str,
    name: Callable[[int], str],
    bad_rows: Literal["error", "skip"],
    skipped: dict[str, int],
    where: object,
) -> None:
    """Counts the rows that are `bad` (bool) for `reason`; where `bad_rows` is "error", the first is a `CumaError`.

    `name` tells what to call a row.
    """
    if not bad.any():
        return
    if bad_rows == "error":
        raise CumaError(
            f"{where}, {name(int(np.argmax(bad)))}: {reason} ({int(bad.sum())} such in all); correct the file, or "
            "leave them out: --data.bad_rows skip"
        )
    count_skipped(skipped, reason, bad.sum())


def flag_column(column: pa.ChunkedArray) -> pd.array:
    """A column of true and false, however it is written, as pandas `boolean`; anything else is missing."""
    names: Mapping[str, bool] = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    values = column.to_pandas()
    return values.map(lambda value: names.get(str(value).casefold(), pd.NA)).astype("boolean").array
