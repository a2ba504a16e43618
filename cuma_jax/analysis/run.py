"""Analyses a trained run of a survey, whatever its method, and writes the metrics and tables."""

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd

from cuma_jax.analysis.collapse import collapse, collapse_table, means_table
from cuma_jax.analysis.conflict import conflict
from cuma_jax.analysis.topology import profile_groups, topology
from cuma_jax.config.saved import ANALYSIS_TABLES
from cuma_jax.evaluation.results import Results
from cuma_jax.evaluation.run import about_run
from cuma_jax.evaluation.surveys.grouping import select_answers
from cuma_jax.evaluation.surveys.prediction import predict
from cuma_jax.evaluation.surveys.scores import evaluate
from cuma_jax.run.run import Run
from cuma_jax.runtime.files import atomic_write, write_text

SCHEMA = 1
"""Version of analysis.json."""
ANALYSIS_FILE = "analysis.json"
Tree = Any


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What was found.

    Attributes:
        values: plain JSON values: `collapse` by split; `interference` and `topology`, each with a `reason` alone where
            the run has none; `training`, the measurements made while it trained; `step`, `about`, and so on.
        tables: collapse, means, cosines, gates, distances, maps; those there are.
        results: the evaluation that it stands on (not written: `evaluate` writes the run's results).
    """

    values: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    results: Results


def analyze_run(run: Run, adapters: Tree, step: int, metrics: Sequence[dict[str, Any]], rows: int) -> Analysis:
    """Analyses adapters on the splits of `evaluation.splits`. All processes call this.

    Args:
        step: of the adapters.
        metrics: the lines of metrics.jsonl.
        rows: training rows of each group whose gradients are compared.
    """
    config, began = run.config, time.perf_counter()
    selection = select_answers(run.survey, run.profiles, run.split_N, config.evaluation)
    predictions = predict(run, adapters, *selection.pairs)
    results = evaluate(selection, predictions, config.evaluation)
    found = collapse(results)
    tables = {"collapse": collapse_table(found), "means": means_table(results)}
    interference, cosine, reason = conflict(run, adapters, rows)
    routing: dict[str, Any] = {"reason": "this method has no router: everybody is answered by the same parameters"}
    if predictions.gate_NLE.size:
        group_P, names = profile_groups(run.survey, run.profiles, config.evaluation.group_by)
        vectors, first = None if run.table is None else run.table.vectors_PM, run.decoder.n_frozen
        routing, more = topology(results, predictions, group_P, names, vectors, first, config.evaluation.seed)
        tables |= more
    tables |= {} if interference is None else {"cosines": cosine}
    values = {
        "schema": SCHEMA,
        "run": config.name,
        "survey": run.survey.name,
        "group_by": list(config.evaluation.group_by),
        "step": step,
        "seed": config.evaluation.seed,
        "about": about_run(config) | {"analysis_seconds": round(time.perf_counter() - began, 1)},
        "collapse": found,
        "interference": {"reason": reason} if interference is None else interference,
        "topology": routing,
        "training": [m for m in metrics if "interference" in m],
    }
    return Analysis(values, {name: table for name, table in tables.items() if len(table)}, results)


def write_analysis(analysis: Analysis, folder: pathlib.Path, process_index: int = 0) -> None:
    """Writes analysis.json and analysis/*.parquet, each whole or not at all; processes other than 0 write nothing."""
    if process_index != 0:
        return
    for name, table in analysis.tables.items():
        flat = table.reset_index() if isinstance(table.index, pd.MultiIndex) else table
        path = folder / ANALYSIS_TABLES / f"{name}.parquet"
        atomic_write(path, functools.partial(flat.to_parquet, index=False))
    text = json.dumps(analysis.values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(folder / ANALYSIS_FILE, text)
