"""Values for the plots of an analysis: places in percent of the plot, colours as shares, everything else as text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.reporting.scales import Scale, Tick, fit

BLOCKS = {
    "all": "everything that is trained",
    "matrices": "adapters as a whole",
    "layers": "adapters, layer by layer",
    "experts": "each expert by itself",
    "router": "routers",
}
MAP_TITLES = {
    "true": "what people answered",
    "predicted": "what the model predicts",
    "routes": "which experts are used",
    "profile": "profile vectors",
}
_LINES = ("matrices", "experts", "router")


def cosine_map(cosines: pd.DataFrame, block: str, names: Sequence[str], top: float) -> dict[str, Any] | None:
    """Cosines of every two groups, a row and a column each, mean over the blocks of a kind; None where there are none.

    A group with itself is the cosine between its halves; `top` is the cosine of full colour.
    """
    rows = cosines[cosines["block"] == block]
    if rows.empty:
        return None
    mean = rows.groupby(["group_a", "group_b"])["cosine"].mean()
    found = []
    for i, one in enumerate(names):
        cells = []
        for j, other in enumerate(names):
            value = mean.get((one, other) if i <= j else (other, one), np.nan)
            known = bool(np.isfinite(value))
            share = round(100 * min(abs(value) / top, 1.0), 1) if known else 0.0
            what = "two halves of its rows" if i == j else f"and {other}"
            cells.append({
                "kind": ("self " if i == j else "") + ("none" if not known else "against" if value < 0 else "along"),
                "share": share,
                "text": f"{one} {what}: " + (f"{value:+.2f}" if known else "share nothing"),
            })  # fmt: skip
        found.append({"name": one, "number": i + 1, "cells": cells})
    return {"title": BLOCKS[block], "rows": found, "size": len(names)}


def largest_cosine(cosines: pd.DataFrame, blocks: Sequence[str]) -> float:
    """The largest mean cosine between two different groups, by size: what has full colour; at least 0.1."""
    rows = cosines[cosines["block"].isin(blocks) & (cosines["group_a"] != cosines["group_b"])]
    mean = rows.groupby(["block", "group_a", "group_b"])["cosine"].mean().abs()
    return max(0.1, float(mean.max())) if mean.notna().any() else 0.1


def layer_plot(by_layer: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean cosine and share of negative pairs against the layer; empty for a single layer."""
    if len(by_layer) < 2:
        return []
    layers = [float(row["layer"]) for row in by_layer]
    series = {name: [(row["layer"], row[name]) for row in by_layer if name in row] for name in _LINES}
    step = max(1, round(len(layers) / 8))
    scale = Scale(layers[0], layers[-1])
    ticks = [Tick(scale.at(layer), str(int(layer))) for layer in layers[::step]]
    return _panels(series, scale, ticks, "layer")


def training_curves(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean cosine and share of negative pairs against the step, as measured while training; empty if it was not."""
    if not lines:
        return []
    series = {
        name: [(m["step"], m["interference"][name]) for m in lines if name in m["interference"]] for name in _LINES
    }
    scale = Scale(0.0, float(max(m["step"] for m in lines)))
    return _panels(series, scale, scale.ticks(5), "step")


def _panels(
    series: Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]], x: Scale, ticks: Sequence[Tick], axis: str
) -> list[dict[str, Any]]:
    panels = []
    for key, title, unit in (
        ("mean_cosine", "Mean cosine", "below 0: against each other"),
        ("negative_share", "Pairs that pull against each other", "share"),
    ):
        known = {
            name: [(float(at), float(s[key])) for at, s in points if s.get(key) is not None]
            for name, points in series.items()
        }
        values = [v for points in known.values() for _, v in points]
        if not values:
            continue
        y = fit([*values, 0.0]) if key == "mean_cosine" else Scale(0.0, max(1.0 if max(values) > 0.6 else 0.6, 0.1))
        panels.append({
            "title": title, "unit": unit, "axis": axis, "ticks": y.ticks(4), "x_ticks": ticks,
            "reference": y.at(0.0 if key == "mean_cosine" else 0.5),
            "lines": [
                {
                    "name": name, "title": BLOCKS[name],
                    "points": " ".join(f"{x.at(a)},{round(100 - y.at(b), 3)}" for a, b in points),
                    "dots": [
                        {"left": x.at(a), "bottom": y.at(b), "text": f"{BLOCKS[name]}, {axis} {a:g}: {b:.3f}"}
                        for a, b in points
                    ],
                }
                for name, points in known.items() if points
            ],
        })  # fmt: skip
    return panels


def group_maps(maps: pd.DataFrame, shares: Mapping[str, float]) -> dict[str, Any]:
    """The 2-D maps of groups side by side, equal scales on both axes, and the colours of the regions."""
    regions = sorted(set(maps["region"]) - {""}, key=lambda name: (name.split()[-1], name))
    hue = {name: round(360 * i / len(regions)) for i, name in enumerate(regions)}
    panels = []
    for name in maps["map"].unique():
        rows = maps[maps["map"] == name]
        reach = 1.12 * max(float(rows[["x", "y"]].abs().to_numpy().max()), 1e-9)
        scale = Scale(-reach, reach)
        dots = [
            {
                "left": scale.at(r.x), "bottom": scale.at(r.y), "group": r.group, "hue": hue.get(r.region),
                "seen": bool(r.seen), "label": False, "flip": scale.at(r.x) > 60,
                "text": f"{r.group}{f' ({r.region})' if r.region else ''}: {r.answers:,} answers"
                + ("" if r.seen else ", never seen in training"),
            }
            for r in rows.itertuples()
        ]  # fmt: skip
        _label(dots)
        panels.append({"title": MAP_TITLES[name], "share": f"{shares[name]:.0%}", "dots": dots, "groups": len(dots)})
    return {
        "panels": panels,
        "regions": [{"name": n, "hue": hue[n]} for n in regions],
        "unseen": bool((~maps["seen"]).any()),
    }


def _label(dots: list[dict[str, Any]], most: int = 24) -> None:
    """Names those farthest from the middle, as long as no name lies on another."""
    taken: list[tuple[float, float, float]] = []
    order = sorted(range(len(dots)), key=lambda i: -np.hypot(dots[i]["left"] - 50, dots[i]["bottom"] - 50))
    for i in order:
        dot = dots[i]
        width = 2.6 * min(len(dot["group"]), 16) + 3
        left = dot["left"] - width if dot["flip"] else dot["left"]
        free = all(abs(dot["bottom"] - b) > 5 or left > r or left + width < x for x, r, b in taken)
        if free and len(taken) < most:
            taken.append((left, left + width, dot["bottom"]))
            dot["label"] = True
