"""Runs the trials of a comparison one after another in this process; what fails does not stop the others."""

import contextlib
import dataclasses
import gc
import io
import pathlib
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import jax
import numpy as np

from cuma_jax.comparison.trials import Status, Trial, read_analysis, read_record, status, write_record
from cuma_jax.config import Config
from cuma_jax.config.saved import CONFIG_FILE
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.memory import peak_bytes, reset_host_peak

LOG_FILE, ERROR_FILE, ANALYSIS_ERROR_FILE = "log.txt", "error.txt", "analysis_error.txt"
Run = Callable[[Config], bool]
"""Trains and scores a config; False where it was asked to stop before its end, and has saved."""


@dataclasses.dataclass
class Tally:
    """How the trials went, by name; `stopped` where a signal ended the comparison."""

    finished: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    troubled: list[str] = dataclasses.field(default_factory=list)
    stopped: bool = False


def run_trials(trials: Sequence[Trial], run: Run, say: Callable[[str], None] = print) -> Tally:
    """Runs every trial that is not finished, in order, and goes on with those that were interrupted.

    `run` makes one run, as `python -m cuma_jax.train` does; `say` takes a line for the terminal.
    """
    tally, clock = Tally(), _Clock(trials)
    for number, trial in enumerate(trials, 1):
        where, why = status(trial)
        head = f"[{number}/{len(trials)}] {trial.name}"
        if where in ("finished", "other settings"):
            (tally.skipped if where == "finished" else tally.troubled).append(trial.name)
            clock.done(trial)
            say(f"{head}: {'finished already' if where == 'finished' else f'refused: {why}'}")
            continue
        say(f"{head}: {'goes on' if where == 'stopped' else 'starts'}{clock.left()}")
        outcome, text = _run_one(trial, run)
        if outcome == "stopped":
            tally.stopped = True
            break
        clock.done(trial)
        (tally.finished if outcome == "finished" else tally.troubled).append(trial.name)
        say(f"{head}: {outcome} {text}")
    return tally


def analyze_trials(
    trials: Sequence[Trial], analyze: Callable[[Trial], Any], say: Callable[[str], None] = print
) -> Tally:
    """Analyses the first finished trial of every variant, where that was not done yet.

    `analyze` analyses one and writes its analysis.json, as `python -m cuma_jax.analyze` does.
    """
    first: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda c: c.seed):
        if status(trial)[0] == "finished":
            first.setdefault(trial.variant.name, trial)
    tally = Tally()
    for number, trial in enumerate(first.values(), 1):
        head, began = f"[analysis {number}/{len(first)}] {trial.name}", time.perf_counter()
        if read_analysis(trial) is not None:
            tally.skipped.append(trial.name)
            continue
        try:
            with _signals(), _logged(trial.folder / LOG_FILE):
                analyze(trial)
        except KeyboardInterrupt:
            tally.stopped = True
            break
        except CumaError as error:
            tally.troubled.append(trial.name)
            say(f"{head}: refused ({error})")
        except Exception as error:  # the other variants are analysed all the same
            path = trial.folder / ANALYSIS_ERROR_FILE
            path.write_text(traceback.format_exc(), encoding="utf-8")
            tally.troubled.append(trial.name)
            say(f"{head}: failed ({type(error).__name__}: {error}; all of it in {path})")
        else:
            (trial.folder / ANALYSIS_ERROR_FILE).unlink(missing_ok=True)
            tally.finished.append(trial.name)
            say(f"{head}: finished in {duration(time.perf_counter() - began)}")
        finally:
            jax.clear_caches()
            gc.collect()
    return tally


def _run_one(trial: Trial, run: Run) -> tuple[Status, str]:
    trial.folder.mkdir(parents=True, exist_ok=True)
    began, fresh = time.perf_counter(), reset_host_peak()
    error_file = trial.folder / ERROR_FILE
    try:
        with _signals(), _logged(trial.folder / LOG_FILE):
            ended = run(trial.config)
    except KeyboardInterrupt:
        return "stopped", ""
    except CumaError as error:
        outcome: Status = "failed" if (trial.folder / CONFIG_FILE).exists() else "refused"
        error_file.write_text(f"{error}\n", encoding="utf-8")
        write_record(trial, outcome, time.perf_counter() - began, error=str(error))
        return outcome, f"({error})"
    except Exception as error:  # one broken variant must not cost the others; all of it is kept and shown
        error_file.write_text(traceback.format_exc(), encoding="utf-8")
        what = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        write_record(trial, "failed", time.perf_counter() - began, error=what)
        return "failed", f"({what}; all of it in {error_file})"
    finally:
        # Programs and arrays of one trial are of no use to the next; references inside cycles hold the weights.
        jax.clear_caches()
        gc.collect()
    if not ended:
        return "stopped", ""
    error_file.unlink(missing_ok=True)
    memory = {"peak_memory_bytes": peak_bytes(jax.local_devices()),
              "peak_memory_of": "the cell" if fresh else "the process so far"}  # fmt: skip
    record = write_record(trial, "finished", time.perf_counter() - began, **memory)
    speed = f", {record['seconds_per_step']:.2f} s a step" if record["seconds_per_step"] else ""
    return "finished", f"in {duration(record['seconds'])}{speed}"


class _Clock:
    """How long the trials that are left will take, from those that are done."""

    def __init__(self, trials: Sequence[Trial]):
        self._left = list(trials)
        self._known: dict[str, list[float]] = {}

    def done(self, trial: Trial) -> None:
        self._left.remove(trial)
        record = read_record(trial)
        if record and record["status"] == "finished":
            self._known.setdefault(trial.variant.name, []).append(record["seconds"])

    def left(self) -> str:
        if not self._known:
            return ""
        means = {name: float(np.mean(seconds)) for name, seconds in self._known.items()}
        other = float(np.mean(list(means.values())))
        seconds = sum(means.get(c.variant.name, other) for c in self._left if status(c)[0] != "finished")
        return f"; about {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Ctrl-C while training does as SIGTERM does there: save, then end. Elsewhere both end at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def now(*_: Any) -> None:
        raise KeyboardInterrupt

    def soon(*_: Any) -> None:
        training = signal.getsignal(signal.SIGTERM)
        if asked or training is now or not callable(training):
            raise KeyboardInterrupt
        asked.append(1)
        print("\nsaving after this step, then stopping; Ctrl-C again stops at once", file=sys.__stderr__)
        training(signal.SIGTERM, None)

    before = signal.signal(signal.SIGTERM, now), signal.signal(signal.SIGINT, soon)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    if asked:  # asked in the very last step: the run has ended by itself, the comparison should too
        raise KeyboardInterrupt


class _Log(io.TextIOBase):
    """Writes to a file; its newest line is also shown in place where there is a terminal."""

    def __init__(self, file: TextIO, terminal: TextIO | None):
        self._file, self._terminal = file, terminal if terminal is not None and terminal.isatty() else None

    def write(self, text: str) -> int:
        self._file.write(text)
        self._file.flush()
        if self._terminal is not None and (line := text.strip()):
            width = shutil.get_terminal_size().columns - 3
            self._terminal.write(f"\r\x1b[K  {line.splitlines()[-1][:width]}")
            self._terminal.flush()
        return len(text)

    def close_line(self) -> None:
        if self._terminal is not None:
            self._terminal.write("\r\x1b[K")
            self._terminal.flush()


@contextlib.contextmanager
def _logged(path: pathlib.Path) -> Iterator[None]:
    """What the run prints goes to a file beside it."""
    with path.open("a", encoding="utf-8") as file:
        log = _Log(file, sys.stderr)
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                yield
        finally:
            log.close_line()
