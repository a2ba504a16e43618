"""Tables of predictions as JSON and as CSV that a spreadsheet will not execute."""

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.serving import Model, Request
from cuma_jax.serving.shown import inert, plain

DIGITS = 7
"""Decimals of shares: what is lost is a tenth of what answers may differ by."""
_BY_OPTION = {"share": "shares", "real": "real", "low": "low", "high": "high", "pooled": "pooled",
              "own_average": "own_average", "logistic": "logistic"}  # fmt: skip
_BY_CELL = ("real_n", "group_status", "question_status", "error", "error_split", "order_sensitivity", "n_people")


def rounded(value: Any) -> Any:
    """A cell of a table as JSON has it, with as many decimals as are sent."""
    value = plain(value)
    return round(value, DIGITS) if isinstance(value, float) else value


def numbers(column: "pd.Series[Any]") -> list[float | None]:
    """A column of numbers as JSON has it."""
    found = np.round(column.to_numpy(float), DIGITS).tolist()
    return [None if math.isnan(value) else value for value in found]


def some(values: list[float | None]) -> list[float | None] | None:
    """Figures of a cell's options; None where none is defined."""
    return None if all(value is None for value in values) else values


def answers(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One object a (group, question), with a list over the options where a figure is one option's."""
    names = list(zip(table["group"].tolist(), table["question"].tolist(), strict=True))
    options = [str(option) for option in table["option"].tolist()]
    by_option = {key: numbers(table[column]) for column, key in _BY_OPTION.items()}
    by_cell = {key: table[key].tolist() for key in (*_BY_CELL, "notes") if key in table}
    found, start = [], 0
    for end in range(1, len(table) + 1):
        # A cell may have been asked for twice: it begins anew with its first option.
        if end < len(table) and names[end] == names[start] and options[end] != options[start]:
            continue
        group, question = names[start]
        answer: dict[str, Any] = {"group": str(group), "question": str(question), "options": options[start:end]}
        answer |= {key: some(values[start:end]) for key, values in by_option.items()}
        answer |= {key: rounded(values[start]) for key, values in by_cell.items()}
        answer["notes"] = [note for note in str(answer.get("notes") or "").split("; ") if note]
        found.append(answer)
        start = end
    return found


def gates_json(model: Model, asked: Request) -> dict[str, Any]:
    """Mean gates: `layers`, `experts`, and `gate[layer][expert]` of each group and question; empty without a router.

    A group that is asked for twice is there once.
    """
    layers: list[int] = []
    experts, found = 0, []
    groups = list({group.label: group for group in asked.groups}.values())
    for question in asked.questions:
        table = model.predict_gates(groups, question)
        if not len(table):
            break
        layers, experts = sorted(int(layer) for layer in table["layer"].unique()), int(table["expert"].max())
        name = question if isinstance(question, str) else question.id or question.text
        for group, part in table.groupby("group", sort=False, observed=True):
            wide = part.pivot(index="layer", columns="expert", values="gate").sort_index()
            gate = [[rounded(value) for value in row] for row in wide.to_numpy()]
            found.append({"group": str(group), "question": name, "gate": gate})
    place = {group.label: i for i, group in enumerate(groups)}
    found.sort(key=lambda one: place[str(one["group"])])
    return {"layers": layers, "experts": experts, "gates": found}


def csv_lines(table: pd.DataFrame, rows: int = 500) -> Iterator[bytes]:
    """A table as CSV, some rows at a time."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(table.columns)
    for start in range(0, max(len(table), 1), rows):
        part = table.iloc[start : start + rows]
        for row in part.itertuples(index=False, name=None):
            writer.writerow([inert(rounded(value)) for value in row])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
