"""Scores a trained run again: `python -m cuma_jax.evaluate --run runs/quickstart`, and compares it with another."""

import dataclasses
import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np
import tyro

from cuma_jax.commands.command_line import take_distributed, take_option
from cuma_jax.config import Config, EvaluationConfig, JudgeConfig, MeshConfig, SamplingConfig, to_dict
from cuma_jax.config.machines import apply_machine
from cuma_jax.evaluation.preferences.head_to_head import Sizes, compare_sides
from cuma_jax.evaluation.preferences.pair_scores import pair_metrics
from cuma_jax.evaluation.preferences.replies import Side
from cuma_jax.evaluation.preferences.results import preferences_lines, write_preferences
from cuma_jax.evaluation.preferences.row_scores import preferences_table
from cuma_jax.evaluation.results import summary_table
from cuma_jax.evaluation.run import Scored, about_run, evaluate_run
from cuma_jax.evaluation.surveys.wvb_emd import question_distances, read_score_file, threshold_auc
from cuma_jax.judging import Judge
from cuma_jax.reporting import add_preferences, write_report
from cuma_jax.run.build import build_run
from cuma_jax.run.folder import local_folder, read_config, read_metrics
from cuma_jax.run.process_checks import check_config, check_data
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir, write_text
from cuma_jax.runtime.jax_setup import prepare_jax
from cuma_jax.runtime.processes import HELP, joined, process_index
from cuma_jax.training.checkpoints import Checkpoints
from cuma_jax.training.loop import total_steps, training_rows
from cuma_jax.training.optimizer import make_optimizer, make_schedule
from cuma_jax.training.state import abstract_state, state_shardings, with_shardings

_CHECKPOINTS = ("last", "best")
_PREFERENCES, _BASE = "--preferences", "base"
_PROMPTS, _PAIRS, _FREE_PROMPTS = 100, 50, 400
_HELP = f"""Scores a trained run on held-out answers; writes results.json, per_cell.parquet and report.html.

--run DIR             the run's folder (needed)
--machine NAME        as in training: sets the mesh (and the batch, so that it divides)
--checkpoint last|best  the newest checkpoint, or the one with the lowest validation loss (default: what the config
                        says, evaluation.checkpoint)
{HELP}

With --preferences, who is preferred: replies of this run and of another side to the same held-out prompts, each with
the profile of the person who asked. Writes preferences.json, and adds to report.html. See docs/judging.md.

--against base|RUN2   the other side: the model without adapters (default), or another run's folder
--prompts N           prompts that are judged (default: {_PROMPTS}; {_FREE_PROMPTS} where respondents judge)
--pairs N             pairs that people judged, on which the judge is compared with them (default: {_PAIRS})
--judge.url URL --judge.model NAME   who judges, and every other field of the sections judge and sampling; the key is
                      read from the environment variable that judge.key_env names. Without judge.url the held-out
                      respondents of a survey judge themselves, and conversations have no win-rate

Or, without a run, computes WorldValuesBench's own figure for a file of predictions:

--paper-metrics FILE  a tsv or csv with the columns QUESTION_ID, PARTICIPANT_ID, SCORE
--source wvb          whose figure (default: wvb, the only one)
--wvb DIR             your checkout of WorldValuesBench with its generated tables
--out FILE            where to write {{question: EMD}}; without it, it is printed"""
_PAPER = "--paper_metrics"


@dataclasses.dataclass(frozen=True)
class Overrides:
    """What may differ from the run's own config."""

    evaluation: EvaluationConfig
    mesh: MeshConfig


@dataclasses.dataclass(frozen=True)
class PreferenceOverrides(Overrides):
    """What may differ with --preferences."""

    sampling: SamplingConfig
    judge: JudgeConfig


def check_checkpoint(run: Run) -> None:
    """Before any training: a checkpoint to score that there will not be.

    Raises:
        CumaError: `evaluation.checkpoint` is best, and nothing will be validated.
    """
    config = run.config
    validated = run.mask("validation").any() and config.train.eval_batches
    if config.evaluation.checkpoint == "best" and not validated:
        raise CumaError(
            "config field evaluation.checkpoint is best, but there is nothing to validate on: hold people or countries "
            "out for it (data.validation_respondents, data.validation_countries; train.eval_batches above 0), or "
            "set it to last"
        )


def restore(run: Run, folder: pathlib.Path, which: str) -> tuple[Any, Scored]:
    """The adapters of a run's newest or best checkpoint, on the devices, and which these are.

    Raises:
        CumaError: there is no such checkpoint, or it does not belong to the run.
    """
    # Not a `Trainer`: its batches need a mesh that training's batch divides, and its reward may need a judge's key.
    config, steps = run.config, total_steps(run, training_rows(run, "train"))
    optimizer = make_optimizer(config.optimizer, make_schedule(config.optimizer, max(steps, 1)))
    shapes, mesh = run.adapter_shapes, run.mesh
    state = with_shardings(
        abstract_state(optimizer, shapes), state_shardings(optimizer, shapes, run.adapter_shardings, mesh)
    )
    checkpoints = Checkpoints(folder, run, read_only=True)
    latest = checkpoints.latest()
    step = latest if which == "last" else checkpoints.best()
    if step is None or latest is None:
        checkpoints.close()
        how = (
            "validated checkpoint (--checkpoint last takes the newest)" if which == "best" and latest else "checkpoint"
        )
        raise CumaError(f"{folder} has no {how} yet; train it first")
    adapters = checkpoints.restore(step, state).adapters
    checkpoints.close()
    return adapters, Scored(which, step, latest, steps)


def score(run: Run, adapters: Any, folder: pathlib.Path, seconds: float | None, scored: Scored | None = None) -> None:
    """Evaluates, writes the report, and prints the table. All processes call this.

    Args:
        run: a config made real.
        adapters: what is scored, on the devices.
        folder: the run's folder.
        seconds: time spent training, for the record.
        scored: which checkpoint `adapters` are.
    """
    results, use = evaluate_run(run, adapters, folder, seconds, scored)
    if jax.process_index() == 0:
        report = write_report(folder, results, read_metrics(folder), to_dict(run.config), use)
        print(preferences_table(results) if "kind" in results.values else summary_table(results))
        print(f"\nreport: {report.resolve()}")


def paper_metrics(args: list[str]) -> None:
    """EMD by question of a file of predictions, as WorldValuesBench's own program computes it.

    Raises:
        CumaError: a bad option or file; see `evaluation.surveys.wvb_emd`.
    """
    args = [_PAPER + arg[len(_PAPER) :] if arg.startswith("--paper-metrics") else arg for arg in args]
    file, source, wvb, out = (take_option(args, flag) for flag in (_PAPER, "--source", "--wvb", "--out"))
    if args:
        raise CumaError(f"--paper-metrics goes with --source, --wvb and --out only; what is {' '.join(args)}?")
    if (source or "wvb") != "wvb":
        raise CumaError(f"--source is {source!r}; the only source with a published figure is wvb")
    if not wvb:
        raise CumaError("--paper-metrics needs --wvb DIR, your checkout of WorldValuesBench with its generated tables")
    found = question_distances(read_score_file(pathlib.Path(file)), pathlib.Path(wvb))
    text = json.dumps(found, indent=4)
    if not out:
        print(text)
        return
    write_text(pathlib.Path(out), text + "\n")
    distances = np.array(list(found.values()))
    print(f"{len(found)} questions, mean EMD {distances.mean():.4f}, AUC {threshold_auc(distances):.2f} of 60: {out}")


def main() -> None:
    """Reads the run, restores a checkpoint, scores it."""
    args = sys.argv[1:]
    if any(arg.partition("=")[0] in (_PAPER, "--paper-metrics") for arg in args):
        return paper_metrics(args)
    with joined(take_distributed(args)):
        _evaluate(args)


def _evaluate(args: list[str]) -> None:
    if _PREFERENCES in args:
        args.remove(_PREFERENCES)
        return _preferences(args)
    folder, config, which = _open(args, Overrides)
    run, adapters, scored = _restored(config, folder, which)
    score(run, adapters, folder, None, scored)


def _preferences(args: list[str]) -> None:
    against = take_option(args, "--against") or _BASE
    asked = {flag: take_option(args, flag) for flag in ("--prompts", "--pairs")}
    folder, config, which = _open(args, PreferenceOverrides)
    second = None if against == _BASE else local_folder(against, "--against")
    theirs = None if second is None else read_config(second)
    if second is not None and second.resolve() == folder.resolve():
        raise CumaError(f"--against {against} is the run itself; give another run's folder, or {_BASE}")
    sizes = Sizes(
        _count("--prompts", asked["--prompts"], _PROMPTS if config.judge.url else _FREE_PROMPTS),
        _count("--pairs", asked["--pairs"], _PAIRS, least=0),
    )
    # One process asks; a missing key is found before anything is read.
    first = process_index() == 0
    judge = Judge(config.judge, cache_dir(config.run.cache_dir)) if config.judge.url and first else None
    run, adapters, scored = _restored(config, folder, which)

    def other() -> Side:
        if theirs is None or second is None:
            return Side("the base", run, run.identity_adapters(config.train.seed))
        own = dataclasses.replace(theirs, evaluation=config.evaluation, mesh=config.mesh)
        there, found, _ = _restored(own, second, own.evaluation.checkpoint)
        return Side(theirs.name if theirs.name != config.name else str(second), there, found)

    name = config.name if theirs is None or theirs.name != config.name else str(folder)
    values = compare_sides(Side(name, run, adapters), other, judge, config.sampling, sizes)
    pairs, _, notes = pair_metrics(run, adapters, config.evaluation.splits)
    if values is None:
        return
    values |= {"pairs": {"splits": pairs, "notes": notes}, "about": about_run(config) | scored.about()}
    report = add_preferences(folder, values, config.name)
    write_preferences(values, folder)
    print(f"{preferences_lines(values)}\n\nreport: {report.resolve()}")


def _count(flag: str, value: str, default: int, least: int = 1) -> int:
    if value and not (value.isdecimal() and int(value) >= least):
        raise CumaError(f"{flag} is {value!r}; it must be a whole number of at least {least}")
    return int(value) if value else default


def _restored(config: Config, folder: pathlib.Path, which: str) -> tuple[Run, Any, Scored]:
    """A run put together, and the adapters of one of its checkpoints."""
    check_config(config)
    prepare_jax(config.run.cache_dir)
    run = build_run(config, trains=False)
    check_data(run)
    return run, *restore(run, folder, which)


def _open(args: list[str], overrides: type[Overrides]) -> tuple[pathlib.Path, Config, str]:
    """The run's folder, its config with what the command line changes, and which checkpoint is scored."""
    run, which = take_option(args, "--run"), take_option(args, "--checkpoint")
    machine = take_option(args, "--machine")
    if not run and not {"-h", "--help"} & set(args):
        raise CumaError("which run? give its folder: python -m cuma_jax.evaluate --run runs/quickstart")
    if which and which not in _CHECKPOINTS:
        raise CumaError(f"--checkpoint is {which!r}; it must be one of {', '.join(_CHECKPOINTS)}")
    folder = local_folder(run, "--run")
    saved = read_config(folder) if run else Config()
    start = apply_machine(saved, machine) if machine else saved
    names = [field.name for field in dataclasses.fields(overrides)]
    given = tyro.cli(
        overrides, prog="python -m cuma_jax.evaluate", description=_HELP, args=args, use_underscores=True,
        default=overrides(**{name: getattr(start, name) for name in names}),
    )  # fmt: skip
    config = dataclasses.replace(saved, **{name: getattr(given, name) for name in names})
    return folder, config, which or config.evaluation.checkpoint
