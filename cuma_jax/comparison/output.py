"""Writes a comparison down: comparison.json, comparison.parquet and .tsv, and a table for the terminal."""

import json
import pathlib
from typing import Any

import pandas as pd

from cuma_jax.comparison.table import METRICS
from cuma_jax.reporting.comparison import by_emd
from cuma_jax.runtime.files import atomic_write, write_text
from cuma_jax.runtime.text_table import interval_text, number_text, text_table

JSON_FILE, PARQUET_FILE, TSV_FILE = "comparison.json", "comparison.parquet", "comparison.tsv"
_COSTS = ("trainable_parameters", "steps", "training_seconds", "seconds_per_step", "evaluation_seconds",
          "peak_memory_bytes")  # fmt: skip


def write_comparison(values: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes the three files, each whole or not at all."""
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    frame = long_table(values)
    tsv = frame.to_csv(sep="\t", index=False)
    atomic_write(folder / PARQUET_FILE, lambda part: frame.to_parquet(part, index=False))
    write_text(folder / TSV_FILE, tsv)
    write_text(folder / JSON_FILE, text)


def long_table(values: dict[str, Any]) -> pd.DataFrame:
    """One row a (split, questions, method): metrics with their bounds, n, floor and cost.

    `questions` is `overall`, `several_groups`, or a question's id.
    """
    cost = {v["name"]: v["cost"] for v in values["variants"]}
    rows = []
    for split, scores in values["splits"].items():
        blocks = {**scores["scopes"], **scores["questions"]}
        for questions, block in blocks.items():
            for row in block["rows"]:
                line = {"split": split, "questions": questions, "method": row["name"], "kind": row["kind"]}
                line |= {"seeds": row["seeds"], **{f"n_{k}": v for k, v in block["n"].items()}, "floor": block["floor"]}
                for key in (*METRICS, "share_closed", "difference"):
                    metric = row[key] or {"value": None, "low": None, "high": None}
                    line |= {key: metric["value"], f"{key}_low": metric["low"], f"{key}_high": metric["high"]}
                line["superiority"] = row["superiority"]
                known = cost.get(row["name"], {}) if row["kind"] == "variant" else {}
                rows.append(line | {key: known.get(key) for key in _COSTS})
    frame = pd.DataFrame(rows)
    numbers = frame.columns.difference(["split", "questions", "method", "kind"])
    return frame.astype({name: "float64" for name in numbers if frame[name].dtype == object})  # fmt: skip


def printed_table(values: dict[str, Any]) -> str:
    """The headline scope of every split, best first, for the terminal."""
    cost = {v["name"]: v["cost"] for v in values["variants"]}
    header = [
        "method", "seeds", "EMD [95%]", "closed", "spread", "corr", "JS", "NLL", "accuracy",
        f"EMD - {values['reference']} [95%]", "P(better)", "parameters", "train", "s/step", "memory",
    ]  # fmt: skip
    parts = []
    for split, scores in values["splits"].items():
        block = scores["scopes"][scores["headline"]]
        n = block["n"]
        title = (
            f"{split}{' (questions with 3+ groups)' if scores['headline'] != 'overall' else ''}: "
            f"{n['answers']:,} answers of {n['respondents']:,} people, {n['cells']:,} cells of at least "
            f"{values['min_cell']}, {n['questions']} questions; floor {number_text(block['floor'])}"
        )
        rows = [
            _line(row, cost.get(row["name"], {}) if row["kind"] == "variant" else {})
            for row in sorted(block["rows"], key=by_emd)
        ]
        parts.append(f"{title}\n{text_table(header, rows, range(1, len(header)))}")
    troubles = [f"{t['status']}: {t['cell']}{': ' + t['why'] if t['why'] else ''}" for t in values["troubles"]]
    troubles += [f"not comparable: {t['cell']}{' on ' + t['split'] if t['split'] else ''}: {t['why']}"
                 for t in values["not_comparable"]]  # fmt: skip
    troubles += [f"note: {t['cell']} {t['why']}" for t in values["notes"]]
    notes = (
        "closed: share of the way from pooled to floor. spread: 1 is right, 0 is mean collapse. P(better): share of "
        "paired resamples in which\nthe method is nearer to the answers than the reference. Means over seeds; one seed "
        "(*): the interval knows nothing of training's luck."
    )
    return "\n\n".join([*parts, notes, *(["\n".join(troubles)] if troubles else [])])


def _line(row: dict[str, Any], cost: dict[str, Any]) -> list[str]:
    memory, seconds = cost.get("peak_memory_bytes"), cost.get("training_seconds")
    parameters = cost.get("trainable_parameters")
    return [
        row["name"] if row["kind"] == "variant" else f"({row['name']})",
        {0: "-", 1: "1*"}.get(row["seeds"], str(row["seeds"])),
        interval_text(row["emd"]),
        number_text(row["share_closed"]["value"], "{:.0%}"),
        number_text(row["spread_ratio"]["value"], "{:.2f}"),
        number_text(row["correlation"]["value"], "{:.2f}"),
        number_text(row["js"]["value"]),
        number_text(row["nll"]["value"], "{:.3f}"),
        number_text(row["accuracy"]["value"], "{:.1%}"),
        interval_text(row["difference"], "{:+.4f}"),
        number_text(row["superiority"], "{:.2f}"),
        "-" if parameters is None else f"{parameters:,.0f}",
        "-" if seconds is None else f"{'~' if cost['training_estimated'] else ''}{seconds:.0f} s",
        number_text(cost.get("seconds_per_step"), "{:.2f}"),
        "-" if memory is None else f"{memory / 2**30:.1f} GB",
    ]
