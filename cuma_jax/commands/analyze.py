"""What `python -m cuma_jax.analyze` does: collapse, conflict and routing of a trained run of a survey."""

import dataclasses
import pathlib
import sys

from cuma_jax.commands.command_line import EvaluationSections, SavedRun, check_at_least, joined, parse_saved_run
from cuma_jax.config import Config

ROWS = 32
_HELP = """Did the model collapse, do groups conflict, do groups that answer alike route alike? Of a finished or
interrupted run of a survey; writes analysis.json, analysis/*.parquet and analysis.html into its folder."""


@dataclasses.dataclass(frozen=True)
class Options(SavedRun):
    """Which run is analysed, and how closely."""

    rows: int = ROWS
    """Training rows of each group whose gradients are compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 4, "rows")


def analyze(config: Config, folder: pathlib.Path, which: str, rows: int) -> None:
    """Restores a checkpoint (`which`: last or best), analyses it, writes files and page, and prints the table.

    All processes call this. A `CumaError` for preference data, or where there is no such checkpoint.
    """
    # Imported here: `--help` must not wait for jax.
    import jax

    from cuma_jax.analysis import analyze_run, write_analysis
    from cuma_jax.commands.score_run import build_saved
    from cuma_jax.config import to_dict
    from cuma_jax.preferences.load import SOURCES
    from cuma_jax.reporting.analysis_page import analysis_table, write_analysis_page
    from cuma_jax.run.folder import read_metrics
    from cuma_jax.run.trained import load_adapters
    from cuma_jax.runtime.errors import CumaError

    if config.data.source in SOURCES:
        raise CumaError(
            f"{folder} was trained on {config.data.source}, which has no survey questions; analyze is for surveys "
            "(python -m cuma_jax.evaluate scores this run)"
        )
    run = build_saved(config)
    adapters, info = load_adapters(run, folder, which)
    analysis = analyze_run(run, adapters, info.step, read_metrics(folder), rows)
    write_analysis(analysis, folder, jax.process_index())
    page = write_analysis_page(folder, analysis, to_dict(config), jax.process_index())
    if jax.process_index() == 0:
        print(analysis_table(analysis))
        print(f"\nanalysis: {page.resolve()}")


def main() -> None:
    """Reads the command line and analyses the run."""
    argv = sys.argv[1:]
    with joined(argv):
        options, folder, config = parse_saved_run("analyze", _HELP, argv, Options, EvaluationSections)
        analyze(config, folder, options.checkpoint or config.evaluation.checkpoint, options.rows)
