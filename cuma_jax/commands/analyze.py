"""Analyses a trained run of a survey: `python -m cuma_jax.analyze --run runs/quickstart`."""

import dataclasses
import pathlib
import sys

import jax
import tyro

from cuma_jax.analysis import Analysis, analyze_run, write_analysis
from cuma_jax.commands.command_line import take_distributed, take_option
from cuma_jax.config import Config, EvaluationConfig, MeshConfig, to_dict
from cuma_jax.preferences.load import SOURCES
from cuma_jax.reporting.analysis_page import analysis_table, write_analysis_page
from cuma_jax.run.build import build_run
from cuma_jax.run.folder import local_folder, read_config, read_metrics
from cuma_jax.run.process_checks import check_config, check_data
from cuma_jax.run.trained import load_adapters
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.jax_setup import prepare_jax
from cuma_jax.runtime.processes import HELP, joined

CHECKPOINTS = ("last", "best")
ROWS = 32
_HELP = f"""Did the model collapse, do groups conflict, do groups that answer alike route alike? Of a finished or
interrupted run of a survey; writes analysis.json, analysis/*.parquet and analysis.html into its folder.

--run DIR             the run's folder (needed)
--checkpoint last|best  the newest checkpoint, or the one with the lowest validation loss (default: the run's own
                      evaluation.checkpoint)
--rows N              training rows of each group whose gradients are compared (default: {ROWS})
{HELP}"""


@dataclasses.dataclass(frozen=True)
class Overrides:
    """What may differ from the run's own config."""

    evaluation: EvaluationConfig
    mesh: MeshConfig


def analyze(config: Config, folder: pathlib.Path, which: str, rows: int) -> Analysis:
    """Restores a checkpoint, analyses it, writes files and page, and prints the table. All processes call this.

    Args:
        config: the run's, with overrides.
        folder: the run's folder.
        which: `last` or `best`.
        rows: training rows of each group whose gradients are compared.

    Raises:
        CumaError: preference data, or no such checkpoint.
    """
    if config.data.source in SOURCES:
        raise CumaError(
            f"{folder} was trained on {config.data.source}, which has no survey questions; analyze is for surveys "
            "(python -m cuma_jax.evaluate scores this run)"
        )
    run = build_run(config)
    check_data(run)
    adapters, info = load_adapters(run, folder, which)
    analysis = analyze_run(run, adapters, info.step, read_metrics(folder), rows)
    write_analysis(analysis, folder, jax.process_index())
    page = write_analysis_page(folder, analysis, to_dict(config), jax.process_index())
    if jax.process_index() == 0:
        print(analysis_table(analysis))
        print(f"\nanalysis: {page.resolve()}")
    return analysis


def main() -> None:
    """Reads the command line and analyses the run."""
    args = sys.argv[1:]
    with joined(take_distributed(args)):
        _analyze(args)


def _analyze(args: list[str]) -> None:
    run, which, rows = (take_option(args, name) for name in ("--run", "--checkpoint", "--rows"))
    if not run and not {"-h", "--help"} & set(args):
        raise CumaError("which run? give its folder: python -m cuma_jax.analyze --run runs/quickstart")
    folder = local_folder(run, "--run")
    saved = read_config(folder) if run else Config()
    which = which or saved.evaluation.checkpoint
    if which not in CHECKPOINTS:
        raise CumaError(f"--checkpoint is {which!r}; it must be one of {', '.join(CHECKPOINTS)}")
    if rows and not (rows.isdigit() and int(rows) >= 4):
        raise CumaError(f"--rows is {rows!r}; it must be a whole number of at least 4")
    given = tyro.cli(
        Overrides, prog="python -m cuma_jax.analyze", description=_HELP,
        default=Overrides(saved.evaluation, saved.mesh), args=args, use_underscores=True,
    )  # fmt: skip
    config = dataclasses.replace(saved, evaluation=given.evaluation, mesh=given.mesh)
    check_config(config)
    prepare_jax(config.run.cache_dir)
    analyze(config, folder, which, int(rows or ROWS))
