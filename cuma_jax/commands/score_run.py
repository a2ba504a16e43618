"""What is done with a checkpoint of a run: it is restored, scored, compared with another side, and reported."""

import dataclasses
import pathlib
from typing import Any

import jax

from cuma_jax.commands.process_checks import check_config, check_data
from cuma_jax.config import Config, to_dict
from cuma_jax.config.saved import local_folder, read_config
from cuma_jax.evaluation.preferences.head_to_head import Sizes, compare_sides
from cuma_jax.evaluation.preferences.pair_scores import pair_metrics
from cuma_jax.evaluation.preferences.replies import Side
from cuma_jax.evaluation.preferences.results import preferences_lines, write_preferences
from cuma_jax.evaluation.preferences.row_scores import preferences_table
from cuma_jax.evaluation.results import summary_table, write_results
from cuma_jax.evaluation.run import about_run, evaluate_run
from cuma_jax.evaluation.surveys.grouping import select_answers
from cuma_jax.judging import Judge
from cuma_jax.reporting import add_preferences, write_report
from cuma_jax.run.build import build_run
from cuma_jax.run.folder import read_metrics
from cuma_jax.run.run import Run
from cuma_jax.run.trained import CheckpointInfo, load_adapters
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir
from cuma_jax.runtime.jax_setup import prepare_jax
from cuma_jax.runtime.processes import process_index
from cuma_jax.serving.bundle.written import save_bundle
from cuma_jax.surveys.survey import Survey

BASE = "base"


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


def check_cells(run: Run) -> None:
    """Before any training: a `CumaError` where what is held out of a survey could not be scored after it."""
    if isinstance(run.source, Survey):
        select_answers(run.source, run.profiles, run.split_N, run.config.evaluation)


def build_saved(config: Config, folder: pathlib.Path) -> Run:
    """The trained run in `folder` made real, for anything but training: its mesh need not divide training's batch."""
    check_config(config)
    prepare_jax(config.run.cache_dir)
    run = build_run(config, trains=False, folder=folder)
    check_data(run)
    return run


def score(
    run: Run, adapters: Any, folder: pathlib.Path, seconds: float | None, scored: CheckpointInfo | None = None
) -> None:
    """Evaluates, writes the report and the bundle, and prints the table. All processes call this.

    `seconds` were spent training.
    """
    results, use = evaluate_run(run, adapters, seconds, scored)
    if jax.process_index() == 0:
        report = write_report(folder, results, read_metrics(folder), to_dict(run.config), use)
        save_bundle(run, folder, results, scored)
        write_results(results, folder)  # last: where they are, nothing of the scoring is missing
        print(preferences_table(results) if "kind" in results.values else summary_table(results))
        print(f"\nreport: {report.resolve()}")


def compare_with(
    against: str, config: Config, folder: pathlib.Path, which: str, prompts: int | None, pairs: int
) -> None:
    """Compares, writes preferences.json, adds to the report and prints. All processes call this. Nothing is written
    where there is a `CumaError`: for the run itself, no such run, or whatever is wrong with judge, data or files.

    Args:
        against: the folder of the other run, or `BASE`.
        prompts: how many are judged, at most; None: 100, or 400 where a survey's respondents judge.
        pairs: that people judged, on which the judge is compared with them.
    """
    second = None if against == BASE else local_folder(against, "--against")
    theirs = None if second is None else read_config(second)
    if second is not None and second.resolve() == folder.resolve():
        raise CumaError(f"--against {against} is the run itself; give another run's folder, or {BASE}")
    sizes = Sizes(prompts or (100 if config.judge.url else 400), pairs)
    # One process asks; a missing key is found before anything is read.
    first = process_index() == 0
    judge = Judge(config.judge, cache_dir(config.run.cache_dir)) if config.judge.url and first else None
    run = build_saved(config, folder)
    adapters, scored = load_adapters(run, folder, which)

    def other() -> Side:
        if theirs is None or second is None:
            return Side("the base", run, run.identity_adapters(config.train.seed))
        own = dataclasses.replace(theirs, evaluation=config.evaluation, mesh=config.mesh)
        there = build_saved(own, second)
        found, _ = load_adapters(there, second, own.evaluation.checkpoint)
        return Side(theirs.name if theirs.name != config.name else str(second), there, found)

    name = config.name if theirs is None or theirs.name != config.name else str(folder)
    values = compare_sides(Side(name, run, adapters), other, judge, config.sampling, sizes)
    on_pairs, _, notes = pair_metrics(run, adapters, config.evaluation.splits)
    if values is None:
        return
    values |= {"pairs": {"splits": on_pairs, "notes": notes}, "about": about_run(config) | scored.about()}
    report = add_preferences(folder, values, config.name)
    write_preferences(values, folder)
    print(f"{preferences_lines(values)}\n\nreport: {report.resolve()}")
