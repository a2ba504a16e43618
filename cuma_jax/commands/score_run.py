"""What is done with a checkpoint of a run: it is restored, scored, and reported."""

import pathlib
from typing import Any

import jax

from cuma_jax.config import Config, to_dict
from cuma_jax.evaluation.preferences.row_scores import preferences_table
from cuma_jax.evaluation.results import summary_table
from cuma_jax.evaluation.run import evaluate_run
from cuma_jax.reporting import write_report
from cuma_jax.run.build import build_run
from cuma_jax.run.folder import read_metrics
from cuma_jax.run.process_checks import check_config, check_data
from cuma_jax.run.run import Run
from cuma_jax.run.trained import CheckpointInfo
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.jax_setup import prepare_jax


def check_checkpoint(run: Run) -> None:
    """Before any training: a `CumaError` where `evaluation.checkpoint` is best, and nothing will be validated."""
    config = run.config
    validated = run.mask("validation").any() and config.train.eval_batches
    if config.evaluation.checkpoint == "best" and not validated:
        raise CumaError(
            "config field evaluation.checkpoint is best, but there is nothing to validate on: hold people or countries "
            "out for it (data.validation_respondents, data.validation_countries; train.eval_batches above 0), or "
            "set it to last"
        )


def build_saved(config: Config) -> Run:
    """A trained run made real, for anything but training: its mesh need not divide training's batch."""
    check_config(config)
    prepare_jax(config.run.cache_dir)
    run = build_run(config, trains=False)
    check_data(run)
    return run


def score(
    run: Run, adapters: Any, folder: pathlib.Path, seconds: float | None, scored: CheckpointInfo | None = None
) -> None:
    """Evaluates, writes the report, and prints the table. All processes call this.

    Args:
        seconds: time spent training, for the record.
        scored: which checkpoint `adapters` are.
    """
    results, use = evaluate_run(run, adapters, folder, seconds, scored)
    if jax.process_index() == 0:
        report = write_report(folder, results, read_metrics(folder), to_dict(run.config), use)
        print(preferences_table(results) if "kind" in results.values else summary_table(results))
        print(f"\nreport: {report.resolve()}")
