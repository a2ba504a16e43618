"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import Config, DpoConfig, ObjectiveConfig, load_config


def community_alignment_dpo() -> Config:
    """The policy of `community_alignment_sft` learns which of two replies each person preferred (DPO).

    Command: python -m cuma_jax.train --config community_alignment_dpo
    Hardware: as community_alignment_sft, about twice the memory a row (both replies of a pair are in one step).
    Time: not measured. Expected score: not measured.

    Starts from runs/community_alignment_sft, which is the reference too (the official code takes the base). Beta 0.1
    and 5e-6 as there; 16 pairs a step, one pass.
    """
    base = load_config("community_alignment_sft")
    return dataclasses.replace(
        base,
        name="community_alignment_dpo",
        adapter=dataclasses.replace(base.adapter, init_from="runs/community_alignment_sft"),
        objective=ObjectiveConfig(name="dpo", aggregate="respondent", balance=0.01),
        dpo=DpoConfig(beta=0.1),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=5e-6),
    )
