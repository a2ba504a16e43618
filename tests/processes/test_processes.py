"""Promises about real processes, with the flags that users run with: dying, and going on.

Stopping is in test_distributed.py, and bit for bit in training/test_loop.py.
"""

import re
import subprocess
import sys

import pytest
from processes import environment, finish, metrics, scores, start, wait_for

pytestmark = pytest.mark.slow


def without_speeds(folder):
    return [{k: v for k, v in line.items() if not k.endswith("_per_s")} for line in metrics(folder)]


@pytest.fixture(scope="module")
def uninterrupted(cache_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(start(folder, cache_folder))
    return folder


def test_a_run_leaves_its_whole_record(uninterrupted):
    names = {p.name for p in uninterrupted.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "results.json", "per_cell.parquet", "report.html"} <= names


def test_killed_it_ends_as_if_nothing_had_happened(uninterrupted, cache_folder, tmp_path):
    """Kill -9 in the middle of a step; the same command."""
    folder = tmp_path / "run"
    killed = start(folder, cache_folder)
    wait_for(lambda: (folder / "checkpoints" / "4").is_dir(), killed)
    killed.kill()
    killed.communicate()
    assert not (folder / "results.json").exists()
    assert re.search(r"resuming .* at step \d+", finish(start(folder, cache_folder)))
    assert without_speeds(folder) == without_speeds(uninterrupted)
    assert scores(folder) == scores(uninterrupted)


def test_evaluating_again_gives_the_same_scores(uninterrupted):
    before = scores(uninterrupted)
    command = [sys.executable, "-m", "cuma_jax.evaluate", "--run", str(uninterrupted)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert scores(uninterrupted) == before
