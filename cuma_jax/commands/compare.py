"""Runs variants with several seeds and compares them: `python -m cuma_jax.compare --config compare_debug`."""

import dataclasses
import os
import pathlib
import platform
import sys
from typing import NoReturn

import jax
import tyro

from cuma_jax import __version__
from cuma_jax.commands.analyze import ROWS, analyze
from cuma_jax.commands.train import run
from cuma_jax.comparison.collect import collect
from cuma_jax.comparison.output import TSV_FILE, printed_table, write_comparison
from cuma_jax.comparison.runner import analyze_trials, run_trials
from cuma_jax.comparison.table import comparison_values
from cuma_jax.comparison.trials import Trial, all_trials, status
from cuma_jax.config.comparison import Comparison
from cuma_jax.config.presets import comparisons, load_preset
from cuma_jax.reporting.comparison import write_comparison_report
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.jax_setup import prepare_jax

_HELP = """Trains and scores every variant of a comparison with every seed, one after another, and writes one table.

Each trial is an ordinary run, in DIR/VARIANT/seedN. Trials that are finished are skipped, so the same command goes on
after an interruption, and runs only what was added to the preset. A trial that fails does not stop the others.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line may say."""

    config: str = ""
    """A comparison's preset: a name, or a .py file with a function of the file's name that returns a Comparison."""
    dir: str = ""
    """Folder of the comparison; empty: the preset's, else runs/<name>."""
    only: tuple[str, ...] = ()
    """Run these variants only; the table shows all that is there."""
    seeds: tuple[int, ...] = ()
    """Run these seeds only."""
    table_only: bool = False
    """Run nothing; write the table and the page of what is there."""
    analyze: bool = False
    """Also analyse the first seed of every variant (python -m cuma_jax.analyze), for the page."""
    list: bool = False
    """Show the trials and where each stands; run nothing."""


def load_comparison(source: str, folder: str = "") -> Comparison:
    """The comparison of a preset.

    Raises:
        CumaError: no such file, or one that does not yield a Comparison.
    """
    if not source:
        raise CumaError(f"which comparison? --config NAME; presets are {', '.join(comparisons())}")
    found = load_preset(source)
    if not isinstance(found, Comparison):
        raise CumaError(f"--config {source}: the file needs a function of its name that returns a Comparison; "
                        f"presets are {', '.join(comparisons())}")  # fmt: skip
    return dataclasses.replace(found, dir=folder) if folder else found


def listing(trials: list[Trial]) -> str:
    """The trials and where each stands, as text."""
    width = max(len(c.name) for c in trials)
    rows = [(c, *status(c)) for c in trials]
    return "\n".join(f"{c.name.ljust(width)}  {where.ljust(9)}  {why or c.folder}" for c, where, why in rows)


def write_all(comparison: Comparison) -> None:
    """The table and the page of all that is on disk, whichever trials were run just now.

    Raises:
        CumaError: nothing is finished.
    """
    about = {
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"cuma_jax": __version__, "jax": jax.__version__, "python": platform.python_version()},
    }
    values = comparison_values(comparison, collect(all_trials(comparison), comparison.reference), about)
    folder = pathlib.Path(comparison.folder).expanduser()
    write_comparison(values, folder)
    page = write_comparison_report(values, folder)
    print(f"\n{printed_table(values)}\n\ntable: {(folder / TSV_FILE).resolve()}\nreport: {page.resolve()}")


def say(text: str) -> None:
    """A line for the terminal, at once."""
    print(text, flush=True)


def stop() -> NoReturn:
    """Says how to go on, and ends."""
    print("stopped; run the same command again to go on (--table-only: what is there)", file=sys.stderr)
    sys.exit(130)


def analyze_trial(trial: Trial) -> None:
    """Analyses one trial as `python -m cuma_jax.analyze` does."""
    prepare_jax(trial.config.run.cache_dir)
    analyze(trial.config, trial.folder, trial.config.evaluation.checkpoint, ROWS)


def main() -> None:
    """Parses, runs, and says how to go on."""
    options = tyro.cli(
        Options, prog="python -m cuma_jax.compare",
        description=f"{_HELP}\nPresets: {', '.join(comparisons())}", use_underscores=True,
    )  # fmt: skip
    comparison = load_comparison(options.config, options.dir)
    trials = all_trials(comparison, options.only, options.seeds)
    if options.list:
        print(listing(trials))
        return
    if options.table_only:
        write_all(comparison)
        return
    tally = run_trials(trials, run, say)
    if tally.stopped:
        stop()
    if options.analyze:
        analysed = analyze_trials(all_trials(comparison), analyze_trial, say)
        tally.troubled += [f"{name} (analysis)" for name in analysed.troubled]
        if analysed.stopped:
            stop()
    write_all(comparison)
    if tally.troubled:
        print(f"{len(tally.troubled)} of {len(trials)} trials did not end well: {', '.join(tally.troubled)}",
              file=sys.stderr)  # fmt: skip
        sys.exit(1)
