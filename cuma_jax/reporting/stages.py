"""Writes the page of a chain: every stage on the same held-out people, with the page of each."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from cuma_jax.evaluation.stages.answers import POOLED
from cuma_jax.evaluation.stages.metrics import StageMetric
from cuma_jax.evaluation.stages.scores import BASE, StageScores, change_text, title_of
from cuma_jax.reporting.report import REPORT_FILE, about_rows, make_environment
from cuma_jax.reporting.scales import fit
from cuma_jax.reporting.verdict import split_title
from cuma_jax.runtime.files import write_text


def write_stages_page(
    folder: pathlib.Path, name: str, scores: StageScores, stages: Sequence[tuple[str, str]], about: Mapping[str, Any]
) -> pathlib.Path:
    """Writes `folder`/report.html of a chain, whole or not at all, and returns its path.

    `stages` are name and objective of each, first to last; each has its own page in its own folder.
    """
    text = make_environment().get_template("stages.html").render(
        title=name,
        stages=[{"name": s, "objective": objective, "page": f"{s}/{REPORT_FILE}"} for s, objective in stages],
        headline=headline(scores, [stage for stage, _ in stages]),
        what=scores.what,
        splits=[
            {"title": split_title(split), "rows": block["rows"], "people": block["people"],
             "panels": [_panel(key, metric, block["stages"]) for key, metric in scores.metrics.items()]}
            for split, block in scores.values["splits"].items()
        ],
        about=about_rows(about),
    )  # fmt: skip
    path = folder / REPORT_FILE
    write_text(path, text)
    return path


def headline(scores: StageScores, stages: Sequence[str]) -> list[dict[str, str]]:
    """Of each stage, whether it served the people of the first split better than the one before."""
    key, metric = scores.first
    block = next(iter(scores.values["splits"].values()))
    good, bad = ("nearer", "further off") if metric.less_is_better else ("better", "worse")
    found = []
    for name in stages:
        change = block["stages"][name]["change"][key]
        low, high = change["low"], change["high"]
        tone, answer = "unknown", "no sure change"
        if low is not None and high is not None and (low > 0 or high < 0):
            tone, answer = ("good", good) if (high < 0) == metric.less_is_better else ("bad", bad)
        by = f"{metric.title.lower()} {'less' if metric.less_is_better else 'more'} by"
        found.append({"name": name, "tone": tone, "answer": answer, "because": f"{by} {change_text(change, metric)}"})
    return found


def _panel(key: str, metric: StageMetric, stages: Mapping[str, Any]) -> dict[str, Any]:
    style = f"{{:.{metric.digits}f}}"
    known = {name: scored[key] for name, scored in stages.items() if scored[key]["value"] is not None}
    scale = fit([v for found in known.values() for v in found.values() if v is not None])
    rows = []
    for name, found in known.items():
        value, low, high = (found[k] for k in ("value", "low", "high"))
        low, high = value if low is None else low, value if high is None else high
        rows.append({
            "name": title_of(name), "kind": "pooled" if name in (POOLED, BASE) else "model", "at": scale.at(value),
            "low": scale.at(low), "width": scale.at(high) - scale.at(low), "text": style.format(value),
            "range": f"{style.format(low)} to {style.format(high)}",
        })  # fmt: skip
    side = "left is better" if metric.less_is_better else "right is better"
    return {"title": metric.title, "about": f"{metric.about}; {side}", "rows": rows, "ticks": scale.ticks(4)}
