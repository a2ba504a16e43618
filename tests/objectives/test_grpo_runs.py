"""GRPO as a whole: a task with a known answer, and runs that are killed and go on."""

import dataclasses
import signal

import jax
import numpy as np
import pytest
from conftest import changed, devices_of
from made_up import write_preferences
from processes import finish, metrics, start

from cuma_jax.run.build import build_run
from cuma_jax.run.forward import hidden
from cuma_jax.run.rows import rows_of
from cuma_jax.run.saved_adapters import read_adapters
from cuma_jax.runtime.sharding import put_batch
from cuma_jax.training.loop import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def opposite(debug_config):
    """One prompt; women prefer replies that begin with an even token, men those that begin with an odd one.

    The profile is in the router only. Every linear of the tiny model is adapted, because its random weights can say
    little; replies are one token.
    """
    return changed(
        debug_config,
        data={"questions": ("invented.tea",), "buckets": (160,), "unseen_countries": 0.0, "order": "epochs"},
        evaluation={"splits": ("unseen_respondent",)},
        profile={"fields": ("sex", "age"), "values_per_component": 1},
        objective={"name": "grpo", "balance": 0.0},
        grpo={"samples": 8},
        sampling={"max_new_tokens": 1},
        reward={"function": "reward_cases:parity"},
        adapter={"targets": ("q", "k", "v", "o", "gate", "up", "down"), "layers": 0, "rank": 8},
        router={"inputs": "profile"},
        optimizer={"learning_rate": 1e-2, "schedule": "constant"},
        train={"steps": 40, "batch_size": 48, "eval_every": 0, "eval_batches": 0, "save_every": 0, "log_every": 10},
    )


def accuracy(config, folder):
    """Of women and of men: the share whose own kind of reply is likelier than the other, and its mean probability."""
    with devices_of(config.mesh):
        run = build_run(config, progress=False)
    adapters = train(run, folder).state.adapters
    prompts = rows_of(run, "train")
    batch = prompts.batch(np.arange(len(prompts)), 0)
    batch = {name: batch[name] for name in ("tokens", "lengths", "profile")}
    batch["positions"] = batch["lengths"][:, None] - 1

    def probabilities(base, adapters, tables, batch):
        h_B1D, _ = hidden(run.decoder, base, adapters, tables, batch, None)
        logits_B1V = run.decoder.apply({"params": base, "adapters": adapters}, h_B1D, method="logits")
        return jax.nn.softmax(logits_B1V[:, 0])

    with jax.set_mesh(run.mesh):
        placed = put_batch(batch, run.mesh)
        probs_BV = np.asarray(jax.jit(probabilities)(run.base, adapters, run.training.tables[0], placed))
    even_B = probs_BV[:, ::2].sum(1)
    woman_B = np.array([run.profiles.values(int(p))["sex"] == "female" for p in batch["profile"]])
    assert woman_B.sum() == 3
    assert len(woman_B) == 6
    own_B = np.where(woman_B, even_B, 1 - even_B)
    return {name: (np.mean(own_B[who] > 0.5), np.mean(own_B[who])) for name, who in
            (("women", woman_B), ("men", ~woman_B))}  # fmt: skip


def test_groups_with_opposite_preferences_are_both_served_by_cuma(opposite, tmp_path):
    found = accuracy(opposite, tmp_path / "run")
    for share, probability in found.values():
        assert share >= 0.95
        assert probability > 0.6


def test_plain_lora_cannot_serve_both(opposite, tmp_path):
    adapter = dataclasses.replace(opposite.adapter, experts=1)
    router = dataclasses.replace(opposite.router, inputs="none", top_k=1)
    found = accuracy(dataclasses.replace(opposite, adapter=adapter, router=router), tmp_path / "run")
    assert np.mean([share for share, _ in found.values()]) <= 0.6


def test_conversations_are_replied_to_and_their_people_scored(debug_config, tmp_path):
    """Long replies, one a row; several updates; validation by the reward of replies to held-out prompts."""
    path = write_preferences(tmp_path)["prism"]
    config = changed(
        debug_config,
        data={"source": "prism", "path": path, "buckets": (384,), "unseen_countries": 0.0,
              "unseen_respondents": 0.2, "validation_respondents": 0.2},
        evaluation={"splits": ("unseen_annotator",)},
        objective={"name": "grpo"},
        grpo={"samples": 4, "updates": 2, "clip_high": 0.3},
        sampling={"max_new_tokens": 8},
        reward={"function": "reward_cases:token"},
        train={"steps": 2, "batch_size": 8, "micro_batches": 2, "eval_every": 2, "eval_batches": 1, "log_every": 1},
    )  # fmt: skip
    with devices_of(config.mesh):
        run = build_run(config, progress=False)
    train(run, tmp_path / "run")
    first, second, validation = metrics(tmp_path / "run")
    assert first["length"] == pytest.approx(8.0, abs=2)
    assert first["gradient_norm"] > 0
    assert 0 <= first["reward"] <= 6
    assert 0 <= validation["reward"] == -validation["loss"]
    assert sum(second[f"time_{part}"] for part in ("sampling", "rewards", "update", "rest")) == pytest.approx(1.0)


GRPO = ["--objective.name", "grpo", "--grpo.samples", "4", "--grpo.updates", "2", "--grpo.kl", "0.05",
        "--sampling.max_new_tokens", "4", "--reward.function", "reward_cases:token", "--train.batch_size", "8",
        "--train.steps", "6", "--train.save_every", "2", "--train.eval_every", "3", "--train.eval_batches", "1",
        "--evaluation.no-after_training"]  # fmt: skip


def of_learning(folder):
    """The record without what the clock decides."""
    return [
        {name: value for name, value in line.items() if not name.endswith("_per_s") and not name.startswith("time_")}
        for line in metrics(folder)
    ]


def test_killed_in_the_middle_and_run_again_it_samples_and_learns_the_same(tmp_path):
    """Metrics and adapters, bit for bit; the reward depends on every token that was sampled."""
    cache, whole, broken = str(tmp_path / "cache"), tmp_path / "whole", tmp_path / "broken"
    finish(start(whole, cache, *GRPO))
    # It dies while a later step's replies are being rewarded: in step 3, 4 or 5, for step 4 waits for the checkpoint.
    first = start(broken, cache, *GRPO, KILLED_AFTER=str(broken / "checkpoints" / "2"))
    first.communicate(timeout=300)
    assert first.returncode == -signal.SIGKILL
    assert all(line["step"] < 6 for line in metrics(broken))
    out = finish(start(broken, cache, *GRPO))
    assert "at step 2" in out or "at step 4" in out
    lines = of_learning(whole)
    assert of_learning(broken) == lines
    assert len({line["reward"] for line in lines if "eval" not in line}) > 3
    assert {"kl", "clipped", "entropy", "length", "reward"} <= lines[0].keys()
    one, other = read_adapters(whole, 6), read_adapters(broken, 6)
    assert one.step == other.step == 6
    jax.tree.map(np.testing.assert_array_equal, one.adapters, other.adapters)
