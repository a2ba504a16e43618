"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import Config, load_config


def prism_dpo() -> Config:
    """The policy of `prism_sft` learns which of two replies each person scored higher: `community_alignment_dpo` there.

    Command: python -m cuma_jax.train --config prism_dpo
    Hardware: as community_alignment_dpo. Time and expected score: not measured.

    Pairs whose scores differ by less than one are left out: ties were broken at random (--dpo.min_margin).
    """
    base = load_config("community_alignment_dpo")
    return dataclasses.replace(
        base,
        name="prism_dpo",
        data=dataclasses.replace(base.data, source="prism"),
        adapter=dataclasses.replace(base.adapter, init_from="runs/prism_sft"),
    )
