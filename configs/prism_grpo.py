"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import Config, load_config


def prism_grpo() -> Config:
    """The policy of `prism_sft` writes replies and learns from a judge: `community_alignment_grpo` there.

    Command: python -m cuma_jax.train --config prism_grpo --judge.url URL --judge.model NAME
    Hardware: as community_alignment_grpo. Time and expected score: not measured.
    """
    base = load_config("community_alignment_grpo")
    return dataclasses.replace(
        base,
        name="prism_grpo",
        data=dataclasses.replace(base.data, source="prism"),
        adapter=dataclasses.replace(base.adapter, init_from="runs/prism_sft"),
    )
