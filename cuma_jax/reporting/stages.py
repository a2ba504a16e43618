"""Writes the page of a chain: every stage on the same held-out answers, with the page of each."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from cuma_jax.cache import write_text
from cuma_jax.evaluation.stages import ALIKE, BASE, StageScores
from cuma_jax.reporting.report import REPORT_FILE, about_rows, make_environment
from cuma_jax.reporting.scales import fit
from cuma_jax.reporting.verdict import split_title

_PANELS = {
    "energy": ("Energy score", "distance from what a person answered; left is better", "{:.4f}"),
    "pair_accuracy": ("Pair accuracy", "a person's option is likelier than another; right is better", "{:.3f}"),
    "margin": ("Margin", "log-probability of a person's option less the others', nats; right is better", "{:.2f}"),
}


def write_stages_page(
    folder: pathlib.Path, name: str, scores: StageScores, stages: Sequence[tuple[str, str]], about: Mapping[str, Any]
) -> pathlib.Path:
    """Writes `folder`/report.html, whole or not at all, and returns its path.

    Args:
        folder: of the chain.
        name: of the chain.
        scores: of its stages.
        stages: name and objective of each, first to last; each has its own page in its own folder.
        about: how it was measured.
    """
    text = make_environment().get_template("stages.html").render(
        title=name,
        stages=[{"name": s, "objective": objective, "page": f"{s}/{REPORT_FILE}"} for s, objective in stages],
        headline=headline(scores, [stage for stage, _ in stages]),
        splits=[
            {"title": split_title(split), "answers": block["answers"], "respondents": block["respondents"],
             "panels": [_panel(figure, block["stages"]) for figure in _PANELS]}
            for split, block in scores.values["splits"].items()
        ],
        about=about_rows(about),
    )  # fmt: skip
    path = folder / REPORT_FILE
    write_text(path, text)
    return path


def headline(scores: StageScores, stages: Sequence[str]) -> list[dict[str, str]]:
    """Of each stage, whether it came nearer to people of the first split than the one before."""
    block = next(iter(scores.values["splits"].values()))
    found = []
    for name in stages:
        change = block["stages"][name]["change"]["energy"]
        value, low, high = change["value"], change["low"], change["high"]
        tone, answer = "unknown", "no sure change"
        if high is not None and high < 0:
            tone, answer = "good", "nearer"
        elif low is not None and low > 0:
            tone, answer = "bad", "further off"
        span = "" if low is None else f" [{-high:+.4f}, {-low:+.4f}]"
        found.append(
            {"name": name, "tone": tone, "answer": answer, "because": f"energy score less by {-value:+.4f}{span}"}
        )
    return found


def _panel(figure: str, stages: Mapping[str, Any]) -> dict[str, Any]:
    title, about, style = _PANELS[figure]
    values = [v for s in stages.values() for v in s[figure].values() if v is not None]
    scale = fit(values)
    rows = []
    for name, scored in stages.items():
        value, low, high = (scored[figure][k] for k in ("value", "low", "high"))
        low, high = value if low is None else low, value if high is None else high
        rows.append({
            "name": name, "kind": "pooled" if name in (ALIKE, BASE) else "model", "at": scale.at(value),
            "low": scale.at(low), "width": scale.at(high) - scale.at(low), "text": style.format(value),
            "range": f"{style.format(low)} to {style.format(high)}",
        })  # fmt: skip
    return {"title": title, "about": about, "rows": rows, "ticks": scale.ticks(4)}
