"""Scores a trained run again: `python -m cuma_jax.evaluate --run runs/quickstart`."""

import dataclasses
import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np
import tyro

from cuma_jax.cache import atomic_write
from cuma_jax.cli import take_option
from cuma_jax.config import EvaluationConfig, MeshConfig, to_dict
from cuma_jax.distributed import HELP, joined
from cuma_jax.errors import CumaError, run_main
from cuma_jax.evaluation.paper import question_distances, read_predictions, threshold_auc
from cuma_jax.evaluation.preferences import preferences_table
from cuma_jax.evaluation.results import summary_table
from cuma_jax.evaluation.run import Scored, evaluate_run
from cuma_jax.jax_setup import prepare_jax
from cuma_jax.machines import apply_machine
from cuma_jax.reporting import write_report
from cuma_jax.training.agreement import check_config, check_data
from cuma_jax.training.assembly import Assembly, assemble
from cuma_jax.training.checkpoint import Checkpoints
from cuma_jax.training.loop import Trainer
from cuma_jax.training.run_dir import local_folder, read_config, read_metrics

_CHECKPOINTS = ("last", "best")
_HELP = f"""Scores a trained run on held-out answers; writes results.json, per_cell.parquet and report.html.

--run DIR             the run's folder (needed)
--machine NAME        as in training: sets the mesh (and the batch, so that it divides)
--checkpoint last|best  the newest checkpoint, or the one with the lowest validation loss (default: what the config
                        says, evaluation.checkpoint)
{HELP}

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


def check_checkpoint(assembly: Assembly) -> None:
    """Before any training: a checkpoint to score that there will not be.

    Raises:
        CumaError: `evaluation.checkpoint` is best, and nothing will be validated.
    """
    config = assembly.config
    validated = assembly.mask("validation").any() and config.train.eval_batches
    if config.evaluation.checkpoint == "best" and not validated:
        raise CumaError(
            "config field evaluation.checkpoint is best, but there is nothing to validate on: hold people or countries "
            "out for it (data.validation_respondents, data.validation_countries; train.eval_batches above 0), or "
            "set it to last"
        )


def restore(assembly: Assembly, folder: pathlib.Path, which: str) -> tuple[Any, Scored]:
    """The adapters of a run's newest or best checkpoint, on the devices, and which these are.

    Raises:
        CumaError: there is no such checkpoint, or it does not belong to the run.
    """
    trainer, checkpoints = Trainer(assembly), Checkpoints(folder, assembly, read_only=True)
    latest = checkpoints.latest()
    step = latest if which == "last" else checkpoints.best()
    if step is None or latest is None:
        checkpoints.close()
        how = (
            "validated checkpoint (--checkpoint last takes the newest)" if which == "best" and latest else "checkpoint"
        )
        raise CumaError(f"{folder} has no {how} yet; train it first")
    state = checkpoints.restore(step, trainer.abstract())
    checkpoints.close()
    return state.adapters, Scored(which, step, latest, trainer.steps)


def score(
    assembly: Assembly, adapters: Any, folder: pathlib.Path, seconds: float | None, scored: Scored | None = None
) -> None:
    """Evaluates, writes the report, and prints the table. All processes call this.

    Args:
        assembly: the run.
        adapters: what is scored, on the devices.
        folder: the run's folder.
        seconds: time spent training, for the record.
        scored: which checkpoint `adapters` are.
    """
    results, use = evaluate_run(assembly, adapters, folder, seconds, scored)
    if jax.process_index() == 0:
        report = write_report(folder, results, read_metrics(folder), to_dict(assembly.config), use)
        print(preferences_table(results) if "kind" in results.values else summary_table(results))
        print(f"\nreport: {report.resolve()}")


def paper_metrics(args: list[str]) -> None:
    """EMD by question of a file of predictions, as WorldValuesBench's own program computes it.

    Raises:
        CumaError: a bad option or file; see `evaluation.paper`.
    """
    args = [_PAPER + arg[len(_PAPER) :] if arg.startswith("--paper-metrics") else arg for arg in args]
    file, source, wvb, out = (take_option(args, flag) for flag in (_PAPER, "--source", "--wvb", "--out"))
    if args:
        raise CumaError(f"--paper-metrics goes with --source, --wvb and --out only; what is {' '.join(args)}?")
    if (source or "wvb") != "wvb":
        raise CumaError(f"--source is {source!r}; the only source with a published figure is wvb")
    if not wvb:
        raise CumaError("--paper-metrics needs --wvb DIR, your checkout of WorldValuesBench with its generated tables")
    found = question_distances(read_predictions(pathlib.Path(file)), pathlib.Path(wvb))
    text = json.dumps(found, indent=4)
    if not out:
        print(text)
        return
    atomic_write(pathlib.Path(out), lambda part: _write_text(part, text + "\n"))
    distances = np.array(list(found.values()))
    print(f"{len(found)} questions, mean EMD {distances.mean():.4f}, AUC {threshold_auc(distances):.2f} of 60: {out}")


def _write_text(path: pathlib.Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Reads the run, restores a checkpoint, scores it."""
    args = sys.argv[1:]
    if any(arg.partition("=")[0] in (_PAPER, "--paper-metrics") for arg in args):
        return paper_metrics(args)
    with joined(args):
        _evaluate(args)


def _evaluate(args: list[str]) -> None:
    run, which = take_option(args, "--run"), take_option(args, "--checkpoint")
    machine = take_option(args, "--machine")
    if not run and not {"-h", "--help"} & set(args):
        raise CumaError("which run? give its folder: python -m cuma_jax.evaluate --run runs/quickstart")
    if which and which not in _CHECKPOINTS:
        raise CumaError(f"--checkpoint is {which!r}; it must be one of {', '.join(_CHECKPOINTS)}")
    folder = local_folder(run, "--run")
    saved = read_config(folder) if run else None
    start = apply_machine(saved, machine) if saved and machine else saved
    defaults = Overrides(start.evaluation, start.mesh) if start else Overrides(EvaluationConfig(), MeshConfig())
    given = tyro.cli(
        Overrides, prog="python -m cuma_jax.evaluate", description=_HELP, default=defaults, args=args,
        use_underscores=True,
    )  # fmt: skip
    assert saved is not None
    config = dataclasses.replace(saved, evaluation=given.evaluation, mesh=given.mesh)
    check_config(config)
    prepare_jax(config)
    assembly = assemble(config)
    check_data(assembly)
    adapters, scored = restore(assembly, folder, which or config.evaluation.checkpoint)
    score(assembly, adapters, folder, None, scored)


if __name__ == "__main__":
    run_main(main)
