"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import Config, GrpoConfig, JudgeConfig, ObjectiveConfig, RewardConfig, SamplingConfig, load_config


def community_alignment_grpo() -> Config:
    """The policy of `community_alignment_sft` writes replies and learns from a judge who knows who is asking (GRPO).

    Command: python -m cuma_jax.train --config community_alignment_grpo --judge.url URL --judge.model NAME
    Hardware: as community_alignment_sft, and a judge: any OpenAI-compatible endpoint, by default a server on this
    machine; with --judge.key_env OPENAI_API_KEY one that needs a key. Time and expected score: not measured.

    Eight replies to each of eight prompts a step, each beside the reply that the person preferred, in both orders:
    128 requests a step (answers are kept in the cache). Starts from runs/community_alignment_sft.
    """
    base = load_config("community_alignment_sft")
    return dataclasses.replace(
        base,
        name="community_alignment_grpo",
        adapter=dataclasses.replace(base.adapter, init_from="runs/community_alignment_sft"),
        objective=ObjectiveConfig(name="grpo", aggregate="respondent", balance=0.01),
        grpo=GrpoConfig(samples=8, updates=1, kl=0.01),
        sampling=SamplingConfig(temperature=1.0, max_new_tokens=512),
        reward=RewardConfig(judge=1.0),
        judge=JudgeConfig(url="http://localhost:8000/v1", model="judge", key_env=""),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=5e-6),
        train=dataclasses.replace(base.train, steps=500, epochs=0.0, batch_size=64, eval_every=0, save_every=25),
    )
