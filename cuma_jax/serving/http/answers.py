"""Tables of predictions as JSON and as CSV that a spreadsheet will not execute."""

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from cuma_jax.serving import Model, Request

DIGITS = 7
"""Decimals of shares: what is lost is a tenth of what answers may differ by."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_BY_OPTION = {"share": "shares", "real": "real", "low": "low", "high": "high", "pooled": "pooled",
              "own_average": "own_average", "logistic": "logistic"}  # fmt: skip
_BY_CELL = ("real_n", "group_status", "question_status", "error", "error_split", "order_sensitivity", "n_people")


def plain(value: Any) -> Any:
    """A cell of a table as JSON has it: null for what is not defined."""
    if value is None or value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, DIGITS)
    return value


def shares(values: Any) -> list[float] | None:
    """A column of shares; None where none is defined."""
    found = [plain(value) for value in values]
    return None if all(value is None for value in found) else found


def cells(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The rows of each (group, question), in the order of the table."""
    if not len(table):
        return
    name = table["group"].astype(str) + "\0" + table["question"].astype(str)
    first = (name != name.shift()).to_numpy()
    # An option named anew begins a cell, too: the same cell may have been asked for twice.
    starts = [i for i, new in enumerate(first) if new]
    for start, end in zip(starts, [*starts[1:], len(table)], strict=True):
        yield table.iloc[start:end]


def answers(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One object a (group, question), with a list over the options where a figure is one option's."""
    found = []
    for cell in cells(table):
        first = cell.iloc[0]
        answer: dict[str, Any] = {
            "group": str(first["group"]),
            "question": str(first["question"]),
            "options": [str(option) for option in cell["option"]],
        }
        answer |= {key: shares(cell[column]) for column, key in _BY_OPTION.items()}
        answer |= {key: plain(first[key]) for key in _BY_CELL if key in cell}
        answer["notes"] = notes(first)
        found.append(answer)
    return found


def gates_json(model: Model, asked: Request) -> dict[str, Any]:
    """Mean gates: `layers`, `experts`, and `gate[layer][expert]` of each group and question; empty without a router."""
    layers: list[int] = []
    experts, found = 0, []
    for question in asked.questions:
        table = model.predict_gates(list(asked.groups), question)
        if not len(table):
            break
        layers, experts = sorted(int(layer) for layer in table["layer"].unique()), int(table["expert"].max())
        name = question if isinstance(question, str) else question.id or question.text
        for group, part in table.groupby("group", sort=False, observed=True):
            wide = part.pivot(index="layer", columns="expert", values="gate").sort_index()
            gate = [[plain(value) for value in row] for row in wide.to_numpy()]
            found.append({"group": str(group), "question": name, "gate": gate})
    place = {group.label: i for i, group in enumerate(asked.groups)}
    found.sort(key=lambda one: place[str(one["group"])])
    return {"layers": layers, "experts": experts, "gates": found}


def notes(row: Any) -> list[str]:
    """What the user should know of a cell."""
    text = plain(row.get("notes")) or ""
    return [note for note in str(text).split("; ") if note]


def inert(value: Any) -> Any:
    """A cell of a CSV: text that a spreadsheet would take for a formula begins with an apostrophe."""
    value = plain(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def csv_lines(table: pd.DataFrame, rows: int = 500) -> Iterator[bytes]:
    """A table as CSV, some rows at a time."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(table.columns)
    for start in range(0, max(len(table), 1), rows):
        part = table.iloc[start : start + rows]
        for row in part.itertuples(index=False, name=None):
            writer.writerow([inert(value) for value in row])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
