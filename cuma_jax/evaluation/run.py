"""Scores a run: predictions, figures, files, and the table that is printed."""

import pathlib
import platform
import sys
import time
from typing import Any

import jax
import numpy as np
import pandas as pd

from cuma_jax import __version__
from cuma_jax.config import to_dict
from cuma_jax.evaluation.predict import Predictor
from cuma_jax.evaluation.results import Results, summary_table, write_results
from cuma_jax.evaluation.scores import evaluate
from cuma_jax.training.assembly import Assembly


def evaluate_run(assembly: Assembly, adapters: Any, folder: pathlib.Path, seconds: float | None = None) -> Results:
    """Evaluates adapters, writes results.json and per_cell.parquet, and prints a table. All processes call this.

    Args:
        assembly: the run.
        adapters: trained adapters, on the devices.
        folder: the run's folder.
        seconds: time spent training, for the record.
    """
    config, predictor = assembly.config, Predictor(assembly, adapters)
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    def predict(profile_N: np.ndarray, question_N: np.ndarray) -> np.ndarray:
        asked.append((profile_N, question_N))
        return predictor(profile_N, question_N)

    began = time.perf_counter()
    about = {
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "model": config.model.source,
        "machine": f"{platform.machine()}, {jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {"cuma_jax": __version__, "jax": jax.__version__, "python": platform.python_version()},
        "training_seconds": seconds,
    }
    results = evaluate(assembly.survey, assembly.profiles, assembly.split_A, predict, config.evaluation, about)
    results.values["about"]["evaluation_seconds"] = time.perf_counter() - began
    write_results(results, folder, jax.process_index())
    if jax.process_index() == 0:
        print(summary_table(results))
    return results
