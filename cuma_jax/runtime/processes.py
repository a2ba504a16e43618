"""Several processes as one run: how they find each other, what they agree on, and how all end when one of them does.

JAX's own runtime (`jax.distributed`) connects the processes and watches their heartbeats. Small decisions travel
through its key-value store and not through a device: no program is compiled for them, and they work while others are
still reading files. In a single process all of this does nothing.

Every process must make the same calls of this module in the same order.
"""

import contextlib
import itertools
import json
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from cuma_jax.runtime.clusters import Processes, found_by_jax, parse_distributed
from cuma_jax.runtime.coordination import connection
from cuma_jax.runtime.errors import CumaError

HEARTBEAT = "CUMA_JAX_HEARTBEAT"
_ROOT, _FAILED, _GONE = "cuma_jax", "cuma_jax/failed/", "cuma_jax/gone/"
_POLL, _LINGER, _LONGEST = 1.0, 5.0, 6 * 3600.0
_LOST = re.compile(r"\bgloo\b|\bnccl\b|heartbeat|coordination service|connection (closed|reset)|socket closed", re.I)
_calls = itertools.count()
_stops = itertools.count(1)


def process_count() -> int:
    """Number of processes, without touching a device."""
    return connection().count


def process_index() -> int:
    """Number of this process, without touching a device."""
    return connection().index


@contextlib.contextmanager
def joined(distributed: str) -> Iterator[None]:
    """Joins the run's other processes, as `--distributed` says, for the time of the block.

    Any exception inside ends all processes, each with one message, and this one without returning.
    """
    asked = parse_distributed(distributed)
    if asked == "none" or (asked == "auto" and not found_by_jax()):
        yield
        return
    _initialize(asked)
    watch = _Watch()
    watch.start()
    try:
        yield
        barrier()  # while process 0 writes its report, the others still hear of its failure
    except BrokenPipeError:
        watch.stop()
        raise
    except BaseException as error:
        watch.leave(error)
    watch.stop()


def _initialize(asked: "Processes | str") -> None:
    seconds = os.environ.get(HEARTBEAT, "100")
    if not seconds.isdigit() or int(seconds) < 1:
        raise CumaError(f"${HEARTBEAT} is {seconds!r}; it must be a whole number of seconds")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    known: dict[str, Any] = {}
    if isinstance(asked, Processes):
        if asked.index:
            print(f"process {asked.index} of {asked.count}: waiting for {asked.address}", file=sys.stderr, flush=True)
        # What was given in full is not mixed with what a scheduler's variables say.
        known = {"coordinator_address": asked.address, "num_processes": asked.count, "process_id": asked.index,
                 "cluster_detection_method": "deactivate"}  # fmt: skip
    jax.distributed.initialize(**known, heartbeat_timeout_seconds=int(seconds))


def barrier() -> None:
    """Waits until every process has come here."""
    if process_count() > 1:
        connection().client.wait_at_barrier(f"{_ROOT}/{next(_calls)}", int(_LONGEST * 1000))


def decide(value: str) -> str:
    """Process 0's `value`, on every process."""
    if process_count() == 1:
        return value
    client, key = connection().client, f"{_ROOT}/{next(_calls)}"
    if process_index() == 0:
        client.key_value_set(key, value)
        return value
    return client.blocking_key_value_get(key, int(_LONGEST * 1000))


def broadcast(array: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Process 0's `array`, float32 of `shape`, on every process; through the devices, for what is large."""
    if process_count() == 1:
        assert array is not None
        return array
    mine = np.zeros(shape, np.float32) if array is None else array
    return np.asarray(multihost_utils.broadcast_one_to_all(mine))


def gather(value: str) -> list[str]:
    """Every process's `value`, by number; for short texts."""
    if process_count() == 1:
        return [value]
    client, folder = connection().client, f"{_ROOT}/{next(_calls)}/"
    client.key_value_set(f"{folder}{process_index()}", value)
    barrier()
    found = dict(client.key_value_dir_get(folder))
    return [found[f"{folder}{i}"] for i in range(process_count())]


def asked_to_stop() -> bool:
    """Whether any process was asked to stop by SIGTERM: true at the same call in all of them, soon after.

    To be called after every step. Nothing waits: JAX agrees on a call in the background, the one after the latest that
    any process has made. So calls are counted over the life of the process: a run that is resumed, or the second of a
    chain, would skip a step that was agreed on before its first.
    """
    return process_count() > 1 and bool(multihost_utils.reached_preemption_sync_point(next(_stops)))


def check_same(values: dict[str, Any], advice: str) -> None:
    """Checks that every process has the same values (that JSON can hold) as process 0; none goes on where one differs.

    Raises:
        CumaError: names the first value that differs, what it is here and what it is on process 0.
    """
    if process_count() == 1:
        return
    text = json.dumps(values)
    here, there = flat(json.loads(text)), flat(json.loads(decide(text)))
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            raise CumaError(
                f"{name} is {here.get(name)!r} on process {process_index()} ({socket.gethostname()}) and "
                f"{there.get(name)!r} on process 0; {advice}"
            )
    barrier()


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


class _Watch(threading.Thread):
    """Tells the others when this process fails, and ends this one when another has.

    Without it a process whose partner has stopped hangs in a collective for as long as the partner waits, in turn,
    for an orderly shutdown.
    """

    def __init__(self) -> None:
        super().__init__(name="other processes", daemon=True)
        self._client, self._index, self._count = connection().client, process_index(), process_count()
        self._done, self._ending = threading.Event(), threading.Lock()

    def run(self) -> None:
        while not self._done.wait(_POLL):
            try:
                failed = self._failed()
            except jax.errors.JaxRuntimeError:
                return  # process 0 is gone; JAX ends this process
            if failed and self._ending.acquire(blocking=False):
                self._exit(f"error: {failed[1]}", failed[0])

    def stop(self) -> None:
        self._done.set()
        self.join()

    def leave(self, error: BaseException) -> NoReturn:
        """Ends this process for `error`, and the others with it."""
        self._ending.acquire()
        code, text = 1, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        shown = "".join(traceback.format_exception(error)).rstrip()
        if isinstance(error, CumaError):
            code, text, shown = 2, str(error), f"error: {error}"
        elif isinstance(error, KeyboardInterrupt):
            code, text, shown = 130, "interrupted", "interrupted; run the same command again to resume"
        elif isinstance(error, SystemExit):
            code, text, shown = int(error.code or 0), "see what it printed", ""
        elif failed := self._wait_for_reason():  # a broken connection is the consequence of another's failure
            code, shown = failed[0], f"error: {failed[1]}"
        elif isinstance(error, (jax.errors.JaxRuntimeError, ValueError)) and _LOST.search(str(error)):
            text = "lost another process of this run; run the same command again: it resumes from the last checkpoint"
            shown = f"error: process {self._index} {text} ({str(error).partition(chr(10))[0][:200]})"
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # nobody may be left to tell
            self._client.key_value_set(f"{_FAILED}{self._index}", f"{code} process {self._index} stopped: {text}")
        self._exit(shown, code)

    def _failed(self) -> tuple[int, str] | None:
        """Exit code and reason of a process that has failed: all end with the same code, which schedulers act on."""
        for _, text in self._client.key_value_dir_get(_FAILED):
            code, _, reason = text.partition(" ")
            return int(code), reason
        return None

    def _wait_for_reason(self) -> tuple[int, str] | None:
        until = time.monotonic() + 2 * _POLL
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            while time.monotonic() < until:
                if failed := self._failed():
                    return failed
                time.sleep(_POLL / 10)
        return None

    def _exit(self, text: str, code: int) -> NoReturn:
        """Ends the process at once: an orderly exit would wait for the others, and they wait for this one."""
        if text:
            print(text, file=sys.stderr, flush=True)
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(f"{_GONE}{self._index}", "")
            until = time.monotonic() + _LINGER
            # The key-value store is in process 0: it goes last, or the others die of its silence and say nothing.
            while self._index == 0 and time.monotonic() < until:
                if len(self._client.key_value_dir_get(_GONE)) == self._count:
                    break
                time.sleep(_POLL / 10)
        sys.stdout.flush()
        os._exit(code)
