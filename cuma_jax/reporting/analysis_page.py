"""Writes analysis.html: whether a run collapsed, whether groups conflict, and who is routed with whom."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from cuma_jax.analysis.run import Analysis
from cuma_jax.reporting.analysis_charts import (
    BLOCKS,
    MAP_TITLES,
    cosine_map,
    group_maps,
    largest_cosine,
    layer_plot,
    training_curves,
)
from cuma_jax.reporting.analysis_verdict import answers
from cuma_jax.reporting.charts import expert_map, mean_scatters
from cuma_jax.reporting.report import about_rows, make_environment
from cuma_jax.reporting.verdict import group_words, headline_split, split_title
from cuma_jax.runtime.files import write_text
from cuma_jax.runtime.text_table import aligned, number_text

ANALYSIS_PAGE = "analysis.html"


def write_analysis_page(
    run_dir: pathlib.Path, analysis: Analysis, config: Mapping[str, Any], process_index: int = 0
) -> pathlib.Path:
    """Writes `run_dir`/analysis.html, whole or not at all, and returns its path; only process 0 writes."""
    path = run_dir / ANALYSIS_PAGE
    if process_index == 0:
        write_text(path, render_analysis(analysis, config))
    return path


def render_analysis(analysis: Analysis, config: Mapping[str, Any]) -> str:
    """The page as text; see `write_analysis_page`."""
    values, results = analysis.values, analysis.results
    one, many = group_words(results)
    split = headline_split(results)
    return make_environment().get_template("analysis.html").render(
        values=values,
        one=one,
        many=many,
        answers=answers(values, results),
        headline=split_title(split),
        splits=[
            {"title": split_title(name), "blocks": _collapse_rows(found, many)}
            for name, found in values["collapse"].items()
        ],
        scatters=mean_scatters(results.per_cell, split, results.values["splits"][split]["questions"]),
        conflict=_conflict(analysis),
        curves=training_curves(values["training"]),
        routing=_routing(analysis),
        blocks=BLOCKS,
        about=about_rows(values["about"]),
        config_text=json.dumps(config, indent=2, ensure_ascii=False, default=str),
    )  # fmt: skip


def _collapse_rows(found: Mapping[str, Any], many: str) -> list[tuple[str, Mapping[str, Any], bool]]:
    """(name, metrics, whether it is a mean over questions), those of most cells first."""
    questions = sorted(found["questions"].items(), key=lambda item: -item[1]["n"]["cells"])
    rows = [("all questions", found["overall"], True)]
    several = found["several_groups"]
    if several and several["n"]["questions"] != found["overall"]["n"]["questions"]:
        rows.insert(0, (f"{several['n']['questions']} with 3+ {many}", several, True))
    return rows + [(name, block, False) for name, block in questions]


def _conflict(analysis: Analysis) -> dict[str, Any] | None:
    interference = analysis.values["interference"]
    if "reason" in interference:
        return None
    names, cosines = [g["name"] for g in interference["groups"]], analysis.tables["cosines"]
    top = largest_cosine(cosines, ("matrices", "experts"))
    maps = [cosine_map(cosines, block, names, top) for block in ("matrices", "experts")]
    return {
        "maps": [m for m in maps if m is not None],
        "top": f"{top:.2f}",
        "layers": layer_plot(interference["by_layer"]),
        "rows": min(g["rows"] for g in interference["groups"]),
        "most_rows": max(g["rows"] for g in interference["groups"]),
    }


def _routing(analysis: Analysis) -> dict[str, Any] | None:
    topology, tables = analysis.values["topology"], analysis.tables
    if "reason" in topology:
        return None
    information = topology["information"]
    layers = [
        {
            "layer": layer, **load,
            "cells": [{"share": round(100 * v / max(load["load"]), 1), "text": f"{v:.3f}"} for v in load["load"]],
            "information": information["by_layer"][i] if information else None,
        }
        for i, (layer, load) in enumerate(zip(topology["layers"], topology["load"], strict=True))
    ]  # fmt: skip
    best = max(layers, key=lambda row: row["information"]["bits"] if row["information"] else 0.0)["layer"]
    return {
        "layers": layers,
        "best": best,
        "gates": expert_map(tables["gates"].xs(best, level="layer")),
        "tests": [
            {"one": MAP_TITLES[one], "other": MAP_TITLES[other], **test}
            for name, test in topology["mantel"].items()
            for one, other in [name.split(" x ")]
        ],
        "maps": group_maps(tables["maps"], topology["map_shares"]) if "maps" in tables else None,
    }


def analysis_table(analysis: Analysis) -> str:
    """The three answers and the metrics behind them, as plain text for the terminal."""
    values = analysis.values
    lines = [f"{a['question']}  {a['answer']}. {a['because']}" for a in answers(values, analysis.results)]
    blocks = values["interference"].get("blocks", {})
    if blocks:
        rows = [["gradients of pairs of groups", "cosine", "against", "halves", "pairs", "unused"]]
        for name, block in blocks.items():
            rows.append([
                BLOCKS[name],
                number_text(block["mean_cosine"], "{:+.3f}"), number_text(block["negative_share"], "{:.0%}"),
                number_text(block["within"], "{:.3f}"), f"{block['pairs']:,}", f"{block['unused_pairs']:,}",
            ])  # fmt: skip
        lines += ["", *aligned(rows, range(1, 6), (30, 6, 7, 6, 6, 6))]
    information = values["topology"].get("information")
    if information:
        lines += ["", (
            f"group and expert: {information['bits']:.3f} bits ({information['normalised']:.0%} of what is possible), "
            f"{information['null_bits']:.3f} where groups are dealt anew, {information['rows']:,} rows"
        )]  # fmt: skip
    return "\n".join(lines)
