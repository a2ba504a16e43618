"""One process writes into a folder, and the others are told which."""

import json
import os
import subprocess
import sys

import pytest

from cuma_jax.config import RunConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import write_text
from cuma_jax.runtime.lock import LOCK_FILE, check_owner, locked
from cuma_jax.training.metrics_log import MetricsLog

HOLD = """
import pathlib, sys
from cuma_jax.runtime.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_is_told_who_holds_it_and_a_killed_process_holds_nothing(tmp_path):
    folder = tmp_path / "runs" / "run"
    command = [sys.executable, "-c", HOLD, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(CumaError, match=rf"pid {holder.pid}, since .* is training in {folder}"), locked(folder):
            pass
        holder.kill()
    assert (folder / LOCK_FILE).exists()
    with locked(folder):
        assert json.loads((folder / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert not list(folder.iterdir())
    with locked(tmp_path / "new" / "run"):
        pass
    assert not (tmp_path / "new").exists()  # nothing was put into it


@pytest.mark.parametrize("taken", [json.dumps({"host": "far", "pid": 7, "since": "noon", "token": "other"}), None])
def test_who_was_stopped_while_another_came_writes_nothing_more(tmp_path, taken):
    """As on a disk without locks, or whose locks other hosts do not see."""
    with locked(tmp_path):
        log = MetricsLog(tmp_path, RunConfig(tensorboard=False), active=True)
        log.write({"step": 1})
        write_text(tmp_path / "results.json", "mine")
        if taken:
            (tmp_path / LOCK_FILE).write_text(taken)
        else:
            (tmp_path / LOCK_FILE).unlink()
        told = r"host far, pid 7, since noon\) has taken it over" if taken else "is gone"
        for write in (
            lambda: check_owner(tmp_path),
            lambda: write_text(tmp_path / "results.json", "again"),
            lambda: log.write({"step": 2}),
        ):
            with pytest.raises(CumaError, match=told):
                write()
        log.close()
    assert (tmp_path / "results.json").read_text() == "mine"
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert (tmp_path / LOCK_FILE).exists() is (taken is not None)  # the other's lock is left to it


def test_where_nothing_may_be_written_the_path_and_the_cause_are_named(tmp_path):
    (tmp_path / "file").touch()
    told = rf"{tmp_path / 'file'}.*: (File exists|Not a directory)"
    with pytest.raises(CumaError, match=told), locked(tmp_path / "file" / "run"):
        pass
