"""Draws docs/learning.svg: what CuMA's learning depends on, from a finished `compare_learning`.

    python -m cuma_jax.compare --config compare_learning
    python benchmarks/profile_geometry.py --json geometry.json
    python benchmarks/learning_curves.py --runs runs/compare_learning --geometry geometry.json --out docs/learning.svg

Needs matplotlib, which nothing else here does.
"""

import argparse
import json
import pathlib
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

CURVES = {
    "whole_raw": "whole profile, as encoded",
    "components_4": "fields, 4 components",
    "cuma": "fields, 16 components",
    "all_components_both": "fields, every country apart + region, language",
    "categorical_both": "categorical + region, language",
}


def validation(folder: pathlib.Path) -> tuple[list[int], list[float]]:
    """Steps and validation losses of a run."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [(line["step"], line["loss"]) for line in lines if line.get("eval") == "validation"]
    return [step for step, _ in found], [loss for _, loss in found]


def scores(folder: pathlib.Path) -> dict[str, Any]:
    """Share closed on unseen respondents, and the difference from pooled in unseen countries."""
    splits = json.loads((folder / "results.json").read_text())["splits"]
    blocks = {name: split["several_groups"] or split["overall"] for name, split in splits.items()}
    return {
        "share": blocks["unseen_respondent"]["share_closed"]["model"]["value"],
        "transfer": blocks["unseen_country"]["difference"]["pooled"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/compare_learning"))
    parser.add_argument("--geometry", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/learning.svg"))
    args = parser.parse_args()
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "learning", "font.size": 9})
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for name, title in CURVES.items():
        if (args.runs / name / "seed0" / "results.json").is_file():
            left.plot(*validation(args.runs / name / "seed0"), marker="o", markersize=3, label=title)
    left.set(xlabel="step", ylabel="validation loss, nats", title="Learning, by profile vector")
    left.legend(fontsize=7)
    geometry = json.loads(args.geometry.read_text())
    for name, g in geometry.items():
        folder = args.runs / name / "seed0"
        if (folder / "results.json").is_file():
            s = scores(folder)
            middle.plot(g["dimensions"], s["share"], "o", color="tab:blue")
            middle.annotate(name, (g["dimensions"], s["share"]), fontsize=6, xytext=(3, 3), textcoords="offset points")
    middle.set(xlabel="effective dimensions of the countries' vectors", ylabel="share of explainable distance closed",
               title="Respondents never seen")  # fmt: skip
    rows = [(f.name, scores(f / "seed0")) for f in args.runs.iterdir() if (f / "seed0" / "results.json").is_file()]
    rows.sort(key=lambda row: -row[1]["transfer"]["value"])
    for y, (_, s) in enumerate(rows):
        t = s["transfer"]
        right.plot([t["low"], t["high"]], [y, y], color="tab:gray")
        right.plot(t["value"], y, "o", color="tab:orange", markersize=4)
    right.axvline(0, color="black", linewidth=0.8)
    right.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=6)
    right.set(xlabel="EMD minus the pooled average's (left is better)", title="Countries never seen")
    figure.savefig(args.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
