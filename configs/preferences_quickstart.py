"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import (
    Chain,
    DpoConfig,
    EvaluationConfig,
    GrpoConfig,
    ObjectiveConfig,
    RewardConfig,
    SamplingConfig,
    load_config,
)


def preferences_quickstart() -> Chain:
    """SFT, DPO and GRPO on real survey answers with SmolLM2-135M-Instruct, on a laptop CPU, with no judge.

    Command: python -m cuma_jax.train --config preferences_quickstart
    Hardware: 2 CPU cores, 3 GB of memory, about 200 MB of downloads the first time. Time: 7 to 10 minutes.
    Expected, respondents never seen: margin 1.8 nats after sft, 3.2 after dpo, 2.5 after grpo; see docs/preferences.md.

    People of the World Values Survey, two questions. sft: the letter that each respondent chose. dpo: that letter
    rather than another. grpo: eight answers of the model's own to each person's question, rewarded for agreeing with
    how people like them answered. docs/preferences.md says what to expect of each.
    """
    base = load_config("quickstart")
    sft = dataclasses.replace(
        base,
        name="sft",
        data=dataclasses.replace(
            base.data, questions=("wvs_immig.*", "wvs_justifbribe.*"), unseen_countries=0.0, buckets=(72, 88, 106)
        ),
        objective=ObjectiveConfig(name="sft", aggregate="respondent", balance=0.01),
        train=dataclasses.replace(base.train, steps=60, batch_size=16, eval_every=0, eval_batches=4, save_every=20),
        evaluation=EvaluationConfig(splits=("unseen_respondent",), max_profiles=60),
    )
    dpo = dataclasses.replace(
        sft,
        name="dpo",
        objective=ObjectiveConfig(name="dpo", aggregate="respondent", balance=0.01),
        dpo=DpoConfig(beta=1.0),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=1e-3),
        train=dataclasses.replace(sft.train, steps=40, batch_size=8),
    )
    grpo = dataclasses.replace(
        sft,
        name="grpo",
        objective=ObjectiveConfig(name="grpo", aggregate="respondent", balance=0.01),
        grpo=GrpoConfig(samples=8, advantage="unbiased"),
        sampling=SamplingConfig(temperature=1.0, max_new_tokens=2),
        reward=RewardConfig(survey=1.0),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=1e-3),
        train=dataclasses.replace(sft.train, steps=30, batch_size=128),
    )
    return Chain("preferences_quickstart", (sft, dpo, grpo))
