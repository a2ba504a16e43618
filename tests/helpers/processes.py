"""Real processes, for tests: what they are started with, what they have recorded, and waiting for what they do."""

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT

DEBUG = ["--config", str(ROOT / "configs" / "debug.py"), "--run.no-tensorboard", "--train.steps", "24",
         "--train.save_every", "6", "--train.eval_every", "12", "--data.buckets", "256",
         "--evaluation.max_profiles", "40"]  # fmt: skip
"""The debug preset, shorter."""


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


def start(folder, cache, *argv, **extra):
    """A training process in `folder`; `extra` is added to its environment."""
    command = [sys.executable, "-m", "cuma_jax.train", *DEBUG, "--run.dir", str(folder), "--run.cache_dir", cache]
    return subprocess.Popen([*command, *argv], env=environment(**extra), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)  # fmt: skip


def finish(process):
    """Waits for the end of a process that should end well; what it printed."""
    out = process.communicate(timeout=300)[0]
    assert process.returncode == 0, out
    return out
