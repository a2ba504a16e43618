"""Mean collapse: are predicted answers of groups as different, and as mixed, as true ones? From an evaluation's cells.

Entropies are in bits. That of a cell says how mixed one group's answers are; that of the pooled answers how mixed those
of all people together are. A collapsed model gives every group the pooled distribution: its cells' entropy is then as
high as that of its pooled answers, where the true cells' is lower. Spread ratio and correlation are the evaluation's.

Legend: C cells of one question, O its options.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import entropy

from cuma_jax.evaluation.metrics.spread import MIN_GROUPS
from cuma_jax.evaluation.results import Results


def collapse(results: Results) -> dict[str, Any]:
    """By split: metrics by question, and their means over questions.

    Returns:
        {split: {"questions": {id: metrics}, "overall": metrics, "several_groups": metrics or None}}. Metrics are
        `entropy`, `pooled_entropy` (each {predicted, true}), `spread_ratio`, `correlation` (of the
        evaluation: value, low, high and n) and `n` (answers, respondents, cells, questions).
    """
    found = {}
    for split, scores in results.values["splits"].items():
        cells = results.per_cell[results.per_cell["split"] == split]
        entropies = {str(name): _entropies(rows) for name, rows in cells.groupby("question", sort=False)}
        several = [name for name, block in scores["questions"].items() if block["floor"]["cells"] >= MIN_GROUPS]
        found[split] = {
            "questions": {name: _metrics(block, [entropies[name]]) for name, block in scores["questions"].items()},
            "overall": _metrics(scores["overall"], list(entropies.values())),
            "several_groups": scores["several_groups"]
            and _metrics(scores["several_groups"], [entropies[name] for name in several]),
        }
    return found


def _entropies(cells: pd.DataFrame) -> dict[str, float]:
    """Mean entropy of a question's cells, and entropy of their average weighted by answers; true and predicted."""
    weight_C = cells["n"].to_numpy(np.float64)
    found = {}
    for name in ("predicted", "true"):
        probs_CO = np.stack(cells[name].to_list())
        found[name] = float(entropy(probs_CO, base=2, axis=-1).mean())
        found[f"pooled_{name}"] = float(entropy(weight_C @ probs_CO, base=2))
    return found


def _metrics(block: dict[str, Any], entropies: list[dict[str, float]]) -> dict[str, Any]:
    mean = {name: float(np.mean([e[name] for e in entropies])) for name in entropies[0]}
    return {
        "entropy": {name: mean[name] for name in ("predicted", "true")},
        "pooled_entropy": {name: mean[f"pooled_{name}"] for name in ("predicted", "true")},
        **{name: block["methods"]["model"][name] for name in ("spread_ratio", "correlation")},
        "n": {key: block["floor"][key] for key in ("answers", "respondents", "cells", "questions")},
    }


def collapse_table(found: dict[str, Any]) -> pd.DataFrame:
    """The metrics as one row a (split, question); `(overall)` and `(several groups)` are means over questions."""
    rows = []
    for split, parts in found.items():
        blocks = {"(overall)": parts["overall"], "(several groups)": parts["several_groups"], **parts["questions"]}
        for question, block in blocks.items():
            if block is None:
                continue
            rows.append({
                "split": split, "question": question, **block["n"],
                **{f"entropy_{k}": v for k, v in block["entropy"].items()},
                **{f"pooled_entropy_{k}": v for k, v in block["pooled_entropy"].items()},
                **{name: block[name]["value"] for name in ("spread_ratio", "correlation")},
            })  # fmt: skip
    return pd.DataFrame(rows)


def means_table(results: Results) -> pd.DataFrame:
    """True and predicted mean answer (first option 0, last 1) of each cell of an ordered question."""
    rows = []
    for row in results.per_cell.itertuples():
        if results.values["splits"][row.split]["questions"][row.question]["distance"] != "emd":
            continue
        position_O = np.linspace(0.0, 1.0, len(row.true))
        means = {name: float(position_O @ np.asarray(getattr(row, name))) for name in ("true", "predicted")}
        rows.append({"split": row.split, "question": row.question, "group": row.group, "n": row.n, **means})
    return pd.DataFrame(rows, columns=["split", "question", "group", "n", "true", "predicted"])
