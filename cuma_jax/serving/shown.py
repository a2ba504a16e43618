"""`Model.predict`'s table for people: bars in a terminal, CSV and JSON, in which no text does anything."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from cuma_jax.runtime.text_table import printable, text_table

BAR = 24
"""Width of a bar of 100%, in characters."""
_EIGHTHS = " ▏▎▍▌▋▊▉"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def inert(value: Any) -> Any:
    """A cell of a CSV: text that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def plain(value: Any) -> Any:
    """A cell of a table as JSON has it: null for what is not defined."""
    if value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def csv_text(table: pd.DataFrame) -> str:
    """The table as CSV, a header first."""
    texts = table.select_dtypes(exclude="number").columns
    return table.assign(**{name: table[name].map(inert) for name in texts}).to_csv(index=False, lineterminator="\n")


def json_text(table: pd.DataFrame) -> str:
    """The table as a JSON list with an object a row; what is not known is null."""
    rows = [{name: plain(value) for name, value in row.items()} for row in table.to_dict("records")]
    return json.dumps(rows, ensure_ascii=False, indent=1)


def shown_text(table: pd.DataFrame, warnings: Sequence[str] = ()) -> str:
    """Each group and question as bars with what is known of them; nothing in it is obeyed by a terminal."""
    parts = []
    for (question, group), rows in table.groupby(["question", "group"], sort=False):
        parts.append(_cell_text(str(question), str(group), rows))
    return printable("\n\n".join(parts) + ("\n\n" + "\n".join(warnings) if warnings else ""))


def _cell_text(question: str, group: str, rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    names = {"real": "real [95%]", "pooled": "pooled", "own_average": "own average", "logistic": "logistic"}
    there = [name for name in names if rows[name].notna().any()]
    header = ["", "", "predicted", *(names[name] for name in there)]
    lines = []
    for _, row in rows.iterrows():
        cells = [" ".join(str(row["option"]).split()), _bar(row["share"]), _percent(row["share"])]
        for name in there:
            text = _percent(row[name])
            if name == "real" and not math.isnan(row["low"]):
                text += f" [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
            cells.append(text)
        lines.append(cells)
    head = f"{' '.join(question.split())}  |  {' '.join(group.split())}  (n = {first['n_people']:,})"
    notes = [f"question {first['question_status']}, group {first['group_status']}"]
    if not math.isnan(first["error"]):
        notes[0] += f"; measured error on such cells: {first['error']:.3f} of 1 ({first['error_split']})"
    if first["real_n"] and not rows["real"].notna().any():
        notes.append(f"only {first['real_n']:,} held-out answers: too few to show")
    elif first["real_n"]:
        notes.append(f"real: {first['real_n']:,} held-out answers")
    if not math.isnan(first["order_sensitivity"]):
        notes.append(f"turning the options round moves {100 * first['order_sensitivity']:.0f}% of the answers")
    notes += [note for note in str(first["notes"]).split("; ") if note]
    return f"{head}\n{text_table(header, lines, range(2, len(header)), notes)}"


def _bar(share: float) -> str:
    if math.isnan(share):
        return ""
    eighths = round(share * BAR * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}%"
