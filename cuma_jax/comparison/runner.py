"""Runs the cells of a comparison one after another in this process; what fails does not stop the others."""

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

from cuma_jax.comparison.trials import (
    ERROR_FILE,
    LOG_FILE,
    Cell,
    Status,
    read_analysis,
    read_record,
    status,
    write_record,
)
from cuma_jax.config import Config
from cuma_jax.run.folder import CONFIG_FILE
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.memory import peak_bytes, reset_host_peak

ANALYSIS_ERROR_FILE = "analysis_error.txt"
Run = Callable[[Config], bool]
"""Trains and scores a config; False where it was asked to stop before its end, and has saved."""


@dataclasses.dataclass
class Tally:
    """How the cells went, by name; `stopped` where a signal ended the comparison."""

    finished: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    troubled: list[str] = dataclasses.field(default_factory=list)
    stopped: bool = False


def run_cells(cells: Sequence[Cell], run: Run, say: Callable[[str], None] = print) -> Tally:
    """Runs every cell that is not finished, and goes on with those that were interrupted.

    Args:
        cells: what to run, in order.
        run: makes one run, as `python -m cuma_jax.train` does.
        say: takes a line for the terminal.
    """
    tally, clock = Tally(), _Clock(cells)
    for number, cell in enumerate(cells, 1):
        where, why = status(cell)
        head = f"[{number}/{len(cells)}] {cell.name}"
        if where == "finished":
            tally.skipped.append(cell.name)
            clock.done(cell)
            say(f"{head}: finished already")
            continue
        if where == "other settings":
            tally.troubled.append(cell.name)
            clock.done(cell)
            say(f"{head}: refused: {why}")
            continue
        say(f"{head}: {'goes on' if where == 'stopped' else 'starts'}{clock.left()}")
        outcome, text = _run_one(cell, run)
        if outcome == "stopped":
            tally.stopped = True
            break
        clock.done(cell)
        (tally.finished if outcome == "finished" else tally.troubled).append(cell.name)
        say(f"{head}: {outcome} {text}")
    return tally


def analyze_cells(
    cells: Sequence[Cell], analyze: Callable[[Cell], Any], say: Callable[[str], None] = print
) -> Tally:  # fmt: skip
    """Analyses the first finished cell of every variant, where that was not done yet.

    Args:
        cells: all cells of the comparison.
        analyze: analyses one and writes its analysis.json, as `python -m cuma_jax.analyze` does.
        say: takes a line for the terminal.
    """
    first: dict[str, Cell] = {}
    for cell in sorted(cells, key=lambda c: c.seed):
        if status(cell)[0] == "finished":
            first.setdefault(cell.variant.name, cell)
    tally = Tally()
    for number, cell in enumerate(first.values(), 1):
        head, began = f"[analysis {number}/{len(first)}] {cell.name}", time.perf_counter()
        if read_analysis(cell) is not None:
            tally.skipped.append(cell.name)
            continue
        try:
            with _signals(), _logged(cell.folder / LOG_FILE):
                analyze(cell)
        except KeyboardInterrupt:
            tally.stopped = True
            break
        except CumaError as error:
            tally.troubled.append(cell.name)
            say(f"{head}: refused ({error})")
        except Exception as error:  # the other variants are analysed all the same
            path = cell.folder / ANALYSIS_ERROR_FILE
            path.write_text(traceback.format_exc(), encoding="utf-8")
            tally.troubled.append(cell.name)
            say(f"{head}: failed ({type(error).__name__}: {error}; all of it in {path})")
        else:
            (cell.folder / ANALYSIS_ERROR_FILE).unlink(missing_ok=True)
            tally.finished.append(cell.name)
            say(f"{head}: finished in {duration(time.perf_counter() - began)}")
        finally:
            jax.clear_caches()
            gc.collect()
    return tally


def _run_one(cell: Cell, run: Run) -> tuple[Status, str]:
    cell.folder.mkdir(parents=True, exist_ok=True)
    began, fresh = time.perf_counter(), reset_host_peak()
    error_file = cell.folder / ERROR_FILE
    try:
        with _signals(), _logged(cell.folder / LOG_FILE):
            ended = run(cell.config)
    except KeyboardInterrupt:
        return "stopped", ""
    except CumaError as error:
        started = (cell.folder / CONFIG_FILE).exists()
        outcome: Status = "failed" if started else "refused"
        error_file.write_text(f"{error}\n", encoding="utf-8")
        write_record(cell, outcome, time.perf_counter() - began, error=str(error))
        return outcome, f"({error})"
    except Exception as error:  # one broken variant must not cost the others; all of it is kept and shown
        error_file.write_text(traceback.format_exc(), encoding="utf-8")
        what = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        write_record(cell, "failed", time.perf_counter() - began, error=what)
        return "failed", f"({what}; all of it in {error_file})"
    finally:
        # Programs and arrays of one cell are of no use to the next; references inside cycles hold the weights.
        jax.clear_caches()
        gc.collect()
    if not ended:
        return "stopped", ""
    error_file.unlink(missing_ok=True)
    record = write_record(
        cell,
        "finished",
        time.perf_counter() - began,
        peak_memory_bytes=peak_bytes(jax.local_devices()),
        peak_memory_of="the cell" if fresh else "the process so far",
    )
    step = record["seconds_per_step"]
    speed = f", {step:.2f} s a step" if step else ""
    return "finished", f"in {duration(record['seconds'])}{speed}"


class _Clock:
    """How long the cells that are left will take, from those that are done."""

    def __init__(self, cells: Sequence[Cell]):
        self._left = list(cells)
        self._known: dict[str, list[float]] = {}

    def done(self, cell: Cell) -> None:
        self._left.remove(cell)
        record = read_record(cell)
        if record and record["status"] == "finished":
            self._known.setdefault(cell.variant.name, []).append(record["seconds"])

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
