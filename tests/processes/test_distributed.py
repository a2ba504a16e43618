"""Real processes over loopback: together they are one run, and none of them outlives another's failure.

The runs, each used by several tests (P processes x D devices, all on the mesh 2 x 2 x 2):

    whole    1 x 8, from start to end: what all others must come to
    killed   2 x 4, one of them killed in the middle of a step; restarted  4 x 2, in a copy of its folder
    stopped  2 x 4, SIGTERM to both; on_one  1 x 8, in a copy of its folder
    refused  2 x 1, three commands that cannot work: nothing is compiled

All groups share one cache of compiled programs, so that each program is compiled once a number of processes.
"""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT, TEST_XLA_FLAGS
from processes import environment, metrics, wait_for

pytestmark = pytest.mark.slow
STEPS = 10
TRAIN = ["-m", "cuma_jax.train", "--config", str(ROOT / "configs" / "debug.py"), "--run.no-tensorboard",
         "--train.steps", str(STEPS), "--train.save_every", "4", "--train.eval_every", "5", "--train.eval_batches", "2",
         "--data.buckets", "256", "--evaluation.max_profiles", "20", "--evaluation.bootstrap", "50",
         "--evaluation.splits", "unseen_country"]  # fmt: skip
MESH = ["--mesh.data", "2", "--mesh.fsdp", "2", "--mesh.tensor", "2"]
HEARTBEAT_S = 30


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Group:
    """Processes of one run, started together; `argv` of each, or one for all."""

    def __init__(self, logs, devices, *argvs, folders=None):
        address, count = f"127.0.0.1:{free_port()}", len(argvs)
        flags = f"--xla_force_host_platform_device_count={devices} {TEST_XLA_FLAGS}"
        logs.mkdir(parents=True, exist_ok=True)
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


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


def group(place, name, processes, *more):
    argv = [*TRAIN, *MESH, "--run.dir", str(place / name), "--run.cache_dir", str(place / "cache"), *more]
    return Group(place / "logs" / name, 8 // processes, *[argv] * processes)


def losses(folder):
    return {(line["step"], line.get("eval", "train")): line["loss"] for line in metrics(folder)}


def checkpoints(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())


def scores(folder):
    """Every number of results.json but times, by its place."""
    found = {}

    def walk(value, where):
        if isinstance(value, dict):
            for key in value.keys() - {"about"}:
                walk(value[key], f"{where}.{key}")
        elif isinstance(value, list):
            for i, item in enumerate(value):
                walk(item, f"{where}[{i}]")
        else:
            found[where] = value

    walk(json.loads((folder / "results.json").read_text()), "")
    return found


def resumed(place, source, name, processes, *more):
    """A copy of a run's folder, gone on with by other processes."""
    shutil.copytree(place / source, place / name)
    run = group(place, name, processes, *more)
    run.succeed()
    assert re.search(r"resuming .* at step \d+", run.said(0)), run.said(0)
    return place / name


@pytest.fixture(scope="module")
def whole(place):
    group(place, "whole", 1).succeed()
    return place / "whole"


@pytest.fixture(scope="module")
def killed(place):
    """The group, its exit codes, and the seconds until the other had ended; nobody told it."""
    run, folder = group(place, "killed", 2), place / "killed"
    run.wait_for(lambda: (5, "train") in losses(folder) and (folder / "checkpoints" / "4").is_dir())
    began = time.monotonic()
    run.processes[1].kill()
    codes = run.end()
    return run, codes, time.monotonic() - began


@pytest.fixture(scope="module")
def restarted(place, killed):
    return resumed(place, "killed", "restarted", 4)


@pytest.fixture(scope="module")
def stopped(place):
    run, folder = group(place, "stopped", 2), place / "stopped"
    run.wait_for(lambda: (folder / "config.json").exists())  # the first step is about to be compiled
    for process in run.processes:
        process.send_signal(signal.SIGTERM)
    return run, run.end()


@pytest.fixture(scope="module")
def on_one(place, stopped):
    return resumed(place, "stopped", "on_one", 1)


@pytest.mark.parametrize("name", ["killed", "stopped", "restarted", "on_one"])
def test_losses_are_those_of_one_process(name, place, whole, killed, stopped, restarted, on_one):
    """From the start (killed, stopped), and from a checkpoint of two processes on four and on one."""
    expected, found = losses(whole), losses(place / name)
    assert found
    assert len(expected) == STEPS + 2
    assert name in ("killed", "stopped") or found.keys() == expected.keys()
    for step, loss in found.items():
        assert abs(loss - expected[step]) <= 1e-5, step


@pytest.mark.parametrize("name", ["restarted", "on_one"])
def test_scores_are_those_of_one_process(name, place, whole, restarted, on_one):
    expected, found = scores(whole), scores(place / name)
    assert found.keys() == expected.keys()
    assert len(found) > 50
    for where, value in found.items():
        assert value == (pytest.approx(expected[where], abs=1e-4) if isinstance(value, float) else expected[where])


def test_a_killed_process_ends_the_others_with_an_error_in_time(killed):
    run, codes, seconds = killed
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0
    assert seconds < HEARTBEAT_S + 30
    assert "another process" in run.said(0) or "heartbeat" in run.said(0), run.said(0)


def test_sigterm_to_all_saves_once_and_exits_with_code_zero(stopped, place):
    run, codes = stopped
    assert codes == [0, 0], run.said(0) + run.said(1)
    assert "stopped on request" in run.said(0)
    assert "run the same command to resume" in run.said(0)
    assert "stopped on request" not in run.said(1)
    last = max(line["step"] for line in metrics(place / "stopped"))
    assert last < 4
    assert checkpoints(place / "stopped") == [last]


@pytest.fixture(scope="module")
def refused(place):
    """Three commands that cannot work, at the same time: name -> (group, exit codes)."""
    here, there = place / "here", place / "there"
    shutil.copytree(ROOT / "examples" / "my_survey", here)
    there.mkdir()
    common = [*TRAIN, "--run.cache_dir", str(place / "cache")]
    csv = [
        *common,
        "--data.source",
        "csv",
        "--data.path",
        "survey.yaml",
        "--evaluation.splits",
        "unseen_respondent",
        "--data.buckets",  # long enough for this survey: only the file that one host lacks is wrong
        "512",
        "--run.dir",
        str(place / "csv"),
    ]
    size = [*common, "--run.dir", str(place / "size"), "--train.batch_size"]
    groups = {
        "config": Group(place / "logs" / "config", 1, [*size, "16"], [*size, "32"]),
        "data": Group(place / "logs" / "data", 1, csv, csv, folders=[here, there]),
        "folder": Group(place / "logs" / "folder", 1, *[[*common, "--run.dir", "run"]] * 2, folders=[here, there]),
    }
    return {name: (run, run.end(120)) for name, run in groups.items()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config", r"config field train.batch_size is 32 on process 1 \(.*\) and 16 on process 0; start every process"),
        ("data", "survey.yaml"),
        ("folder", "run.dir .* is not one folder for all processes: .* process 1 does not see"),
    ],
)
def test_what_is_wrong_in_one_process_ends_all_with_one_message(name, message, refused, place):
    run, codes = refused[name]
    assert codes == [2, 2], run.said(0) + run.said(1)
    for i in (0, 1):
        errors = [line for line in run.said(i).splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, run.said(i)
        assert re.search(message, errors[0]), errors[0]
        assert "Traceback" not in run.said(i)
    assert not (place / "size").exists()
    assert not (place / "here" / "run").exists()


SCATTERED = """
import sys
import jax, numpy as np
from jax.sharding import AxisType, Mesh
from cuma_jax.runtime import processes
from cuma_jax.runtime.sharding import local_rows, put_batch, put_whole
with distributed.joined(sys.argv[1:]):
    i = distributed.process_index()
    # As on a 4 x 4 slice of four hosts: the mesh follows rows of chips, and a host has a square of them.
    order = np.array(jax.devices())[[0, 1, 4, 5, 2, 3, 6, 7]]
    mesh = Mesh(order.reshape(8, 1, 1), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    rows = local_rows(mesh, 16)
    assert rows.tolist() == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]][i], rows
    whole = np.arange(48).reshape(16, 3)
    placed = put_batch({"x": whole[rows]}, mesh)["x"]
    assert placed.shape == whole.shape
    for shard in placed.addressable_shards:
        np.testing.assert_array_equal(shard.data, whole[shard.index])
    np.testing.assert_array_equal(put_whole(whole, mesh), whole)
    assert distributed.decide(f"from {i}") == "from 0"
    assert distributed.gather(f"from {i}") == ["from 0", "from 1"]
    np.testing.assert_array_equal(distributed.broadcast(np.full(3, i + 5, np.float32), (3,)), 5)
    print("all well")
"""


def test_rows_of_a_host_need_not_lie_side_by_side_and_processes_agree(place):
    run = Group(place / "logs" / "scattered", 4, *[["-c", SCATTERED]] * 2)
    run.succeed()
    assert all("all well" in run.said(i) for i in (0, 1))
