"""Scores a run: predict, score, write. What is made of it for people (report, table) is the command's."""

import platform
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

from cuma_jax import __version__
from cuma_jax.config import Config
from cuma_jax.evaluation.preferences.pair_scores import evaluate_pairs, pair_metrics
from cuma_jax.evaluation.preferences.row_scores import evaluate_preferences
from cuma_jax.evaluation.results import Results
from cuma_jax.evaluation.surveys.grouping import select_answers
from cuma_jax.evaluation.surveys.hold import fit_hold
from cuma_jax.evaluation.surveys.prediction import Predictions, predict, prediction_step
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
    seconds: float | None = None,
    scored: CheckpointInfo | None = None,
) -> tuple[Results, pd.DataFrame | None]:
    """Scores adapters, on the devices. All processes call this.

    Gives the results, and how much each group uses each expert (None without a router, or on preference data). For the
    record: `seconds` spent training, and which state of the run was `scored`.
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
        step = prediction_step(run)
        hold = fit_hold(run, adapters, step) if config.evaluation.hold == "pooled" else None
        predictions = predict(run, adapters, *selection.pairs, step=step)
        predictions = predictions if hold is None else hold.apply(predictions)
        results = evaluate(selection, predictions, config.evaluation, about)
        if hold is not None:
            results.values["hold"] = hold.values([question.id for question in run.survey.questions])
        if prefers:
            pairs, _, notes = pair_metrics(run, adapters, config.evaluation.splits)
            results.values["pairs"] = {"splits": pairs, "notes": notes}
        if predictions.sensitivity:
            results.values["option_order"] = predictions.sensitivity
    about |= {
        "evaluation_seconds": round(time.perf_counter() - began, 1),
        "peak_memory_bytes": peak_bytes(jax.local_devices()),
    }
    return results, predictions and expert_use(run, predictions)


def about_run(config: Config) -> dict[str, Any]:
    """The command of this process, the model, the machine and versions, as results and pages name them."""
    return {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "model": config.model.source,
        "machine": f"{platform.system()} {platform.machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {"cuma_jax": __version__, "jax": jax.__version__, "python": platform.python_version()},
    }


def expert_use(run: Run, predictions: Predictions) -> pd.DataFrame | None:
    """Mean gate of each expert, one row a (group, layer), over predicted rows; None without a router."""
    gate_NLE = predictions.gate_NLE
    if gate_NLE.size == 0:
        return None
    groups = build_groups(run.survey, run.config.evaluation.group_by)
    group_P = np.full(len(run.profiles), -1)
    group_P[run.profiles.profile_R] = groups.group_R
    group_N = group_P[predictions.profile_N]
    group_G = np.unique(group_N[group_N >= 0])
    mean_GLE = np.stack([gate_NLE[group_N == group].mean(axis=0) for group in group_G])
    return gate_table(mean_GLE, [groups.names[group] for group in group_G], run.decoder.n_frozen)


def gate_table(mean_GLE: np.ndarray, names: Sequence[str], first: int) -> pd.DataFrame:
    """Mean gates as one row a (group, layer), layers counted from `first`, and one column an expert."""
    index = pd.MultiIndex.from_product([names, range(first, first + mean_GLE.shape[1])], names=["group", "layer"])
    experts = [f"expert {e + 1}" for e in range(mean_GLE.shape[2])]
    return pd.DataFrame(mean_GLE.reshape(len(index), -1), index=index, columns=experts)
