"""Which checkpoint is scored, what is said of it, and what a line about a run may change."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import changed
from jax.sharding import AbstractMesh

from cuma_jax.commands import evaluate, generate, score_run
from cuma_jax.commands.command_line import EvaluationSections, parse_saved_run
from cuma_jax.config import Config, load_config
from cuma_jax.config.machines import apply_machine
from cuma_jax.models.families import SHAPES
from cuma_jax.run.decoders import check_mesh
from cuma_jax.run.folder import write_config
from cuma_jax.run.trained import CheckpointInfo, load_adapters
from cuma_jax.runtime.errors import CumaError
from cuma_jax.training.checkpoints import Checkpoints
from cuma_jax.training.loop import Trainer


@pytest.mark.slow
def test_the_newest_or_the_best_checkpoint_is_restored_and_named(debug_run, tmp_path):
    run = debug_run
    with pytest.raises(CumaError, match="has no checkpoint yet"):
        load_adapters(run, tmp_path, "last")
    trainer, checkpoints = Trainer(run), Checkpoints(tmp_path, run)
    fresh = trainer.fresh()

    def save(step, loss):
        adapters = jax.tree.map(lambda x: jnp.full_like(x, step), fresh.adapters)
        checkpoints.save(fresh.replace(step=jnp.int32(step), adapters=adapters), loss)

    save(5, None)
    checkpoints._manager.wait_until_finished()
    with pytest.raises(CumaError, match=r"no validated checkpoint.*--checkpoint last"):
        load_adapters(run, tmp_path, "best")
    save(10, 1.0)
    save(20, 2.0)
    save(30, None)
    checkpoints.close()
    for which, step in (("last", 30), ("best", 10)):
        adapters, scored = load_adapters(run, tmp_path, which)
        assert scored == CheckpointInfo(which, step, 30, 40)
        assert all(np.all(np.asarray(leaf) == step) for leaf in jax.tree.leaves(adapters))


def test_about_says_what_was_scored_and_whether_training_had_ended():
    best = CheckpointInfo("best", 10, 40, 40).about()
    assert best == {"checkpoint": "best, step 10 of 40", "step": 10, "steps": 40, "unfinished": False}
    assert CheckpointInfo("last", 30, 30, 40).about()["unfinished"]


def test_best_without_anything_to_validate_on_is_refused_before_training(debug_run):
    def asking(which, **train):
        config = changed(debug_run.config, evaluation={"checkpoint": which}, train=train)
        return dataclasses.replace(debug_run, config=config)

    score_run.check_checkpoint(asking("best"))
    score_run.check_checkpoint(asking("last", eval_batches=0))
    with pytest.raises(CumaError, match=r"evaluation.checkpoint is best.*validation_respondents"):
        score_run.check_checkpoint(asking("best", eval_batches=0))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "--run is required: the folder of a run"),
        (["--run", "x"], "is x the folder of a run"),
        (["--run", "chain"], "Runs in it: chain/dpo, chain/sft$"),
    ],
)
def test_a_run_is_required_and_the_folder_of_a_chain_names_its_stages(monkeypatch, tmp_path, args, message):
    for stage in ("sft", "dpo"):
        (tmp_path / "chain" / stage).mkdir(parents=True)
        (tmp_path / "chain" / stage / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate", *args])
    with pytest.raises(CumaError, match=message):
        evaluate.main()


@pytest.mark.parametrize(
    "args",
    [("--checkpoint", "newest"), ("--against", "base"), ("--judge.url", "u"), ("--preferences", "--pairs", "many")],
)
def test_an_option_that_does_not_belong_there_is_named(monkeypatch, tmp_path, refused, args):
    write_config(tmp_path, Config())
    monkeypatch.setattr(sys, "argv", ["evaluate", "--run", str(tmp_path), *args])
    assert args[-2] in refused(evaluate.main)


def test_a_machine_sets_the_mesh_and_a_batch_that_divides_and_flags_come_after_it(tmp_path):
    """Training's batch of 16 is not divisible by 256 chips: what is only used may stand there all the same."""
    saved = load_config("qwen3_8b_wvb")
    write_config(tmp_path, saved)
    argv = ["--run", str(tmp_path), "--machine", "v5e-256", "--mesh.tensor", "2"]
    _, folder, config = parse_saved_run("evaluate", "", argv, evaluate.UsedRun, EvaluationSections)
    machine = apply_machine(saved, "v5e-256")
    assert (folder, config.train) == (tmp_path, saved.train)
    assert config.mesh == dataclasses.replace(machine.mesh, tensor=2)
    assert config.evaluation == machine.evaluation
    asked = ["--prompt", "x", *argv[:4]]
    written = parse_saved_run("generate", "", asked, generate.Options, generate.Sections)[2]
    assert (written.mesh, written.evaluation) == (machine.mesh, machine.evaluation)
    shape = SHAPES["qwen3-8b"]
    mesh = AbstractMesh((machine.mesh.data, machine.mesh.fsdp, 1), ("data", "fsdp", "tensor"))
    check_mesh(written, mesh, shape, trains=False)
    with pytest.raises(CumaError, match=r"train\.batch_size"):
        check_mesh(written, mesh, shape)
