"""The report's part on preferences: who is preferred, what the judge is worth, and replies to read side by side."""

import re
from collections.abc import Mapping
from typing import Any

import jinja2

from cuma_jax.reporting.verdict import interval, number, split_title

START, END = "<!-- preferences -->", "<!-- end of preferences -->"
"""Where the part stands in a page. Texts are escaped, so that none of them can hold such a comment."""
_PART = re.compile(re.escape(START) + ".*?" + re.escape(END), re.DOTALL)
_LONGEST = 3000
_FEW = 10
"""With fewer comparisons that one side won, the headline says nothing."""
# What would change how other text looks, or cannot be in a page: shown by its number instead.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"
)


def shown(text: str) -> str:
    """Anybody's text as it may stand in a page: controls by their number, and cut where it is very long."""
    left = len(text) - _LONGEST
    text = text if left <= 0 else f"{text[:_LONGEST]} [... {left:,} more characters]"
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _HIDDEN.sub(lambda match: f"[U+{ord(match[0]):04X}]", text) or "(nothing)"


def render_part(environment: jinja2.Environment, values: Mapping[str, Any]) -> str:
    """The part, of the values of preferences.json, as HTML between its two comments."""
    environment.filters["shown"] = shown
    judge, win = values["judge"] or {}, values["winrate"]
    text = environment.get_template("win_rate.html").render(
        head=_headline(values),
        win=win,
        parts=_bar(win["n"]) if win else [],
        tiles=_tiles(values) if win else [],
        rows=_rows(win) if win else [],
        pairs=_pair_rows(values),
        choices=values["kind"] == "conversations",
        reference="the model that training started from",
        distinct=_distinct(values),
        samples=[sample | {"rows": [_row(row) for row in sample["rows"]]} for sample in values["samples"]],
        survey=values["kind"] == "survey",
        run=values["run"],
        against=values["against"],
        about=_about(values),
        prompt=judge.get("prompt"),
        version=judge.get("prompt_version"),
    )
    return f"{START}\n{text}\n{END}".encode("utf-8", "replace").decode("utf-8")


def with_part(environment: jinja2.Environment, page: str, values: Mapping[str, Any]) -> str:
    """The page with the part in its place, instead of an older one."""
    part = render_part(environment, values)
    if _PART.search(page):
        return _PART.sub(lambda _: part, page, count=1)
    return page.replace("</main>", f"{part}\n</main>", 1)  # written by an older version


def _headline(values: Mapping[str, Any]) -> dict[str, str]:
    win, survey = values["winrate"], values["kind"] == "survey"
    run, against = values["run"], values["against"]
    respondents = (values["judge"] or {}).get("url") is None
    if not win:
        why = "No judge was named (judge.url), so there is no win-rate; the replies are below."
        return {"question": f"{run} beside {against}", "tone": "unknown", "answer": "", "because": why, "how": ""}
    metric = win["win_rate"]
    answer, tone = "It cannot be told", "unknown"
    if metric["low"] is not None and win["n"]["wins"] + win["n"]["losses"] >= _FEW:
        if metric["low"] > 0.5:
            answer, tone = "Yes", "good"
        elif metric["high"] < 0.5:
            answer, tone = "No", "bad"
    known = f" ({interval(metric, '{:.1%}')})" if metric["low"] is not None else ""
    who = "people's own answers" if respondents else values["judge"]["judge"]
    because = f"Its win-rate is {number(metric, '{:.1%}')}{known}, ties counted half, as judged by {who}."
    how = "The judge sees who is asking, and both replies in both orders. A side wins where it is preferred in both."
    if respondents:
        how = "A side wins where it gives the answer that the held-out person gave, and the other side does not."
    over = f" Intervals are 95%, by resampling {win['clusters']}; 50% is no difference."
    question = f"Is {run} nearer to people than {against}?" if survey else f"Is {run} preferred to {against}?"
    return {"question": question, "tone": tone, "answer": answer, "because": because, "how": how + over}


def _bar(n: Mapping[str, int]) -> list[dict[str, Any]]:
    total = max(n["wins"] + n["ties"] + n["losses"], 1)
    words = {"wins": "won", "ties": "tied", "losses": "lost"}
    return [{"kind": kind, "width": round(100 * n[kind] / total, 2), "text": f"{n[kind]:,} {word}"}
            for kind, word in words.items()]  # fmt: skip


def _tiles(values: Mapping[str, Any]) -> list[dict[str, str]]:
    win = values["winrate"]
    counts = f"{win['n']['comparisons']:,} comparisons, {win['n']['clusters']:,} {win['clusters']}"
    tiles = [_tile(win["win_rate"], "win-rate", counts)]
    if orders := win["orders"]:
        calls = orders["calls"]
        decided = calls["first_shown"] + calls["second_shown"]
        tiles.append(_tile(orders["first_position"], "for the reply shown first",
                           f"position bias; 50% is none, of {decided:,} calls with a preference"))  # fmt: skip
        tiles.append(_tile(orders["consistent"], "of comparisons alike in both orders",
                           f"{calls['ties']:,} calls said tie, {calls['failed']:,} failed for good"))  # fmt: skip
    if agreement := values["agreement"]:
        tiles.append(_tile(agreement["agreement"], "agreement of the judge with people",
                           f"on {agreement['n']['comparisons']:,} held-out pairs; 50% is chance"))  # fmt: skip
    return tiles


def _tile(metric: dict[str, Any], label: str, hint: str) -> dict[str, str]:
    return {"value": number(metric, "{:.1%}"), "range": interval(metric, "{:.1%}"), "label": label, "hint": hint}


def _rows(win: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """All, each split, and each group, where there are several; groups with most comparisons first."""
    rows: list[tuple[str, Mapping[str, Any]]] = [("all", win)]
    if len(win["splits"]) > 1:
        rows += [(split_title(split), block) for split, block in win["splits"].items()]
    for groups in win["groups"].values():
        if len(groups) > 1:
            rows += sorted(groups.items(), key=lambda item: -item[1]["n"]["comparisons"])
    return rows


def _pair_rows(values: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], bool]]:
    """Each split, followed by its groups where there are several; whether it is a split."""
    rows: list[tuple[str, Mapping[str, Any], bool]] = []
    for split, block in values["pairs"]["splits"].items() if values.get("pairs") else ():
        rows.append((split_title(split), block, True))
        for groups in block["groups"].values():
            if len(groups) > 1:
                rows += [(name, part, False) for name, part in groups.items()]
    return rows


def _distinct(values: Mapping[str, Any]) -> dict[str, Any] | None:
    if not values["distinct"]:
        return None
    keys = {"distinct_1": "distinct-1", "distinct_2": "distinct-2", "equal": "equal replies"}
    rows = []
    for side in ("run", "against"):
        parts = values["distinct"][side]
        cells = [parts[part].get(key) for key in keys for part in ("across_profiles", "one_profile")]
        texts = ["-" if c is None else f"{c:.1%}" if i >= 4 else f"{c:.3f}" for i, c in enumerate(cells)]
        rows.append({"name": values[side], "cells": texts})
    return {"names": list(keys.values()), "rows": rows}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    won = {1.0: "run", 0.0: "against"}.get(row["score"], "")  # type: ignore[call-overload]
    return dict(row) | {"won": won, "tied": row["score"] == 0.5}


def _about(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    judge, sampling = values["judge"] or {}, values["sampling"]
    rows = [("run", values["run"]), ("against", values["against"])]
    rows += [(key, str(judge[key])) for key in ("judge", "url", "date") if key in judge]
    if "prompt_version" in judge:
        spent = judge["spent"]
        rows.append(("asked", f"prompt version {judge['prompt_version']}, temperature "
                     f"{judge['temperature'] if judge['temperature'] is not None else 'its own'}, at most "
                     f"{judge['max_tokens']} tokens; {spent['requests']:,} requests, {spent['tokens_in']:,} tokens in, "
                     f"{spent['tokens_out']:,} out (what was cached is not asked again)"))  # fmt: skip
    rows.append(("sampling", ", ".join(f"{key} {value}" for key, value in sampling.items())))
    for key in ("checkpoint", "command", "model", "machine"):
        if values.get("about", {}).get(key):
            rows.append((key, str(values["about"][key])))
    return rows + [(reason, f"{count:,}") for reason, count in values["notes"].items()]
