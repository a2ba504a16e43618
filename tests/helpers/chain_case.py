"""A chain that a user could write, for tests: `--config tests/chain_case.py`."""

import dataclasses

from cuma_jax.config import Chain, GrpoConfig, ObjectiveConfig, RewardConfig, SamplingConfig, load_config


def chain_case() -> Chain:
    """DPO, then GRPO held to it, on the invented survey."""
    base = load_config("debug")
    base = dataclasses.replace(base, evaluation=dataclasses.replace(base.evaluation, after_training=False))
    dpo = dataclasses.replace(base, name="dpo", objective=ObjectiveConfig("dpo", aggregate="respondent"))
    grpo = dataclasses.replace(
        base,
        name="grpo",
        objective=ObjectiveConfig("grpo", aggregate="respondent"),
        grpo=GrpoConfig(samples=4, updates=2, kl=0.05),
        sampling=SamplingConfig(max_new_tokens=2),
        reward=RewardConfig(survey=1.0),
    )
    return Chain("chain_case", (dpo, grpo))
