"""Which checkpoint is scored, and what is said of it."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import changed

from cuma_jax.commands import evaluate
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

    evaluate.check_checkpoint(asking("best"))
    evaluate.check_checkpoint(asking("last", eval_batches=0))
    with pytest.raises(CumaError, match=r"evaluation.checkpoint is best.*validation_respondents"):
        evaluate.check_checkpoint(asking("best", eval_batches=0))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "which run"),
        (["--run", "x", "--checkpoint", "newest"], "'newest'; it must be one of last, best"),
        (["--run", "x"], "is x the folder of a run"),
    ],
)
def test_bad_options_are_one_message(monkeypatch, args, message):
    monkeypatch.setattr(sys, "argv", ["evaluate", *args])
    with pytest.raises(CumaError, match=message):
        evaluate.main()


def test_the_folder_of_a_chain_names_its_stages(monkeypatch, tmp_path):
    for stage in ("sft", "dpo"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "config.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["evaluate", "--run", str(tmp_path)])
    with pytest.raises(CumaError, match=f"Runs in it: {tmp_path}/dpo, {tmp_path}/sft$"):
        evaluate.main()
