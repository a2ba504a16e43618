"""Compares a run with another side by who is preferred: `python -m cuma_jax.evaluate --preferences`."""

import dataclasses
import pathlib

from cuma_jax.commands.score_run import build_saved
from cuma_jax.config import Config
from cuma_jax.evaluation.preferences.head_to_head import Sizes, compare_sides
from cuma_jax.evaluation.preferences.pair_scores import pair_metrics
from cuma_jax.evaluation.preferences.replies import Side
from cuma_jax.evaluation.preferences.results import preferences_lines, write_preferences
from cuma_jax.evaluation.run import about_run
from cuma_jax.judging import Judge
from cuma_jax.reporting import add_preferences
from cuma_jax.run.folder import local_folder, read_config
from cuma_jax.run.trained import load_adapters
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir
from cuma_jax.runtime.processes import process_index

BASE = "base"
_PROMPTS, _FREE_PROMPTS = 100, 400


def compare_with(
    against: str, config: Config, folder: pathlib.Path, which: str, prompts: int | None, pairs: int
) -> None:
    """Compares, writes preferences.json, adds to the report and prints. All processes call this.

    Args:
        against: the folder of the other run, or `BASE`.
        config, folder, which: the run's, and its checkpoint, `last` or `best`.
        prompts: how many are judged, at most; None: 100, or 400 where a survey's respondents judge.
        pairs: that people judged, on which the judge is compared with them.

    Raises:
        CumaError: the run itself, no such run, or whatever is wrong with judge, data or files; nothing is written.
    """
    second = None if against == BASE else local_folder(against, "--against")
    theirs = None if second is None else read_config(second)
    if second is not None and second.resolve() == folder.resolve():
        raise CumaError(f"--against {against} is the run itself; give another run's folder, or {BASE}")
    sizes = Sizes(prompts or (_PROMPTS if config.judge.url else _FREE_PROMPTS), pairs)
    # One process asks; a missing key is found before anything is read.
    first = process_index() == 0
    judge = Judge(config.judge, cache_dir(config.run.cache_dir)) if config.judge.url and first else None
    run = build_saved(config)
    adapters, scored = load_adapters(run, folder, which)

    def other() -> Side:
        if theirs is None or second is None:
            return Side("the base", run, run.identity_adapters(config.train.seed))
        own = dataclasses.replace(theirs, evaluation=config.evaluation, mesh=config.mesh)
        there = build_saved(own)
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
