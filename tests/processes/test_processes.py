"""Promises about real processes, with the flags that users run with: stopping, dying, and going on."""

import json
import re
import signal
import subprocess
import sys

import pytest
from processes import environment, finish, metrics, start, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("processes"))


def without_speeds(folder):
    return [{k: v for k, v in line.items() if not k.endswith("_per_s")} for line in metrics(folder)]


def scores(folder):
    """results.json without what differs between any two runs: time, command and machine."""
    values = json.loads((folder / "results.json").read_text())
    values.pop("about")
    return values


@pytest.fixture(scope="module")
def uninterrupted(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(start(folder, cache))
    return folder


def test_a_run_leaves_its_whole_record(uninterrupted):
    names = {p.name for p in uninterrupted.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "results.json", "per_cell.parquet", "report.html"} <= names


def test_killed_and_run_again_it_ends_as_if_nothing_had_happened(uninterrupted, cache, tmp_path):
    folder = tmp_path / "run"
    first = start(folder, cache)
    wait_for(lambda: (folder / "checkpoints" / "6").is_dir(), first)
    first.kill()
    first.communicate()
    assert not (folder / "results.json").exists()
    assert re.search(r"resuming .* at step \d+|is trained already", finish(start(folder, cache)))
    assert without_speeds(folder) == without_speeds(uninterrupted)
    assert scores(folder) == scores(uninterrupted)


def test_sigterm_saves_and_exits_with_code_zero_and_the_same_command_resumes(uninterrupted, cache, tmp_path):
    folder = tmp_path / "run"
    first = start(folder, cache)
    wait_for(lambda: any(line["step"] >= 3 for line in metrics(folder)), first)
    first.send_signal(signal.SIGTERM)
    out = finish(first)
    assert "run the same command to resume" in out
    stopped_at = metrics(folder)[-1]["step"]
    assert (folder / "checkpoints" / str(stopped_at)).is_dir()
    out = finish(start(folder, cache))
    assert f"at step {stopped_at}" in out
    assert without_speeds(folder) == without_speeds(uninterrupted)
    assert scores(folder) == scores(uninterrupted)


def test_evaluating_again_gives_the_same_scores(uninterrupted, cache):
    before = scores(uninterrupted)
    command = [sys.executable, "-m", "cuma_jax.evaluate", "--run", str(uninterrupted)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert scores(uninterrupted) == before
