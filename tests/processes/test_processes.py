"""A run of a real process, with the flags that users run with.

Kills and signals are in test_faults.py and test_distributed.py, and bit for bit in training/test_loop.py.
"""

import subprocess
import sys

import pytest
from processes import environment, finish, scores, start

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def uninterrupted(cache_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(start(folder, cache_folder))
    return folder


def test_a_run_leaves_its_whole_record(uninterrupted):
    names = {p.name for p in uninterrupted.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "results.json", "per_cell.parquet", "report.html"} <= names


def test_evaluating_again_gives_the_same_scores(uninterrupted):
    before = scores(uninterrupted)
    command = [sys.executable, "-m", "cuma_jax.evaluate", "--run", str(uninterrupted)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert scores(uninterrupted) == before
