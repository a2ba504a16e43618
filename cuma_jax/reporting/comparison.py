"""Writes report.html of a comparison: which method comes nearest to the real answers, how surely, at what cost."""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cuma_jax.reporting.report import REPORT_FILE, about_rows, make_environment
from cuma_jax.reporting.scales import Scale, Tick, fit
from cuma_jax.reporting.verdict import GAUGE, HELD, PARTLY, interval, number, split_title
from cuma_jax.runtime.files import write_text
from cuma_jax.runtime.text_table import number_text

MOST_QUESTIONS = 18
"""Questions that have a plot of their own; the table of every question is comparison.tsv."""
_BASELINES = {"uniform": "all options alike", "pooled": "pooled", "group": "the group's average",
              "shrunken_group": "the group's average, shrunk", "logistic": "logistic regression"}  # fmt: skip
Values = Mapping[str, Any]


def write_comparison_report(values: Values, folder: pathlib.Path) -> pathlib.Path:
    """Writes `folder`/report.html, of what comparison.json holds, whole or not at all, and returns its path."""
    path = folder / REPORT_FILE
    write_text(path, render_comparison(values))
    return path


def render_comparison(values: Values) -> str:
    """The page as text."""
    titles = _titles(values)
    splits = [_split(values, name, titles) for name in values["splits"]]
    headline = splits[0]
    return make_environment().get_template("comparison.html").render(
        values=values,
        titles=titles,
        reference=titles.get(values["reference"], ""),
        group=" and ".join(f.replace("_", " ") for f in values["group_by"]),
        verdict=_verdict(splits, titles.get(values["reference"], "")),
        splits=splits,
        analysed=[v for v in values["variants"] if v["analysis"]],
        cost=cost_plot(values, headline["key"], titles),
        questions=question_plots(values, headline["key"], titles),
        left_out=max(len(values["splits"][headline["key"]]["questions"]) - MOST_QUESTIONS, 0),
        costs={v["name"]: v["cost"] for v in values["variants"]},
        about=about_rows(values["about"]),
        baselines=_BASELINES,
    )  # fmt: skip


def _titles(values: Values) -> dict[str, str]:
    group = " and ".join(f.replace("_", " ") for f in values["group_by"])
    named = {name: _BASELINES.get(name, name).replace("the group's", f"the {group}'s") for name in values["baselines"]}
    return named | {v["name"]: v["title"] for v in values["variants"]}


def _split(values: Values, name: str, titles: Mapping[str, str]) -> dict[str, Any]:
    scores = values["splits"][name]
    block = scores["scopes"][scores["headline"]]
    rows = sorted(block["rows"], key=by_emd)
    return {
        "key": name,
        "title": split_title(name),
        "several": scores["headline"] != "overall",
        "block": block,
        "rows": rows,
        "n": block["n"],
        "all": scores["n"],
        "distance": distance_rows(rows, block["floor"], _scale(values), values["reference"], titles),
        "difference": difference_rows(rows, _difference_scale(values), titles),
        "spread": spread_rows(rows, values["reference"], titles),
        "tally": tally(rows),
    }


def by_emd(row: Values) -> float:
    """What sorts rows of a comparison: those nearest to the answers first, those without an EMD last."""
    return math.inf if row["emd"]["value"] is None else row["emd"]["value"]


def capped(found: Sequence[float], times: float = 2.5, zero: bool = True) -> Scale:
    """A scale for most of the values: one that is far beyond the others (an untrained model) is drawn at the edge."""
    known = [v for v in found if math.isfinite(v)]
    edge = times * float(np.median(known)) if known else 1.0
    return fit([v for v in known if v <= edge], zero=zero)


def _headline_rows(values: Values) -> list[Values]:
    return [row for s in values["splits"].values() for row in s["scopes"][s["headline"]]["rows"]]


def _scale(values: Values) -> Scale:
    """One axis of EMD for all splits, so that seen and unseen are compared by eye."""
    found = [r["emd"]["high"] or r["emd"]["value"] for r in _headline_rows(values) if r["emd"]["value"] is not None]
    floors = [s["scopes"][s["headline"]]["floor"] for s in values["splits"].values()]
    return capped([*found, *(floor for floor in floors if floor is not None)])


def _lane(metric: Values, scale: Scale, style: str = "{:.4f}") -> dict[str, Any]:
    """Places of a value and its interval."""
    value = metric["value"]
    low, high = (value if metric[k] is None else metric[k] for k in ("low", "high"))
    return {
        "at": scale.at(value), "low": scale.at(low), "width": round(scale.at(high) - scale.at(low), 3),
        "off": value > scale.high, "text": number_text(value, style), "range": interval(dict(metric), style),
    }  # fmt: skip


def distance_rows(
    rows: Sequence[Values], floor: float | None, scale: Scale, reference: str, titles: Mapping[str, str]
) -> dict[str, Any]:
    """EMD of every method with its interval, nearest first, and one thin mark for each seed."""
    found = [
        {**_lane(r["emd"], scale), "title": titles[r["name"]], "kind": _kind(r, reference), "seeds": r["seeds"],
         "ticks": [scale.at(s["emd"]) for s in r["values_by_seed"]] if r["seeds"] > 1 else []}
        for r in rows if r["emd"]["value"] is not None
    ]  # fmt: skip
    pooled = next((r["emd"]["value"] for r in rows if r["name"] == "pooled"), None)
    return {"rows": found, "ticks": scale.ticks(4), "floor": None if floor is None else scale.at(floor),
            "floor_text": number_text(floor),
            "line": None if pooled is None or pooled > scale.high else scale.at(pooled)}  # fmt: skip


def _kind(row: Values, reference: str) -> str:
    return "reference" if row["name"] == reference else row["kind"]


def _difference_scale(values: Values) -> Scale:
    """Zero and most of the differences; the rest is drawn at the edge."""
    found = [f[k] for r in _headline_rows(values) if (f := r["difference"]) for k in ("low", "value", "high")
             if f[k] is not None]  # fmt: skip
    edge = capped([abs(f) for f in found]).high
    return fit([0.0, *(f for f in found if abs(f) <= edge)])


def difference_rows(rows: Sequence[Values], scale: Scale, titles: Mapping[str, str]) -> dict[str, Any]:
    """EMD minus the reference's; right of zero the reference is nearer to the answers."""
    found = []
    for r in rows:
        if r["difference"] is None or r["difference"]["value"] is None:
            continue
        better = r["superiority"]
        found.append({
            **_lane(r["difference"], scale, "{:+.4f}"), "title": titles[r["name"]], "kind": r["kind"],
            "tone": {"worse": "good", "better": "bad"}.get(judge(r), "unknown"),
            "chance": "" if better is None else chance(better), "bar": 0 if better is None else round(100 * better, 1),
        })  # fmt: skip
    return {"rows": found, "ticks": scale.ticks(4), "zero": scale.at(0.0)}


def chance(share: float) -> str:
    """A share of resamples as text; the ends are never more than what the resamples can tell."""
    return "< 1%" if share < 0.01 else "> 99%" if share > 0.99 else f"{share:.0%}"


def judge(row: Values) -> str:
    """Whether a method is `better` (nearer to the answers) than the reference, `worse`, or `open`."""
    gap = row["difference"]
    if gap is None or gap["low"] is None:
        return "open"
    return "worse" if gap["low"] > 0 else "better" if gap["high"] < 0 else "open"


def tally(rows: Sequence[Values]) -> dict[str, Any]:
    """How many trained variants the reference beats, loses to, and cannot be told from; baselines apart."""
    named = {kind: {"worse": [], "open": [], "better": []} for kind in ("variant", "baseline")}  # type: ignore[var-annotated]
    for row in rows:
        if row["difference"] is not None:
            named[row["kind"]][judge(row)].append(row["name"])
    of = named["variant"]
    total = sum(map(len, of.values()))
    return {**of, "total": total, "baselines": named["baseline"],
            "shares": {k: round(100 * len(v) / max(total, 1), 2) for k, v in of.items()}}  # fmt: skip


def spread_rows(rows: Sequence[Values], reference: str, titles: Mapping[str, str]) -> dict[str, Any]:
    """Spread ratio of every method: 1 is right, 0 is the same answer for everyone."""
    found = []
    for r in rows:
        value = r["spread_ratio"]["value"]
        if value is None or r["name"] in ("uniform", "pooled"):
            continue
        found.append({
            **_lane(r["spread_ratio"], GAUGE, "{:.2f}"), "title": titles[r["name"]], "kind": _kind(r, reference),
            "tone": "good" if value >= HELD else "fair" if value >= PARTLY else "bad",
            "correlation": number(r["correlation"], "{:.2f}"),
        })  # fmt: skip
    return {"rows": found, "ticks": GAUGE.ticks(4), "one": GAUGE.at(1.0)}


def cost_plot(values: Values, split: str, titles: Mapping[str, str]) -> dict[str, Any] | None:
    """EMD against training seconds (logarithmic where they differ much); None without times."""
    scores = values["splits"][split]
    emd = {r["name"]: r["emd"]["value"] for r in scores["scopes"][scores["headline"]]["rows"]}
    known = [
        (v["name"], float(v["cost"]["training_seconds"]), emd[v["name"]], v["cost"])
        for v in values["variants"]
        if v["cost"]["training_seconds"] is not None and emd.get(v["name"]) is not None
    ]
    if not known:
        return None
    seconds = [s for _, s, _, _ in known]
    spread_out = min(seconds) > 0 and max(seconds) / min(seconds) > 4
    place: Callable[[float], float] = math.log10 if spread_out else float
    x = fit([place(s) for s in seconds], zero=not spread_out, pad=0.08)
    y = capped([e for _, _, e, _ in known], zero=False)
    return {
        "dots": _labelled([
            {"left": x.at(place(s)), "bottom": y.at(e), "title": titles[name] + (" \u2191" if e > y.high else ""),
             "kind": "reference" if name == values["reference"] else "variant",
             "text": f"{titles[name]}: {s:,.0f} s of training, EMD {e:.4f}"}
            for name, s, e, _ in known
        ]),
        "x": _log_ticks(x) if spread_out else x.ticks(5), "y": y.ticks(4), "log": spread_out,
        "estimated": [titles[name] for name, _, _, cost in known if cost["training_estimated"]],
    }  # fmt: skip


def _labelled(dots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Labels only where they do not run into an earlier one; a dot without one has its text on hovering."""
    taken: list[tuple[float, float]] = []
    for dot in sorted(dots, key=lambda d: (d["kind"] != "reference", d["bottom"])):
        free = all(abs(dot["bottom"] - b) > 6 or abs(dot["left"] - a) > 34 for a, b in taken)
        dot |= {"label": free, "flip": dot["left"] > 70}
        if free:
            taken.append((dot["left"], dot["bottom"]))
    return dots


def _log_ticks(scale: Scale) -> list[Tick]:
    marks = [m * 10**k for k in range(math.floor(scale.low), math.ceil(scale.high) + 1) for m in (1, 2, 5)]
    return [Tick(scale.at(math.log10(m)), f"{m:,.0f}" if m >= 1 else f"{m:g}") for m in marks
            if scale.low <= math.log10(m) <= scale.high]  # fmt: skip


def question_plots(values: Values, split: str, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """EMD of every variant on each question, those with most cells first."""
    questions = values["splits"][split]["questions"]
    largest = sorted(questions.items(), key=lambda item: (-item[1]["n"]["cells"], item[0]))[:MOST_QUESTIONS]
    plots = []
    for name, block in largest:
        shown = [r for r in block["rows"] if r["emd"]["value"] is not None and r["name"] != "uniform"]
        scale = capped([*(r["emd"]["value"] for r in shown), *([] if block["floor"] is None else [block["floor"]])])
        plots.append({
            "name": name, "text": block["text"], "n": block["n"], "unordered": block["distance"] != "emd",
            **distance_rows(sorted(shown, key=by_emd), block["floor"], scale, values["reference"], titles),
            "ticks": scale.ticks(3),
        })  # fmt: skip
    return plots


def _verdict(splits: Sequence[dict[str, Any]], reference: str) -> dict[str, Any]:
    """The top of the page: of the first split in large, of the others in a sentence."""
    if not reference:
        return {"answer": "It cannot be told yet", "tone": "unknown", "sentences": [
            "The reference variant has no finished run, so nothing can be compared with it."]}  # fmt: skip
    answer, tone = _answer(splits[0]["tally"])
    return {"answer": answer, "tone": tone, "sentences": [sentence(s, reference) for s in splits]}


def _answer(found: Mapping[str, Any]) -> tuple[str, str]:
    wins, losses, total = len(found["worse"]), len(found["better"]), found["total"]
    if not total:
        return "Nothing to compare", "unknown"
    if wins == total:
        return "Yes, all of them" if total > 1 else "Yes", "good"
    if not wins and not losses:
        return "It cannot be told", "unknown"
    if not wins:
        return ("No" if losses == total else f"No; {losses} of {total} beat it"), "bad"
    return f"Than {wins} of {total}", "good" if not losses and wins > total / 2 else "fair"


def sentence(split: Mapping[str, Any], reference: str) -> str:
    """A split's outcome in words: against the variants, the nearest of them, and the baselines."""
    found, rows = split["tally"], split["distance"]["rows"]
    own = next((r for r in rows if r["kind"] == "reference"), None)
    if own is None:
        return f"On {split['title']} {reference} was not scored."
    text = (
        f"On {split['title']} the distance of {reference} to the real answers is {own['text']}"
        f"{' (' + own['range'] + ')' if own['range'] else ''}"
        f"{'' if split['distance']['floor'] is None else ', at a noise floor of ' + split['distance']['floor_text']}: "
        f"nearer than {len(found['worse'])} of {found['total']} other methods, farther than {len(found['better'])}, "
        f"and too close to call for {len(found['open'])}."
    )
    # The hardest rival, not the easiest: the rows are in the order of their distance.
    if gap := next((r for r in split["difference"]["rows"] if r["kind"] == "variant"), None):
        side = "farther" if not gap["text"].startswith("-") else "nearer"
        text += f" The strongest other method, {gap['title']}, is {gap['text'].lstrip('+-')} {side}"
        text += f" ({gap['range']})." if gap["range"] else "."
    baselines = [g for g in split["difference"]["rows"] if g["kind"] == "baseline"]
    nearer, beaten = ([g for g in baselines if g["tone"] == tone] for tone in ("bad", "good"))
    if baselines:
        text += f" Of {len(baselines)} baselines without a language model it beats {len(beaten)}"
        text += f", and {nearer[0]['title']} beats it ({nearer[0]['text']})." if nearer else " and loses to none."
    return text
