"""What `python -m cuma_jax.compare` does: runs variants with several seeds and compares them."""

import dataclasses
import functools
import os
import pathlib
import platform
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

from cuma_jax import __version__
from cuma_jax.commands.command_line import parse
from cuma_jax.config.comparison import Comparison
from cuma_jax.config.fields import SEED, Line, Place
from cuma_jax.config.presets import comparisons, load_comparison

if TYPE_CHECKING:  # imported where they are used: `--help` must not wait for jax
    from cuma_jax.comparison.trials import Trial

_HELP = """Trains and scores every variant of a comparison with every seed, one after another, and writes one table.

Each trial is an ordinary run, in DIR/VARIANT/seedN. Trials that are finished are skipped, so the same command goes on
after an interruption, and runs only what was added to the preset. A trial that fails does not stop the others.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line may say."""

    config: Annotated[str, Line()] = ""
    """A comparison's preset: a name, or a .py file with a function of the file's name that returns a Comparison."""
    dir: Annotated[str, Place("new folder")] = ""
    """Folder of the comparison; empty: the preset's, else runs/<name>."""
    only: Annotated[tuple[str, ...], Line()] = ()
    """Run these variants only; the table shows all that is there."""
    seeds: Annotated[tuple[int, ...], SEED] = ()
    """Run these seeds only."""
    table_only: bool = False
    """Run nothing; write the table and the page of what is there."""
    analyze: bool = False
    """Also analyse the first seed of every variant (python -m cuma_jax.analyze), for the page."""
    list: bool = False
    """Show the trials and where each stands; run nothing."""


def write_all(comparison: Comparison) -> None:
    """The table and the page of all that is on disk; a `CumaError` where nothing is finished."""
    import jax

    from cuma_jax.comparison.collect import collect
    from cuma_jax.comparison.output import TSV_FILE, printed_table, write_comparison
    from cuma_jax.comparison.table import comparison_values
    from cuma_jax.comparison.trials import all_trials
    from cuma_jax.reporting.comparison import write_comparison_report

    about = {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"cuma_jax": __version__, "jax": jax.__version__, "python": platform.python_version()},
    }
    values = comparison_values(comparison, collect(all_trials(comparison), comparison.reference), about)
    folder = pathlib.Path(comparison.folder).expanduser()
    write_comparison(values, folder)
    page = write_comparison_report(values, folder)
    print(f"\n{printed_table(values)}\n\ntable: {(folder / TSV_FILE).resolve()}\nreport: {page.resolve()}")


def stop() -> NoReturn:
    """Says how to go on, and ends."""
    print("stopped; run the same command again to go on (--table-only: what is there)", file=sys.stderr)
    sys.exit(130)


def analyze_trial(trial: "Trial") -> None:
    """Analyses one trial as `python -m cuma_jax.analyze` does."""
    from cuma_jax.commands.analyze import ROWS, analyze
    from cuma_jax.runtime.jax_setup import prepare_jax

    prepare_jax(trial.config.run.cache_dir)
    analyze(trial.config, trial.folder, trial.config.evaluation.checkpoint, ROWS)


def main() -> None:
    """Parses, runs, and says how to go on."""
    text = f"{_HELP}\nPresets: {', '.join(comparisons())}."
    (options,) = parse("compare", text, sys.argv[1:], Options)
    comparison = load_comparison(options.config)
    from cuma_jax.comparison.runner import analyze_trials, run_trials
    from cuma_jax.comparison.trials import all_trials, status
    from cuma_jax.config.saved import local_folder

    comparison = dataclasses.replace(comparison, dir=str(local_folder(options.dir or comparison.folder, "--dir")))
    trials = all_trials(comparison, options.only, options.seeds)
    if options.list:
        width = max(len(trial.name) for trial in trials)
        for trial in trials:
            where, why = status(trial)
            print(f"{trial.name.ljust(width)}  {where.ljust(9)}  {why or trial.folder}")
        return
    if options.table_only:
        write_all(comparison)
        return
    from cuma_jax.commands.train_runs import train_run

    say = functools.partial(print, flush=True)
    tally = run_trials(trials, train_run, say)
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
