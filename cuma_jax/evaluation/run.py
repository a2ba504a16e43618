"""Scores a run: predict, score, write. What is made of it for people (report, table) is the command's."""

import pathlib
import platform
import sys
import time
from typing import Any

import jax
import numpy as np
import pandas as pd

from cuma_jax import __version__
from cuma_jax.config import Config
from cuma_jax.evaluation.preferences.pair_scores import evaluate_pairs, pair_metrics
from cuma_jax.evaluation.preferences.row_scores import evaluate_preferences
from cuma_jax.evaluation.results import Results, write_results
from cuma_jax.evaluation.surveys.grouping import select_answers
from cuma_jax.evaluation.surveys.prediction import Predictions, predict
from cuma_jax.evaluation.surveys.scores import evaluate
from cuma_jax.preferences.load import SOURCES
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.run.run import Run
from cuma_jax.run.trained import CheckpointInfo
from cuma_jax.runtime.memory import peak_bytes
from cuma_jax.surveys.groups import build_groups


def evaluate_run(
    run: Run,
    adapters: Any,
    folder: pathlib.Path,
    seconds: float | None = None,
    scored: CheckpointInfo | None = None,
) -> tuple[Results, pd.DataFrame | None]:
    """Scores adapters and writes results.json and per_cell.parquet. All processes call this.

    Args:
        run: a config made real.
        adapters: trained adapters, on the devices.
        folder: the run's folder.
        seconds: time spent training, for the record.
        scored: which state of the run the adapters are.

    Returns:
        The results, and how much each group uses each expert (None without a router, or on preference data).
    """
    config, began = run.config, time.perf_counter()
    about = about_run(config) | {
        "training_seconds": seconds,
        "trainable_parameters": run.trainable_parameters,
        **(scored.about() if scored else {}),
    }
    prefers = run.objective.scores_pairs
    if config.data.source in SOURCES:
        score = evaluate_pairs if prefers and isinstance(run.source, Preferences) else evaluate_preferences
        results, predictions = score(run, adapters, about), None
    else:
        selection = select_answers(run.survey, run.profiles, run.split_N, config.evaluation)
        predictions = predict(run, adapters, *selection.pairs)
        results = evaluate(selection, predictions, config.evaluation, about)
        if prefers:
            pairs, _, notes = pair_metrics(run, adapters, config.evaluation.splits)
            results.values["pairs"] = {"splits": pairs, "notes": notes}
        if predictions.sensitivity:
            results.values["option_order"] = predictions.sensitivity
    about |= {
        "evaluation_seconds": round(time.perf_counter() - began, 1),
        "peak_memory_bytes": peak_bytes(jax.local_devices()),
    }
    write_results(results, folder, jax.process_index())
    return results, predictions and expert_use(run, predictions)


def about_run(config: Config) -> dict[str, Any]:
    """The command of this process, the model, the machine and versions, as results and pages name them."""
    return {
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "model": config.model.source,
        "machine": f"{platform.system()} {platform.machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {"cuma_jax": __version__, "jax": jax.__version__, "python": platform.python_version()},
    }


def expert_use(run: Run, predictions: Predictions) -> pd.DataFrame | None:
    """Mean gate of each expert, one row a (group, layer), over predicted rows; None without a router.

    Args:
        run: a config made real.
        predictions: of its evaluation.
    """
    gate_NLE = predictions.gate_NLE
    if gate_NLE.size == 0:
        return None
    groups = build_groups(run.survey, run.config.evaluation.group_by)
    group_P = np.full(len(run.profiles), -1)
    group_P[run.profiles.profile_R] = groups.group_R
    group_N = group_P[predictions.profile_N]
    first, frames = run.decoder.n_frozen, []
    for group in np.unique(group_N[group_N >= 0]):
        mean_LE = gate_NLE[group_N == group].mean(axis=0)
        index = pd.MultiIndex.from_product([[groups.names[group]], range(first, first + len(mean_LE))])
        frames.append(pd.DataFrame(mean_LE, index=index.set_names(["group", "layer"])))
    return pd.concat(frames).rename(columns=lambda e: f"expert {e + 1}")
