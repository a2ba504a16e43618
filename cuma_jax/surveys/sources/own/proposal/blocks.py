"""Blocks of columns that are one question with several answers: a tick each, as survey programs write them."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

from cuma_jax.surveys.sources.own.answers import CHOSEN, NOT_CHOSEN
from cuma_jax.surveys.sources.own.proposal.columns import ColumnFacts

# Q5_1 and Q5.1 (Qualtrics, SPSS), Q5[SQ001] (LimeSurvey), q5___1 (REDCap), "Which? (choice=Radio)" (REDCap's labels).
_ITEM = re.compile(r"(?P<stem>.+?)(?:___|__|_|\.|\[| \(choice=)(?P<item>[^\[\]()]{1,200})[\])]?")
_LAST = re.compile(r".*(?: - |\(choice=|\[|: )(?P<item>[^\[\]]+?)[\])]?", re.DOTALL)
_YES = ("yes", "ja", "oui", "si", "s\u00ed", "sim")
_MOST = 200


@dataclasses.dataclass(frozen=True)
class Block:
    """A question with several answers: the text of each option by its column; `missing` is no answer in any of them."""

    id: str
    text: str
    options: Mapping[str, str]
    missing: Mapping[str, str]
    reason: str


def find_blocks(columns: Iterable[ColumnFacts]) -> list[Block]:
    """The blocks among the columns that are left for questions; each has two columns at least."""
    groups: dict[tuple[str, str], list[ColumnFacts]] = {}
    for column in columns:
        if column.said.block:
            groups.setdefault(("set", column.said.block), []).append(column)
        elif (match := _ITEM.fullmatch(column.id)) and _is_tick(column):
            groups.setdefault(("stem", match["stem"]), []).append(column)
    return [_block(kind, stem, found) for (kind, stem), found in groups.items() if 2 <= len(found) <= _MOST]


def _is_tick(column: ColumnFacts) -> bool:
    """Whether a column says no more than that something was chosen, or was not."""
    codes = [code for code in column.codes if column.labels.get(code, code).casefold() not in NOT_CHOSEN]
    codes = [code for code in codes if code not in ("0", "0.0")]
    if len(codes) != 1 or len(column.labels.keys() - column.no_answer.keys()) > 2:
        return False
    others = [code for code in column.codes if code != codes[0]]
    if not all(code == "0" or code.casefold() in NOT_CHOSEN for code in others):
        return False  # such as 1 and 2
    text = column.labels.get(codes[0], codes[0]).casefold()
    # Yes and no in words are a question by themselves; in brackets it is one of several (LimeSurvey).
    if len(column.codes) > 1 and text in _YES and not ("[" in column.id and not column.labels):
        return False
    return not column.are_numbers or codes[0] == "1"


def _block(kind: str, stem: str, columns: list[ColumnFacts]) -> Block:
    labels = [column.label for column in columns]
    text, items = stem if kind == "set" else "", {}
    shared = _shared(labels)
    for column in columns:
        items[column.name] = _item(column, shared)
    if kind == "set":
        reason = "a set of several answers, as the file defines it"
        stem = re.sub(r"[^\w.]+", "_", columns[0].id.rpartition("_")[0] or columns[0].id)
    else:
        text, reason = shared, f"{len(columns)} columns with a tick each"
    missing = {code: why for column in columns for code, why in column.no_answer.items()}
    return Block(stem, text, items, missing, reason)


def _shared(labels: list[str]) -> str:
    """The wording that all labels begin with, up to where the option's text begins."""
    if not all(labels):
        return ""
    first, last = min(labels), max(labels)
    same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    place = max((first.rfind(mark, 0, same + 1) for mark in (" - ", ": ", " [", "(choice=")), default=-1)
    shared = first[:place] if place > 0 else ""
    return re.sub(r"( - Selected Choice|\(choice=.*|\s*\[)$", "", shared).strip()


def _item(column: ColumnFacts, shared: str) -> str:
    """The text of the option that a column is the tick of; empty where the file has none."""
    chosen = [code for code in column.codes if code not in ("0", "0.0") and code.casefold() not in NOT_CHOSEN]
    value = column.labels.get(chosen[0], chosen[0]) if chosen else ""
    if value and value.casefold() not in CHOSEN:
        return value
    if shared and (match := _LAST.fullmatch(column.label)):
        return match["item"].strip()
    if column.label and not shared:
        return column.label
    match = _ITEM.fullmatch(column.id)
    # REDCap's labels are the columns' names.
    return match["item"] if match and "choice=" in column.id else ""
