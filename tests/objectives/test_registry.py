"""An objective is one class, its rules and its test: a small one is added here that way, and trained."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import changed, devices_of
from processes import metrics

from cuma_jax.config import Config, ObjectiveConfig
from cuma_jax.config.objective_rules import RULES, ObjectiveRules
from cuma_jax.losses.balance import router_sums
from cuma_jax.losses.choice import option_log_probs, option_mask
from cuma_jax.losses.sums import BatchSums, Sum
from cuma_jax.objectives.choice import Choice
from cuma_jax.run.forward import apply, hidden
from cuma_jax.run.objective import objective_of, register
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.splits import SPLITS
from cuma_jax.training.loop import Trainer, train
from cuma_jax.training.step import SupervisedSteps


class Brier(Choice):
    """Squared distance between the model's distribution over the options and people's (Brier, 1950)."""

    name = "brier"

    def sums(self, config, model, batch, key):
        h_BSD, stats = hidden(model, batch, key)
        logits_BO = apply(model.decoder, "option_logits", model.variables, h_BSD[:, 0], batch["option_ids"])
        mask_BO = option_mask(batch["options"], logits_BO.shape[1])
        probs_BO = jnp.where(mask_BO, jnp.exp(option_log_probs(logits_BO, batch["options"])), 0.0)
        loss_B = jnp.sum((probs_BO - batch["target"]) ** 2, axis=1)
        count = jnp.sum(batch["weight"])
        loss = {"loss": Sum(jnp.sum(loss_B * batch["weight"]), count)}
        return BatchSums(loss, router_sums(stats), jnp.sum(batch["lengths"]))


def test_every_objective_of_the_rules_has_a_class_of_its_name():
    assert {name: objective_of(Config(objective=ObjectiveConfig(name, aggregate="respondent"), **more)).name
            for name, more in settings().items()} == {name: name for name in RULES}  # fmt: skip


def settings():
    """What each objective needs of a config at least."""
    reward = changed(Config(), reward={"survey": 1.0}).reward
    return {name: {"reward": reward} if name == "grpo" else {} for name in RULES}


def test_an_unknown_objective_is_one_message_with_those_there_are():
    with pytest.raises(
        CumaError, match=re.escape("objective.name is 'brier'; it must be one of choice, sft, dpo, grpo")
    ):
        Config(objective=ObjectiveConfig("brier"))


@pytest.mark.slow
def test_an_objective_of_ones_own_is_trained(debug_config, run_on, tmp_path, monkeypatch):
    monkeypatch.setitem(RULES, "brier", ObjectiveRules(aggregates=True, choices=True, conversations=False))
    register(Brier())
    # Validated on the rows that it learns: whether it learns is the question, not what of.
    config = changed(debug_config, objective={"name": "brier"}, train={"steps": 16, "eval_every": 0, "batch_size": 8})
    run = run_on(config)
    run = dataclasses.replace(run, split_N=np.where(run.mask("validation"), SPLITS.index("train"), run.split_N))
    learnt = dataclasses.replace(run, split_N=np.where(run.mask("train"), SPLITS.index("validation"), run.split_N))
    with devices_of(config.mesh):
        trained = train(run, tmp_path / "run")
    validate = SupervisedSteps(learnt, Trainer(run).rule).validate
    with jax.set_mesh(run.mesh):
        before, after = (validate(adapters)["loss"] for adapters in (run.fresh_adapters(0), trained.state.adapters))
    assert 0 < after < before < 2
    assert metrics(tmp_path / "run")[-1]["step"] == 16
