"""GRPO as a whole: a task with a known answer, and a run that goes on."""

import shutil

import jax
import numpy as np
import pytest
from conftest import changed
from made_up import write_preferences
from processes import metrics

from cuma_jax.run.forward import Model, hidden
from cuma_jax.run.rows import rows_of
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
        train={"steps": 30, "batch_size": 48, "eval_every": 0, "eval_batches": 0, "save_every": 0, "log_every": 10},
    )


def accuracy(run_on, config, folder):
    """Of women and of men: the share whose own kind of reply is likelier than the other, and its mean probability."""
    run = run_on(config)
    adapters = train(run, folder).state.adapters
    prompts = rows_of(run, "train")
    batch = prompts.batch(np.arange(len(prompts)), 0)
    batch = {name: batch[name] for name in ("tokens", "lengths", "profile")}
    batch["positions"] = batch["lengths"][:, None] - 1

    def probabilities(base, adapters, tables, batch):
        h_B1D, _ = hidden(Model(run.decoder, base, adapters, tables), batch, None)
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


@pytest.mark.nightly
def test_groups_with_opposite_preferences_are_both_served_by_cuma(opposite, run_on, tmp_path):
    """A model that is not told who asks says the same to both: it is right about one of them (for DPO, see there)."""
    for share, probability in accuracy(run_on, opposite, tmp_path / "run").values():
        assert share >= 0.95
        assert probability > 0.6


def test_conversations_are_replied_to_and_their_people_scored(debug_config, run_on, tmp_path):
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
    run = run_on(config)
    train(run, tmp_path / "run")
    first, second, validation = metrics(tmp_path / "run")
    assert first["length"] == pytest.approx(8.0, abs=2)
    assert first["gradient_norm"] > 0
    assert 0 <= first["reward"] <= 6
    assert 0 <= validation["reward"] == -validation["loss"]
    assert sum(second[f"time_{part}"] for part in ("sampling", "rewards", "update", "rest")) == pytest.approx(1.0)


def of_learning(folder):
    """The record without what the clock decides."""
    return [
        {name: value for name, value in line.items() if not name.endswith("_per_s") and not name.startswith("time_")}
        for line in metrics(folder)
    ]


def test_gone_on_with_from_an_earlier_checkpoint_it_samples_and_learns_the_same(debug_config, run_on, tmp_path):
    """Metrics and adapters, bit for bit; the reward depends on every token that was sampled."""
    config = changed(
        debug_config,
        objective={"name": "grpo"},
        grpo={"samples": 4, "updates": 2, "kl": 0.05},
        sampling={"max_new_tokens": 4},
        reward={"function": "reward_cases:token"},
        train={"steps": 6, "batch_size": 8, "save_every": 2, "eval_every": 3, "eval_batches": 1},
    )
    run, whole = run_on(config), tmp_path / "whole"
    expected = train(run, whole).state
    broken = shutil.copytree(whole, tmp_path / "broken")
    for step in (4, 6):
        shutil.rmtree(broken / "checkpoints" / str(step))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(train(run, broken).state), jax.device_get(expected))
    lines = of_learning(whole)
    assert of_learning(broken) == lines
    assert len({line["reward"] for line in lines if "eval" not in line}) > 3
    assert {"kl", "clipped", "entropy", "length", "reward"} <= lines[0].keys()
