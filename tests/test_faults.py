"""Whatever ends a run or damages its folder: one message, and in the end the run that nothing had disturbed.

Real processes, forked from one that has imported everything (`helpers/forks.py`); real signals, and a real small disk
where one may be mounted.
"""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest
from conftest import ROOT, TEST_XLA_FLAGS
from forks import Server
from processes import metrics, scores
from small_survey import SURVEY

from cuma_jax.config.saved import saved_steps
from cuma_jax.run.saved_adapters import find_step, read_adapters
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.lock import LOCK_FILE

pytestmark = pytest.mark.slow
STEPS, KILLS = 12, 20
RUN = ["--config", ROOT / "configs" / "debug.py", "--method", "lora", "--data.questions", "invented.tea",
       "--data.buckets", 256, "--train.steps", STEPS, "--train.save_every", 2, "--train.eval_every", 4,
       "--train.eval_batches", 1, "--train.keep", 2, "--train.batch_size", 4, "--run.no-tensorboard",
       "--evaluation.splits", "unseen_country", "--evaluation.max_profiles", 4,
       "--evaluation.bootstrap", 5]  # fmt: skip


@pytest.fixture(scope="module")
def server():
    server = Server(JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0", XLA_FLAGS=TEST_XLA_FLAGS)
    yield server
    server.close()


@pytest.fixture(scope="module")
def begin(server, cache_folder, tmp_path_factory):
    """`begin(folder, **settings)`: a process that trains there."""
    logs = tmp_path_factory.mktemp("logs")

    def start(folder, **settings):
        log = logs / str(len(list(logs.iterdir())))
        return server.start("train", *RUN, "--run.dir", folder, "--run.cache_dir", cache_folder, log=log, **settings)

    return start


@pytest.fixture(scope="module")
def train(begin):
    """`train(folder, code=0)`: trains to the end, which must be `code`; what it said."""

    def finish(folder, code=0, **settings):
        process = begin(folder, **settings)
        assert process.end() == code, process.said()
        assert "Traceback" not in process.said(), process.said()
        return process.said()

    return finish


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(folder)
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MB that is its own; None where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = [shutil.which("mount") or "false", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield disk if mounted else None
    if mounted:
        subprocess.run(["umount", "-l", disk], check=True)


@contextlib.contextmanager
def nearly_full(disk, left):
    """Leaves so many bytes of a disk for the time of the block."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(shutil.disk_usage(disk).free - left, 0)))
    yield
    ballast.unlink()


def the_end(folder):
    """All that a run leaves, without speeds: equal for equal runs, bit for bit."""
    lines = [{k: v for k, v in line.items() if not k.endswith("_per_s")} for line in metrics(folder)]
    states = {}
    for step in saved_steps(folder):
        states[step] = json.loads((folder / "checkpoints" / str(step) / "belongs" / "metadata").read_text())[
            "checksums"
        ]
        read_adapters(folder, step)  # the values are what these checksums say
    names = {str(path.relative_to(folder)) for path in [*folder.iterdir(), *(folder / "checkpoints").iterdir()]}
    return lines, states, scores(folder), (folder / "split.parquet").read_bytes(), names


def until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def error_of(said):
    """The one message of a command that was refused."""
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said
    return lines[0]


def test_killed_at_twenty_random_moments_it_ends_as_if_nothing_had_happened(begin, train, whole, tmp_path):
    rng, folder, longest, killed = random.Random(15), tmp_path / "run", 60.0, 0
    for _ in range(KILLS):
        process, began, moment = begin(folder), time.monotonic(), rng.uniform(0, longest)
        while process.runs() and time.monotonic() - began < moment:
            time.sleep(0.002)
        process.send(signal.SIGKILL)
        longest = min(longest, time.monotonic() - began) if process.end() == 0 else longest
        killed += process.end() == -signal.SIGKILL
    train(folder)
    assert killed > KILLS / 2
    assert the_end(folder) == the_end(whole)


def test_a_second_process_is_refused_and_sigterm_and_ctrl_c_twice_are_no_harm(begin, train, whole, tmp_path):
    folder = tmp_path / "run"
    first = begin(folder)
    until(lambda: (folder / LOCK_FILE).exists() and (folder / LOCK_FILE).read_text())
    told = error_of(train(folder, code=2))
    assert f"pid {first.pid}, " in told
    assert f"is training in {folder}" in told
    until(lambda: "step 2/" in first.said())
    first.send(signal.SIGTERM)
    assert first.end() == 0
    assert "stopped on request; saved in" in first.said()
    assert 2 <= max(saved_steps(folder)) < STEPS

    second = begin(folder)
    until(lambda: "resuming" in second.said())
    second.send(signal.SIGINT)
    with contextlib.suppress(ProcessLookupError):
        second.send(signal.SIGINT)
    assert second.end() == 130
    assert second.said().count("interrupted; run the same command again") == 1
    assert "Traceback" not in second.said()
    train(folder)
    assert the_end(folder) == the_end(whole)


def test_a_disk_that_is_full_at_a_checkpoint_is_one_message_and_the_run_goes_on(train, whole, small_disk, tmp_path):
    folder = (small_disk or tmp_path) / "run"
    if small_disk:
        with nearly_full(small_disk, 150_000):
            told = error_of(train(folder, code=2))
    else:
        told = error_of(train(folder, code=2, largest=8_000))
    assert f"cannot be written into {folder / 'checkpoints'}: the disk is full" in told
    steps = saved_steps(folder)
    assert (f"Checkpoint {steps[-1]} is the newest whole one" if steps else "There is none yet") in told
    assert not list(folder.glob("checkpoints/*tmp*"))
    train(folder)
    assert the_end(folder) == the_end(whole)


def test_a_disk_that_is_full_at_the_report_keeps_what_was_trained(train, whole, small_disk, tmp_path):
    folder = (small_disk or tmp_path) / "run"
    shutil.copytree(whole, folder)
    for name in ("results.json", "per_cell.parquet", "resamples.npz", "report.html"):
        (folder / name).unlink()
    if small_disk:
        with nearly_full(small_disk, 30_000):
            told = error_of(train(folder, code=2))
    else:
        told = error_of(train(folder, code=2, largest=30_000))
    assert f"{folder / 'report.html'} cannot be written: " in told
    assert "run the same command again" in told
    assert not (folder / "results.json").exists()
    train(folder)
    assert the_end(folder) == the_end(whole)


def test_a_disk_that_is_full_at_the_cache_is_one_message(server, small_disk, tmp_path):
    (tmp_path / "small.yaml").write_text(SURVEY)
    people = "".join(f"person{i},{('Chile', 'Japan')[i % 2]},{1 + i % 2}\n" for i in range(3000))
    (tmp_path / "people.csv").write_text(f"id,country,tea\n{people}")
    cache = (small_disk or tmp_path) / "cache"
    argv = ["build", tmp_path / "small.yaml", "--cache_dir", cache]

    def build(number, **settings):
        process = server.start("data", *argv, log=tmp_path / f"log{number}", **settings)
        return process.end(), process.said()

    with nearly_full(small_disk, 12_000) if small_disk else contextlib.nullcontext():
        code, said = build(1) if small_disk else build(1, largest=2_000)
    assert code == 2, said
    assert f"{cache / 'surveys'}" in error_of(said)
    assert "run the same command again" in error_of(said)
    assert build(2)[0] == 0
    assert len(list((cache / "surveys").iterdir())) == 1


def test_a_folder_that_may_not_be_written_is_refused_before_anything_is_read(train, whole, small_disk, tmp_path):
    folder = (small_disk or tmp_path) / "run"
    shutil.copytree(whole, folder)
    before = the_end(folder)
    if small_disk:
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        told = error_of(train(folder, code=2))
    else:
        folder.chmod(0o555)  # root is not held by that, and another user may see nothing of pytest's folders
        told = error_of(train(folder, code=2, **({} if os.getuid() else {"uid": 65534})))
        folder.chmod(0o755)
    where = folder / LOCK_FILE if small_disk or os.getuid() else ""
    assert f"{where} may not be read or written here" in told
    assert the_end(folder) == before


def damaged(file: pathlib.Path, rng: random.Random) -> None:
    """A bit of the file is another, or its end is gone."""
    text = bytearray(file.read_bytes())
    at = rng.randrange(len(text))
    text[at] ^= 1 << rng.randrange(8)
    file.write_bytes(text[:at] if rng.random() < 0.4 else text)


def test_a_damaged_checkpoint_is_never_restored_with_other_values(whole, tmp_path):
    """Every file of the newest is damaged, twice: the values are those that were saved, or one message is."""
    rng, (step, before), refused = random.Random(15), (STEPS, STEPS - 2), 0
    assert saved_steps(whole)[-2:] == [before, step]
    good = str(read_adapters(whole, step).adapters)
    files = [file for file in (whole / "checkpoints" / str(step)).rglob("*") if file.is_file() and file.stat().st_size]
    for file in files * 2:
        folder = pathlib.Path(shutil.copytree(whole / "checkpoints", tmp_path / "run" / "checkpoints")).parent
        damaged(folder / file.relative_to(whole), rng)
        try:
            found = str(read_adapters(folder, find_step(folder, "last")[0]).adapters)
        except CumaError as error:
            refused, found = refused + 1, str(error)
        told = f"checkpoints/{step} cannot be read (it is damaged: " in found
        assert found == good or (told and f"that of step {before} is whole: delete that folder" in found), found
        shutil.rmtree(folder)
    assert refused >= 4  # what says of which base and adapters it is, and the values, at least


def test_training_refuses_a_damaged_checkpoint_and_its_advice_leads_to_the_same_end(train, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "checkpoints" / "999").mkdir()  # no checkpoint, and not the newest
    newest = folder / "checkpoints" / str(STEPS)
    for file in (newest / "state").rglob("d/*"):  # of values, and what stands where
        text = bytearray(file.read_bytes())
        text[len(text) // 2] ^= 1
        file.write_bytes(text)
    said = train(folder, code=2)
    assert "999 is no checkpoint; it is called 999.no-checkpoint-" in said
    assert f"that of step {STEPS - 2} is whole: delete that folder ({newest})" in error_of(said)
    shutil.rmtree(newest)
    assert f"at step {STEPS - 2} of" in train(folder)
    (aside,) = (folder / "checkpoints").glob("999*")
    aside.rmdir()
    assert the_end(folder) == the_end(whole)
