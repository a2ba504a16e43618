"""preferences.json: what a comparison of two sides leaves behind, and its table for the terminal."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from cuma_jax.evaluation.results import as_text
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import write_text

SCHEMA = 1
"""Version of preferences.json."""
PREFERENCES_FILE = "preferences.json"
_MOST_GROUPS = 12
"""Groups that the terminal lists; the file and the report have all of them."""


def write_preferences(values: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Writes `folder`/preferences.json, whole or not at all."""
    text = json.dumps({"schema": SCHEMA, **values}, indent=1, ensure_ascii=False, allow_nan=False)
    # Replies come from models: halves of surrogate pairs cannot be written.
    text = text.encode("utf-8", "replace").decode("utf-8")
    write_text(folder / PREFERENCES_FILE, text + "\n")


def read_preferences(folder: pathlib.Path) -> dict[str, Any] | None:
    """What `write_preferences` left in `folder`; None where there is nothing, or of another version.

    Raises:
        CumaError: the file is damaged.
    """
    path = folder / PREFERENCES_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CumaError(f"{path} cannot be read ({error}); delete it, and run evaluate --preferences again") from None
    return values if isinstance(values, dict) and values.get("schema") == SCHEMA else None


def preferences_lines(values: Mapping[str, Any]) -> str:
    """What the terminal shows: who is preferred, what the judge is worth, and how replies differ."""
    lines = []
    if win := values["winrate"]:
        judge = values["judge"]["judge"]
        people = "held-out respondents themselves" if values["judge"].get("url") is None else judge
        lines.append(f"{values['run']} against {values['against']}, judged by {people}")
        lines.append(f"  win-rate (ties half)      {figure_text(win['win_rate'])}   {counts_text(win['n'])}")
        for split, block in win["splits"].items():
            if len(win["splits"]) > 1:
                lines.append(f"    {split:<22}  {figure_text(block['win_rate'])}   {counts_text(block['n'])}")
        for groups in win["groups"].values():
            for group, block in groups.items() if 1 < len(groups) <= _MOST_GROUPS else ():
                lines.append(f"    {group:<22.22}  {figure_text(block['win_rate'])}   {counts_text(block['n'])}")
        if orders := win["orders"]:
            lines += _order_lines(orders)
    else:
        lines.append(f"no win-rate: judge.url is empty ({values['run']} against {values['against']})")
    if agreement := values["agreement"]:
        lines.append(f"  agrees with people        {figure_text(agreement['agreement'])}   "
                     f"{counts_text(agreement['n'], 'pairs')}")  # fmt: skip
    for split, block in values["pairs"]["splits"].items() if values.get("pairs") else ():
        text = f"{figure_text(block['accuracy'])}, before {figure_text(block['base_accuracy'] | {'low': None})}"
        lines.append(f"  likelier of two replies   {text}   ({block['n']['rows']:,} pairs of {split})")
        if block["choice_accuracy"]["value"] is not None:
            chance = figure_text(block["choice_chance"] | {"low": None})
            lines.append(f"  likeliest of all replies  {figure_text(block['choice_accuracy'])}, chance {chance}")
    if distinct := values["distinct"]:
        for side, name in (("run", values["run"]), ("against", values["against"])):
            across, same = distinct[side]["across_profiles"], distinct[side]["one_profile"]
            parts = [f"{key.replace('_', '-')} {across[key]:.3f} (one person asking as often {same[key]:.3f})"
                     for key in ("distinct_1", "distinct_2") if key in across and key in same]  # fmt: skip
            lines.append(f"  replies of {name} for several profiles: {', '.join(parts) or 'none'}")
    return "\n".join([*lines, *(f"  {reason}: {count:,}" for reason, count in values["notes"].items())])


def _order_lines(orders: Mapping[str, Any]) -> list[str]:
    calls = orders["calls"]
    return [
        f"  first-position share      {figure_text(orders['first_position'])}   (50% without position bias; "
        f"{calls['first_shown'] + calls['second_shown']:,} calls with a preference)",
        f"  both orders agree         {as_text(orders['consistent']['value'], '{:.1%}')}   ({calls['ties']:,} calls "
        f"said tie, {calls['failed']:,} failed for good, {orders['equal_replies']:,} comparisons of equal replies)",
    ]


def figure_text(figure: Mapping[str, Any]) -> str:
    """A share with its interval."""
    if figure["value"] is None:
        return "-"
    if figure["low"] is None:
        return f"{figure['value']:.1%}"
    return f"{figure['value']:.1%} [{figure['low']:.1%}, {figure['high']:.1%}]"


def counts_text(n: Mapping[str, int], what: str = "comparisons") -> str:
    """The counts of some comparisons."""
    text = f"{n['comparisons']:,} {what}: {n['wins']:,} won, {n['ties']:,} tied, {n['losses']:,} lost"
    return f"({text}{', ' + format(n['failed'], ',') + ' failed for good' if n['failed'] else ''})"
