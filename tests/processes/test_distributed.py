"""Real processes over loopback: together they are one run, and none of them outlives another's failure.

The runs (P processes x D devices, all on the mesh 2 x 2 x 2):

    whole    1 x 8, from start to end: what the other must come to
    broken   2 x 4, one of them killed in the middle of a step; 2 x 4 again, SIGTERM to both; 1 x 8 to the end
    refused  2 x 1, three commands that cannot work: nothing is compiled
"""

import re
import shutil
import signal
import time

import pytest
from conftest import ROOT
from processes import HEARTBEAT_S, Group, metrics, scores

pytestmark = pytest.mark.slow
STEPS = 12
TRAIN = ["-m", "cuma_jax.train", "--config", str(ROOT / "configs" / "debug.py"), "--run.no-tensorboard",
         "--train.steps", str(STEPS), "--train.save_every", "4", "--train.eval_every", "6", "--train.eval_batches", "1",
         "--train.batch_size", "8", "--data.buckets", "256", "--evaluation.max_profiles", "20",
         "--evaluation.bootstrap", "50", "--evaluation.splits", "unseen_country"]  # fmt: skip
MESH = ["--mesh.data", "2", "--mesh.fsdp", "2", "--mesh.tensor", "2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def group(place, cache_folder):
    """`group(run, processes, log)`: processes that train in the folder `run`."""

    def begin(run, processes, log):
        argv = [*TRAIN, *MESH, "--run.dir", str(place / run), "--run.cache_dir", cache_folder]
        return Group(place / "logs" / log, 8 // processes, *[argv] * processes)

    return begin


def losses(folder):
    return {(line["step"], line.get("eval", "train")): line["loss"] for line in metrics(folder)}


def numbers(value, where=""):
    """Every leaf of nested dicts and lists, by its place."""
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for name, item in items for k, v in numbers(item, f"{where}.{name}").items()}
    return {where: value}


@pytest.fixture(scope="module")
def whole(place, group):
    group("whole", 1, "whole").succeed()
    return place / "whole"


@pytest.fixture(scope="module")
def killed(place, group):
    """The group, its exit codes, and the seconds until the other had ended; nobody told it."""
    run, folder = group("broken", 2, "killed"), place / "broken"
    run.wait_for(lambda: (5, "train") in losses(folder) and (folder / "checkpoints" / "4").is_dir())
    began = time.monotonic()
    run.processes[1].kill()
    codes = run.end()
    return run, codes, time.monotonic() - began


@pytest.fixture(scope="module")
def stopped(place, group, killed):
    """The group, its exit codes, the last step that it logged, and its newest checkpoint."""
    run, folder = group("broken", 2, "stopped"), place / "broken"
    run.wait_for(lambda: "resuming" in run.said(0))  # the first step is about to be compiled
    for process in run.processes:
        process.send_signal(signal.SIGTERM)
    codes, saved = run.end(), [int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit()]
    return run, codes, metrics(folder)[-1]["step"], max(saved)


@pytest.fixture(scope="module")
def finished(place, group, stopped):
    run = group("broken", 1, "finished")
    run.succeed()
    assert re.search(r"resuming .* at step \d+", run.said(0)), run.said(0)
    return place / "broken"


def test_losses_and_scores_are_those_of_one_process(whole, finished):
    """From the start, from a checkpoint of as many processes, and from one of more."""
    expected, found = losses(whole), losses(finished)
    assert len(expected) == STEPS + 2
    assert found == pytest.approx(expected, abs=1e-5)
    expected, found = numbers(scores(whole)), numbers(scores(finished))
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


def test_sigterm_to_all_saves_once_and_exits_with_code_zero(stopped):
    run, codes, last, saved = stopped
    assert codes == [0, 0], run.said(0) + run.said(1)
    assert "stopped on request" in run.said(0)
    assert "run the same command to resume" in run.said(0)
    assert "stopped on request" not in run.said(1)
    assert 4 <= saved == last < 8  # between two checkpoints that are due


def without(argv, *flags):
    """The line without some flags and their values: a flag is given once."""
    at = [argv.index(flag) for flag in flags]
    return [word for i, word in enumerate(argv) if i not in at and i - 1 not in at]


@pytest.fixture(scope="module")
def refused(place, cache_folder):
    """Three commands that cannot work, at the same time: name -> (group, exit codes)."""
    here, there = place / "here", place / "there"
    shutil.copytree(ROOT / "examples" / "my_survey", here)
    there.mkdir()
    common = [*TRAIN, "--run.cache_dir", cache_folder]
    size = [*without(common, "--train.batch_size"), "--run.dir", str(place / "size"), "--train.batch_size"]
    csv = [*without(common, "--evaluation.splits", "--data.buckets"), "--run.dir", str(place / "csv"),
           "--data.source", "csv", "--data.path", "survey.yaml",
           # Right for this survey: only the file that one host lacks is wrong.
           "--evaluation.splits", "unseen_respondent", "--data.buckets", "512"]  # fmt: skip
    groups = {
        "config": Group(place / "logs" / "config", 1, [*size, "16"], [*size, "32"]),
        "data": Group(place / "logs" / "data", 1, csv, csv, folders=[here, there]),
        "folder": Group(place / "logs" / "folder", 1, *[[*common, "--run.dir", "run"]] * 2, folders=[here, there]),
    }
    return {name: (run, run.end(120)) for name, run in groups.items()}


@pytest.mark.nightly
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
from cuma_jax.runtime.processes import broadcast, decide, gather, joined, process_index
from cuma_jax.runtime.sharding import local_rows, put_batch, put_whole
with joined(sys.argv[2]):
    i = process_index()
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
    assert decide(f"from {i}") == "from 0"
    assert gather(f"from {i}") == ["from 0", "from 1"]
    np.testing.assert_array_equal(broadcast(np.full(3, i + 5, np.float32), (3,)), 5)
    print("all well")
"""


def test_rows_of_a_host_need_not_lie_side_by_side_and_processes_agree(place):
    run = Group(place / "logs" / "scattered", 4, *[["-c", SCATTERED]] * 2)
    run.succeed()
    assert all("all well" in run.said(i) for i in (0, 1))
