"""The loop: what it learns, what it logs, how it stops and how it goes on. In one process; see test_processes.py."""

import dataclasses
import gzip
import json
import os
import pathlib
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compiled
from conftest import ROOT, changed

from cuma_jax.config import MeshConfig
from cuma_jax.run.folder import read_metrics
from cuma_jax.run.rows import total_steps
from cuma_jax.run.saved_adapters import find_step, read_adapters, read_state
from cuma_jax.runtime.errors import CumaError
from cuma_jax.training import loop
from cuma_jax.training import trace as loop_trace
from cuma_jax.training.checkpoints import Checkpoints
from cuma_jax.training.loop import Trainer, train
from cuma_jax.training.metrics_log import MetricsLog

GOLDEN = ROOT / "tests" / "golden" / "debug_losses.json"
STEPS = 6


def settings(config):
    """Six steps of the debug preset, validated and saved half-way."""
    return changed(config, train={"steps": STEPS, "eval_every": 3, "save_every": 3, "eval_batches": 2, "keep": 9})


# All stand on one training run, which alone takes more than ten seconds.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(debug_run, debug_config):
    return dataclasses.replace(debug_run, config=settings(debug_config))


@pytest.fixture(scope="module")
def uninterrupted(run, tmp_path_factory):
    """The folder and the end of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, train(run, folder)


def losses(folder):
    """Everything that was logged but speeds, by step and split."""
    speeds = ("tokens_per_s", "examples_per_s")
    return {
        (line["step"], line.get("eval")): {k: v for k, v in line.items() if k not in speeds}
        for line in read_metrics(folder)
    }


def same(one, two):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(two))


def test_golden_first_losses(uninterrupted):
    """Three steps of the debug preset (one bucket of 256). Random weights come from numpy, so machines agree."""
    found = [losses(uninterrupted[0])[step, None]["loss"] for step in (1, 2, 3)]
    expected = json.loads(GOLDEN.read_text())["loss"]
    np.testing.assert_allclose(
        found, expected, rtol=1e-4,
        err_msg="the first training losses changed. If that was the purpose of the change, say so in the commit and "
        f"put these numbers in {GOLDEN.relative_to(ROOT)}: {found}; if not, the numerics broke.",
    )  # fmt: skip


def test_every_step_is_logged_with_the_fields_that_readers_expect(uninterrupted):
    logged = losses(uninterrupted[0])
    assert [s for s, split in logged if split is None] == list(range(1, STEPS + 1))
    assert [s for s, split in logged if split == "validation"] == [3, 6]
    for line in read_metrics(uninterrupted[0]):
        expected = {"step", "loss", "accuracy"}
        expected |= {"eval"} if "eval" in line else {"balance", "learning_rate", "tokens_per_s", "examples_per_s"}
        assert expected <= line.keys()
        assert all(np.isfinite(v) for v in line.values() if not isinstance(v, str))


def test_resumed_equals_uninterrupted_bit_for_bit(run, uninterrupted, tmp_path, monkeypatch):
    """SIGTERM after a few steps, then the same command again: state, metrics and validation are the same."""
    write = MetricsLog.write

    def write_and_stop(self, line):
        write(self, line)
        if line["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(MetricsLog, "write", write_and_stop)
    stopped = train(run, tmp_path)
    monkeypatch.undo()
    assert not stopped.finished
    assert 2 <= int(stopped.state.step) < STEPS
    resumed = train(run, tmp_path)
    assert resumed.finished
    same(resumed.state, uninterrupted[1].state)
    assert losses(tmp_path) == losses(uninterrupted[0])


def test_a_finished_run_is_not_trained_again(run, uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted[0], tmp_path / "again")
    again = train(run, folder)
    assert again.finished
    same(again.state, uninterrupted[1].state)
    assert losses(folder) == losses(uninterrupted[0])


def test_a_half_written_checkpoint_is_never_used_and_a_run_goes_on_from_the_one_before(run, uninterrupted, tmp_path):
    """Killed while step 6 was being written: what is there of it is passed over, step 3 is restored."""
    folder = shutil.copytree(uninterrupted[0], tmp_path / "killed")
    part = (folder / "checkpoints" / "6").rename(folder / "checkpoints" / "6.orbax-checkpoint-tmp-0")
    shutil.rmtree(part / "state", ignore_errors=True)
    assert find_step(folder, "last") == (3, 3)
    checkpoints = Checkpoints(folder, run)
    assert checkpoints.latest() == 3
    checkpoints.close()
    same(train(run, folder).state, uninterrupted[1].state)
    assert losses(folder) == losses(uninterrupted[0])
    assert not list((folder / "checkpoints").glob("*tmp*"))


def test_a_damaged_checkpoint_is_named(run, uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted[0], tmp_path / "damaged")
    for file in (folder / "checkpoints" / "6" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CumaError, match=r"checkpoints/6 cannot be read .*delete that folder"):
        train(run, folder)


def test_a_checkpoint_of_another_base_or_adapter_is_refused_with_the_reason(run, uninterrupted):
    folder, abstract = uninterrupted[0], Trainer(run).abstract()
    same(read_state(folder, 6, abstract, run.fingerprint), uninterrupted[1].state)
    with pytest.raises(CumaError, match=r"another base model .*model\.source"):
        read_state(folder, 6, abstract, "0" * 32)
    wider = jax.tree.map(lambda s: jax.ShapeDtypeStruct((*s.shape[:-1], s.shape[-1] + 1), s.dtype),
                         run.adapter_shapes)  # fmt: skip
    for read in (
        lambda: read_state(folder, 6, abstract.replace(adapters=wider), run.fingerprint),
        lambda: read_adapters(folder, 6, wider, run.fingerprint),
    ):
        with pytest.raises(CumaError, match=r"other adapters: .* there and .* here"):
            read()


def test_the_best_checkpoint_has_the_lowest_validation_loss(run, uninterrupted):
    logged = losses(uninterrupted[0])
    best = min((3, 6), key=lambda step: logged[step, "validation"]["loss"])
    assert find_step(uninterrupted[0], "best") == (best, 6)


def test_the_newest_checkpoints_and_the_best_are_kept(run, uninterrupted, tmp_path):
    state = uninterrupted[1].state
    few = dataclasses.replace(run, config=changed(run.config, train={"keep": 2}))
    checkpoints = Checkpoints(tmp_path, few)
    for step, loss in enumerate((0.9, 0.3, None, 0.5, None, 0.4, None), start=1):
        checkpoints.save(dataclasses.replace(state, step=jnp.asarray(step)), loss)
    checkpoints.close()
    assert {int(p.name) for p in (tmp_path / "checkpoints").iterdir()} == {2, 6, 7}
    assert (find_step(tmp_path, "last"), find_step(tmp_path, "best")) == ((7, 7), (2, 7))


def test_a_loss_that_is_not_finite_stops_naming_the_step_and_is_not_saved(run, tmp_path, monkeypatch):
    """The profile of a row that is first drawn at step 3 is made infinite; saving is due at step 3."""
    batches = Trainer(run).batches
    profiles = [set(batches[step][1]["profile"]) for step in range(3)]
    bad = int(min(profiles[2] - profiles[0] - profiles[1]))
    tables = {b: t.replace(profile_PC=t.profile_PC.at[bad].set(jnp.nan)) for b, t in run.training.tables.items()}
    broken = dataclasses.replace(run, training=dataclasses.replace(run.training, tables=tables))
    with pytest.raises(CumaError, match=r"at step 3 the loss is nan.*last finite step 2.*learning_rate"):
        train(broken, tmp_path)
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    assert {step for step, _ in losses(tmp_path)} == {1, 2}


def test_compiles_once_a_bucket_and_gives_the_old_state_up(run, uninterrupted):
    """Fresh, stepped and restored states are laid out alike, so none of them compiles again.

    The old state's buffers become the new one's: a step needs no second copy of adapters and moments.
    """
    trainer = Trainer(run)
    checkpoints = Checkpoints(uninterrupted[0], run)
    restored = checkpoints.restore(3, trainer.abstract())
    checkpoints.close()
    with compiled() as names, jax.set_mesh(run.mesh):
        for state in (trainer.fresh(), restored):
            for number in range(2):
                old, state = state, trainer.steps.step(state, *trainer.batches[number])[0]
                assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
                assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((state, run.base)))
    assert names.count("step") == 1


@dataclasses.dataclass
class Watched:
    """What happened in a run of two buckets, in order.

    Attributes:
        folder: of the run.
        seen: bucket of every step started, in order.
        events: ("start", step), ("log", step) and ("compiled", name of a program).
        said: what the user was told.
    """

    folder: pathlib.Path
    seen: list = dataclasses.field(default_factory=list)
    events: list = dataclasses.field(default_factory=list)
    said: list = dataclasses.field(default_factory=list)

    def note(self, program):
        self.events.append(("compiled", program))

    def watch(self, trainer, patch):
        step, write = trainer.steps.train_step, MetricsLog.write

        def started(state, base, tables, batch):
            self.events.append(("start", int(jax.device_get(state.step)) + 1))
            self.seen.append(next(b for b, t in trainer.run.training.tables.items() if t is tables))
            return step(state, base, tables, batch)

        def logged(log, line):
            self.events.append(("log", line["step"]))
            write(log, line)

        patch.setattr(loop, "Trainer", lambda run: trainer)
        patch.setattr(trainer.steps, "train_step", started)
        patch.setattr(MetricsLog, "write", logged)
        patch.setattr(loop.Progress, "say", lambda _, text: self.said.append(text))


WATCHED, TRACED = 24, 2


@pytest.fixture(scope="module")
def watched(debug_config, debug_run, run_on, tmp_path_factory):
    """One run of 24 steps with two buckets and a trace, its last checkpoint taken away, then resumed at step 20."""
    shorter = sorted(len(t) for t in debug_run.training.tokens.templates)[1]
    config = changed(
        debug_config,
        data={"buckets": (shorter, 256)},
        train={"steps": WATCHED, "batch_size": 4, "eval_every": 0, "eval_batches": 0, "save_every": 20, "keep": 9},
        run={"trace_steps": TRACED},
    )
    run = run_on(config)
    trainer, first = Trainer(run), Watched(tmp_path_factory.mktemp("watched"))
    resumed, step = Watched(first.folder), trainer.steps.train_step
    for watched in (first, resumed):
        trainer.steps.train_step = step
        with pytest.MonkeyPatch.context() as patch, compiled(watched.note):
            watched.watch(trainer, patch)
            train(run, first.folder)
        if watched is first:
            shutil.rmtree(first.folder / "checkpoints" / str(WATCHED))
    return first, resumed


def test_every_bucket_compiles_once(watched):
    """Once both were seen nothing is compiled, of whatever size, and a resumed run finds the same program."""
    first, resumed = watched
    assert set(first.seen) == {0, 1}
    assert len(first.seen) == WATCHED
    assert [name for kind, name in first.events if kind == "compiled"].count("step") == 2
    both = max(first.seen.index(0), first.seen.index(1)) + 1
    later = first.events[first.events.index(("start", both + 1)) : first.events.index(("start", 20))]
    assert len(later) > 20
    assert not [name for kind, name in later if kind == "compiled"]
    assert resumed.seen == first.seen[20:]
    assert "step" not in [name for kind, name in resumed.events if kind == "compiled"]


def test_metrics_are_read_when_the_next_step_is_under_way(watched):
    """So that the device always has work. The last of a trace and of a checkpoint are read at once."""
    events, at_once = watched[0].events, {20, loop_trace.FIRST + TRACED - 1, WATCHED}
    for step in set(range(1, WATCHED + 1)) - at_once:
        assert events.index(("start", step + 1)) < events.index(("log", step)), step
        assert events.index(("log", step)) < events.index(("start", step + 2) if step + 2 <= WATCHED else events[-1])


def test_a_trace_has_the_parts_of_a_step_and_the_user_is_told_where(watched):
    first, resumed = watched
    files = list((first.folder / "trace").rglob("*.xplane.pb"))
    assert len(files) == 1
    scopes = files[0].read_bytes()
    assert [name for name in (b"attention", b"mlp", b"optimizer", b"train_step") if name not in scopes] == []
    (perfetto,) = (first.folder / "trace").rglob("perfetto_trace.json.gz")
    spans = json.loads(gzip.decompress(perfetto.read_bytes()))["traceEvents"]
    steps = {int(span["args"]["step_num"]) for span in spans if span.get("name") == "train_step"}
    assert steps == {loop_trace.FIRST, loop_trace.FIRST + 1}
    assert [text for text in first.said if f"trace of steps 10 to 11 in {first.folder / 'trace'}" in text]
    assert [text for text in resumed.said if "no trace, because fewer than 10 steps ran here" in text]


def test_an_implicit_transfer_in_the_loop_is_an_error(run, tmp_path, monkeypatch):
    """A batch that was not put on the devices: JAX would copy it, and wait, at every step."""
    monkeypatch.setattr("cuma_jax.training.step.put_batch", lambda batch, mesh: dict(batch))
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        train(run, tmp_path)


def test_resuming_on_another_mesh_keeps_the_data_order_and_the_losses(debug_config, run_on, uninterrupted, tmp_path):
    other = run_on(dataclasses.replace(settings(debug_config), mesh=MeshConfig(2, 2, 2)))
    folder = shutil.copytree(uninterrupted[0], tmp_path / "moved")
    shutil.rmtree(folder / "checkpoints" / "6")
    train(other, folder)
    expected, found = losses(uninterrupted[0]), losses(folder)
    assert found.keys() == expected.keys()
    for step in found:
        for name in found[step].keys() - {"eval", "gradient_norm", "accuracy"}:
            np.testing.assert_allclose(found[step][name], expected[step][name], atol=1e-5, err_msg=f"{step} {name}")


@pytest.mark.parametrize(("steps", "epochs", "expected"), [(7, 0.0, 7), (0, 2.0, 13), (0, 0.001, 1), (5, 9.0, 5)])
def test_steps_come_from_the_config_or_from_epochs(run, steps, epochs, expected):
    config = changed(run.config, train={"steps": steps, "epochs": epochs, "batch_size": 16})
    assert total_steps(dataclasses.replace(run, config=config), range(100)) == expected
