"""Values for the report's plots: everything in percent of the plot, so that the page can be any width.

A plot is an SVG stretched to its box for lines, with dots and labels as HTML on top, which stay round and readable.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.evaluation.metrics.spread import MIN_GROUPS
from cuma_jax.reporting.scales import Scale, fit
from cuma_jax.runtime.text_table import number_text
from cuma_jax.surveys.prompts import LETTERS


def overall_blocks(scores: Mapping[str, Any], many: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The means over questions, with what to call them: those asked in three or more groups first, if not all are."""
    several, everything = scores["several_groups"], scores["overall"]
    if not several or several["floor"]["questions"] == everything["floor"]["questions"]:
        return [("All questions", everything)]
    count, rest = several["floor"]["questions"], scores["few_groups"]["floor"]["questions"]
    return [
        (f"{count} question{'s' * (count != 1)} with 3+ {many}", several),
        (f"{rest} question{'s' * (rest != 1)} with 1-2 {many}", scores["few_groups"]),
        (f"All {count + rest} questions", everything),
    ]


def distance_plot(scores: Mapping[str, Any], many: str) -> dict[str, Any]:
    """EMD of the model (with interval), pooled and group marginal, and the floor, one row a question."""
    blocks = [(name, None, block) for name, block in overall_blocks(scores, many)]
    blocks += sorted(
        ((name, q["text"], q) for name, q in scores["questions"].items()),
        key=lambda row: -row[2]["floor"]["cells"],
    )
    values = [
        f[k] for _, _, b in blocks for f in (b["methods"][m]["emd"] for m in ("model", "pooled", "group"))
        for k in ("value", "high") if f[k] is not None and (k == "value" or f is b["methods"]["model"]["emd"])
    ]  # fmt: skip
    scale = fit(values, zero=True)
    rows = []
    for name, text, block in blocks:
        emd = block["methods"]["model"]["emd"]
        low, high = (emd["value"] if emd[k] is None else emd[k] for k in ("low", "high"))
        rows.append({
            "name": name, "text": text, "overall": text is None,
            "unordered": block.get("distance") == "total_variation",
            "cells": block["floor"]["cells"], "answers": block["floor"]["answers"],
            "floor": None if block["floor"]["value"] is None else scale.at(block["floor"]["value"]),
            "floor_text": number_text(block["floor"]["value"]),
            "model": scale.at(emd["value"]), "low": scale.at(low), "width": scale.at(high) - scale.at(low),
            "text_model": f"{emd['value']:.4f}", "text_range": "" if emd["low"] is None else f"{low:.4f} to {high:.4f}",
            **{m: scale.at(block["methods"][m]["emd"]["value"]) for m in ("pooled", "group")},
            **{f"text_{m}": f"{block['methods'][m]['emd']['value']:.4f}" for m in ("pooled", "group")},
        })  # fmt: skip
    # Questions of one or two groups show no differences between groups: out of the way, where there are others.
    aside = [r for r in rows if not r["overall"] and r["cells"] < MIN_GROUPS] if scores["several_groups"] else []
    return {
        "rows": [r for r in rows if r not in aside], "aside": aside, "ticks": scale.ticks(5),
        "floors": any(r["floor"] is not None for r in rows), "intervals": any(r["text_range"] for r in rows),
    }  # fmt: skip


def training_plot(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Loss (every logged step, smoothed, and validations) and balance against the step; None without logged steps."""
    logged = [m for m in metrics if "eval" not in m and _known(m.get("loss")) and _known(m.get("step"))]
    if not logged:
        return None
    checks = [m for m in metrics if "eval" in m and _known(m.get("loss")) and _known(m.get("step"))]
    steps, loss = [float(m["step"]) for m in logged], [float(m["loss"]) for m in logged]
    x = Scale(min(0.0, *steps), max(*steps, *(float(m["step"]) for m in checks), 1.0))
    # A few steps of a fresh model may be far above all others; then the axis is for the rest.
    visible = sorted(loss)[: max(2, math.ceil(0.95 * len(loss)))]
    if loss and max(loss) - visible[-1] < 2 * (visible[-1] - visible[0]):
        visible = loss
    y = fit([*visible, *(float(m["loss"]) for m in checks)])
    panels: list[dict[str, Any]] = [{
        "title": "Loss", "unit": "nats", "ticks": y.ticks(4),
        "lines": [
            {"kind": "raw", "points": _points(x, y, steps, loss)},
            {"kind": "smooth", "points": _points(x, y, steps, _smooth(loss))},
        ],
        "dots": [
            {"left": x.at(float(m["step"])), "bottom": y.at(float(m["loss"])),
             "text": f"step {m['step']}, {m['eval']}: {m['loss']:.4f}", "split": str(m["eval"])}
            for m in checks
        ],
        "reference": None,
    }]  # fmt: skip
    balance = [(float(m["step"]), float(m["balance"])) for m in logged if _known(m.get("balance"))]
    if balance:
        b = fit([1.0, *(v for _, v in balance)])
        panels.append({
            "title": "Load balance", "unit": "1 is even use of the experts", "ticks": b.ticks(4),
            "lines": [{"kind": "smooth", "points": _points(x, b, *map(list, zip(*balance, strict=True)))}],
            "dots": [], "reference": b.at(1.0),
        })  # fmt: skip
    speeds = {k: [float(m[k]) for m in logged if _known(m.get(k))] for k in ("examples_per_s", "tokens_per_s")}
    return {
        "panels": panels,
        "ticks": x.ticks(5),
        "steps": int(max(steps)),
        "first": loss[0],
        "last": _smooth(loss)[-1],
        "splits": sorted({str(m["eval"]) for m in checks}),
        **{key: float(np.median(known)) if known else None for key, known in speeds.items()},
    }


def answer_panels(per_cell: pd.DataFrame, split: str, questions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """True and predicted distributions of the best, median and worst cells of each question, most cells first."""
    cells = per_cell[per_cell["split"] == split]
    order = cells["question"].value_counts(sort=True).index
    out = []
    for position, name in enumerate(order):
        rows = cells[cells["question"] == name].sort_values(["emd", "group"]).reset_index(drop=True)
        options = questions[name]["options"]
        top = max(float(np.max(r[c])) for _, r in rows.iterrows() for c in ("true", "predicted"))
        out.append({
            "name": name, "text": questions[name]["text"], "cells": len(rows),
            "options": [{"letter": LETTERS[i % 26], "text": o} for i, o in enumerate(options)],
            "panels": [
                {"rank": rank, **_panel(rows.iloc[i], min(1.0, top * 1.08))}
                for i, rank in _pick(len(rows), 2 if position == 0 else 1)
            ],
        })  # fmt: skip
    return out


def _pick(count: int, each: int) -> list[tuple[int, str]]:
    """Rows of the best, median and worst cells; all of them where there are few."""
    if count <= 3 * each:
        ranks = ["best"] + ["between"] * (count - 2) + ["worst"] if count > 1 else ["only one"]
        return list(enumerate(ranks))
    middle = (count - each) // 2
    rows = [((i, "best"), (middle + i, "median"), (count - 1 - i, "worst")) for i in range(each)]
    return [picked for row in rows for picked in row]


def _panel(row: pd.Series, top: float) -> dict[str, Any]:
    size = len(row["true"])
    step = 100.0 / size
    scale = Scale(0.0, top)
    bars: list[dict[str, Any]] = [
        {"left": round(i * step + 0.14 * step, 3), "width": round(0.72 * step, 3), "middle": round((i + 0.5) * step, 3),
         "true": scale.at(float(t)), "predicted": scale.at(float(p)), "pooled": scale.at(float(a)),
         "letter": LETTERS[i % 26], "text": f"{LETTERS[i % 26]}: true {t:.0%}, predicted {p:.0%}, pooled {a:.0%}"}
        for i, (t, p, a) in enumerate(zip(row["true"], row["predicted"], row["pooled"], strict=True))
    ]  # fmt: skip
    return {
        "group": row["group"], "n": int(row["n"]), "emd": f"{row['emd']:.3f}",
        "floor": f"{row['floor']:.3f}" if _known(row["floor"]) else "-",
        "pooled": f"{row['emd_pooled']:.3f}", "bars": bars, "top": f"{top:.0%}",
        "line": " ".join(f"{b['middle']},{round(100 - b['predicted'], 3)}" for b in bars),
    }  # fmt: skip


def mean_scatters(per_cell: pd.DataFrame, split: str, questions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Predicted against true group means of each ordered question with three or more groups; options on 0 to 1."""
    cells = per_cell[per_cell["split"] == split]
    out = []
    for name in cells["question"].value_counts(sort=True).index:
        rows = cells[cells["question"] == name]
        if len(rows) < 3 or questions[name]["distance"] != "emd":
            continue
        position_O = np.linspace(0.0, 1.0, len(questions[name]["options"]))
        true_C, predicted_C = (np.stack(rows[c].to_list()) @ position_O for c in ("true", "predicted"))
        pooled = float(np.asarray(rows["pooled"].iloc[0]) @ position_O)
        scale = fit([*true_C, *predicted_C], pad=0.08)
        named = {int(np.argmin(true_C)), int(np.argmax(true_C)), int(np.argmax(np.abs(true_C - predicted_C)))}
        model = questions[name]["methods"]["model"]
        dots = [
            {"left": scale.at(t), "bottom": scale.at(p), "group": group, "label": i in named, "flip": scale.at(t) > 60,
             "text": f"{group}: true {t:.3f}, predicted {p:.3f}"}
            for i, (t, p, group) in enumerate(zip(true_C, predicted_C, rows["group"], strict=True))
        ]  # fmt: skip
        out.append({
            "name": name, "text": questions[name]["text"], "dots": dots, "ticks": scale.ticks(4),
            "pooled": scale.at(pooled), "groups": len(rows),
            "first": questions[name]["options"][0], "last": questions[name]["options"][-1],
            "ratio": model["spread_ratio"]["value"], "correlation": model["correlation"]["value"],
        })  # fmt: skip
    return out


def expert_map(expert_use: pd.DataFrame) -> dict[str, Any]:
    """Mean gate by group and expert, rows ordered by their strongest expert so that alike rows lie together.

    `expert_use` has one row a group, one column an expert; or rows indexed by (group, layer), which are averaged over
    layers, with a second map of how much groups differ in each layer.
    """
    layers, use = None, expert_use
    if isinstance(use.index, pd.MultiIndex):
        layers = _heat(use.groupby(level=1, sort=True).std(ddof=0))
        use = use.groupby(level=0, sort=False).mean()
    gate_NE = use.to_numpy(np.float64)
    order = np.lexsort((-gate_NE.max(-1), gate_NE.argmax(-1)))
    return {
        **_heat(use.iloc[order]),
        "layers": layers,
        "groups": len(use),
        "even": 1.0 / gate_NE.shape[1],
        "between": float(gate_NE.std(0).mean()),
    }


def _heat(table: pd.DataFrame) -> dict[str, Any]:
    values = table.to_numpy(np.float64)
    top = float(values.max()) or 1.0
    return {
        "experts": [str(c) for c in table.columns],
        "top": f"{top:.2f}",
        "rows": [
            {"name": str(name), "cells": [{"share": round(100 * v / top, 1), "text": f"{v:.3f}"} for v in row]}
            for name, row in zip(table.index, values, strict=True)
        ],
    }


def _known(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _smooth(values: Sequence[float]) -> list[float]:
    """Exponential moving average over about a twentieth of the run, corrected for its start."""
    return pd.Series(values).ewm(alpha=1.0 / max(1.0, len(values) / 20)).mean().tolist()


def _points(x: Scale, y: Scale, xs: Iterable[float], ys: Iterable[float]) -> str:
    return " ".join(f"{x.at(a)},{round(100 - y.at(b), 3)}" for a, b in zip(xs, ys, strict=True))
