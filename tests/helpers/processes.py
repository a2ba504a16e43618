"""Real processes, for tests: what they are started with, what they have recorded, and waiting for what they do.

All processes of a test session share one cache: of a program, a survey or a table of profiles there is one making.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT, TEST_XLA_FLAGS

DEBUG = ["--config", str(ROOT / "configs" / "debug.py"), "--run.no-tensorboard", "--train.steps", "16",
         "--train.save_every", "4", "--train.eval_every", "8", "--data.buckets", "256", "--train.batch_size", "8",
         "--evaluation.max_profiles", "20", "--evaluation.bootstrap", "50",
         "--evaluation.splits", "unseen_country"]  # fmt: skip
"""The debug preset, shorter."""
HEARTBEAT_S = 30


def environment(**extra):
    """This process's environment without the settings of tests, and with the package; `extra` is added."""
    clean = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    return clean | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'helpers'}"} | extra


def metrics(folder):
    """The whole lines of a run's metrics.jsonl, none before there is one."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def scores(folder):
    """results.json without what differs between any two runs: time, command and machine."""
    return {k: v for k, v in json.loads((folder / "results.json").read_text()).items() if k != "about"}


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


def start(folder, cache):
    """A training process in `folder`."""
    command = [sys.executable, "-m", "cuma_jax.train", *DEBUG, "--run.dir", str(folder), "--run.cache_dir", cache]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    """Waits for the end of a process that should end well; what it printed."""
    out = process.communicate(timeout=300)[0]
    assert process.returncode == 0, out
    return out


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Group:
    """Processes of one run, started together over loopback, with `devices` fake devices each.

    Args:
        logs: the folder of their output.
        argvs: the arguments of each process.
        folders: where each runs, if not here.
    """

    def __init__(self, logs, devices, *argvs, folders=None):
        address, count = f"127.0.0.1:{free_port()}", len(argvs)
        flags = f"--xla_force_host_platform_device_count={devices} {TEST_XLA_FLAGS}"
        logs.mkdir(parents=True)
        self.logs = [logs / f"{i}.log" for i in range(count)]
        self.processes = []
        for i, argv in enumerate(argvs):
            with self.logs[i].open("w") as log:
                self.processes.append(subprocess.Popen(
                    [sys.executable, *argv, "--distributed", f"{address},{count},{i}" if count > 1 else "none"],
                    stdout=log, stderr=log,
                    # Sets of strings are in another order in each process, as they are without a seed, most times.
                    env=environment(XLA_FLAGS=flags, CUMA_JAX_HEARTBEAT=str(HEARTBEAT_S), PYTHONHASHSEED=str(2 * i)),
                    cwd=folders[i] if folders else None,
                ))  # fmt: skip

    def said(self, i):
        lines = self.logs[i].read_text().splitlines(keepends=True)
        return "".join(line for line in lines if not re.match(r"\[Gloo\]|[WEI]\d{4} ", line))

    def end(self, timeout=300):
        """Exit codes, when all have ended."""
        until = time.monotonic() + timeout
        try:
            return [process.wait(max(until - time.monotonic(), 0.1)) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def succeed(self):
        assert self.end() == [0] * len(self.processes), "\n".join(self.said(i) for i in range(len(self.processes)))

    def wait_for(self, condition):
        wait_for(condition, *self.processes, said=lambda: self.said(0))
