"""preferences.json: what a comparison of two sides leaves behind, and its table for the terminal."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from cuma_jax.runtime.files import write_text
from cuma_jax.runtime.json_files import read_json
from cuma_jax.runtime.text_table import aligned, interval_text, number_text

SCHEMA = 1
"""Version of preferences.json."""
PREFERENCES_FILE = "preferences.json"
_MOST_GROUPS = 12
"""Groups that the terminal lists; the file and the report have all of them."""
_LABEL, _SHARE = 26, "{:.1%}"


def write_preferences(values: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Writes `folder`/preferences.json, whole or not at all."""
    text = json.dumps({"schema": SCHEMA, **values}, indent=1, ensure_ascii=False, allow_nan=False)
    # Replies come from models: halves of surrogate pairs cannot be written.
    text = text.encode("utf-8", "replace").decode("utf-8")
    write_text(folder / PREFERENCES_FILE, text + "\n")


def read_preferences(folder: pathlib.Path) -> dict[str, Any] | None:
    """What `write_preferences` left; None where there is nothing, or of another version; a CumaError if damaged."""
    path = folder / PREFERENCES_FILE
    try:
        values = read_json(path, "delete it, and run evaluate --preferences again")
    except FileNotFoundError:
        return None
    return values if isinstance(values, dict) and values.get("schema") == SCHEMA else None


def preferences_lines(values: Mapping[str, Any]) -> str:
    """What the terminal shows: who is preferred, what the judge is worth, and how replies differ."""
    rows: list[tuple[str, str]] = []  # a label, and what stands behind it
    if win := values["winrate"]:
        judge = values["judge"]["judge"]
        people = "held-out respondents themselves" if values["judge"].get("url") is None else judge
        title = f"{values['run']} against {values['against']}, judged by {people}"
        rows.append(("  win-rate (ties half)", _win_text(win)))
        if len(win["splits"]) > 1:
            rows += [(f"    {split}", _win_text(block)) for split, block in win["splits"].items()]
        for groups in win["groups"].values():
            if 1 < len(groups) <= _MOST_GROUPS:
                rows += [(f"    {group:.22}", _win_text(block)) for group, block in groups.items()]
        if orders := win["orders"]:
            rows += _order_rows(orders)
    else:
        title = f"no win-rate: judge.url is empty ({values['run']} against {values['against']})"
    if agreement := values["agreement"]:
        share = interval_text(agreement["agreement"], _SHARE)
        rows.append(("  agrees with people", f"{share}   {counts_text(agreement['n'], 'pairs')}"))
    for split, block in values["pairs"]["splits"].items() if values.get("pairs") else ():
        text = f"{interval_text(block['accuracy'], _SHARE)}, before {_value(block['base_accuracy'])}"
        rows.append(("  likelier of two replies", f"{text}   ({block['n']['rows']:,} pairs of {split})"))
        if block["choice_accuracy"]["value"] is not None:
            text = f"{interval_text(block['choice_accuracy'], _SHARE)}, chance {_value(block['choice_chance'])}"
            rows.append(("  likeliest of all replies", text))
    lines = [title, *aligned(rows, least=(_LABEL,))]
    if distinct := values["distinct"]:
        for side, name in (("run", values["run"]), ("against", values["against"])):
            across, same = distinct[side]["across_profiles"], distinct[side]["one_profile"]
            parts = [f"{key.replace('_', '-')} {across[key]:.3f} (one person asking as often {same[key]:.3f})"
                     for key in ("distinct_1", "distinct_2") if key in across and key in same]  # fmt: skip
            lines.append(f"  replies of {name} for several profiles: {', '.join(parts) or 'none'}")
    return "\n".join([*lines, *(f"  {reason}: {count:,}" for reason, count in values["notes"].items())])


def _order_rows(orders: Mapping[str, Any]) -> list[tuple[str, str]]:
    calls = orders["calls"]
    first, both = interval_text(orders["first_position"], _SHARE), _value(orders["consistent"])
    decided = calls["first_shown"] + calls["second_shown"]
    return [
        ("  first-position share", f"{first}   (50% without position bias; {decided:,} calls with a preference)"),
        ("  both orders agree", f"{both}   ({calls['ties']:,} calls said tie, {calls['failed']:,} failed for good, "
         f"{orders['equal_replies']:,} comparisons of equal replies)"),
    ]  # fmt: skip


def _win_text(block: Mapping[str, Any]) -> str:
    return f"{interval_text(block['win_rate'], _SHARE)}   {counts_text(block['n'])}"


def _value(metric: Mapping[str, Any]) -> str:
    return number_text(metric["value"], _SHARE)


def counts_text(n: Mapping[str, int], what: str = "comparisons") -> str:
    """The counts of some comparisons."""
    text = f"{n['comparisons']:,} {what}: {n['wins']:,} won, {n['ties']:,} tied, {n['losses']:,} lost"
    return f"({text}{', ' + format(n['failed'], ',') + ' failed for good' if n['failed'] else ''})"
