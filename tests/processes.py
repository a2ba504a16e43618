"""Real processes, for tests: what they are started with, what they have recorded, and waiting for what they do."""

import json
import os
import time

import pytest
from conftest import ROOT


def environment(**extra):
    """This process's environment without the settings of tests, and with the package; `extra` is added."""
    clean = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    return clean | {"PYTHONPATH": str(ROOT)} | extra


def metrics(folder):
    """The whole lines of a run's metrics.jsonl, none before there is one."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def wait_for(condition, *processes, said=None):
    """Waits until `condition()` holds.

    When a process ends before that, or after four minutes, all are killed and the test fails with what `said()`
    returns: the output of the first, if not given.
    """
    deadline = time.monotonic() + 240
    while not condition():
        if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
            for process in processes:
                process.kill()
            pytest.fail(said() if said else processes[0].communicate()[0])
        time.sleep(0.02)
