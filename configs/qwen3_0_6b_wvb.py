"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import Config, load_config


def qwen3_0_6b_wvb() -> Config:
    """CuMA with rank 8 on Qwen3-0.6B and WorldValuesBench: `qwen3_8b_wvb` on a base for one small GPU.

    Command: python -m cuma_jax.train --config qwen3_0_6b_wvb --data.wvb YOUR_WORLDVALUESBENCH_CHECKOUT
    Hardware: one GPU with 16 GB or more. Time: not measured.
    Expected score: not measured.
    """
    base = load_config("qwen3_8b_wvb")
    return dataclasses.replace(
        base, name="qwen3_0_6b_wvb", model=dataclasses.replace(base.model, source="Qwen/Qwen3-0.6B", remat="none")
    )
