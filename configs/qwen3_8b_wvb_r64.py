"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import Config, load_config


def qwen3_8b_wvb_r64() -> Config:
    """CuMA with rank 64 on Qwen3-8B and WorldValuesBench: `qwen3_8b_wvb` with the paper's larger adapters.

    Command: python -m cuma_jax.train --config qwen3_8b_wvb_r64 --data.wvb YOUR_WORLDVALUESBENCH_CHECKOUT
    Hardware: one GPU with 80 GB, or several with --mesh.fsdp N; a TPU slice alike. Time: not measured.
    Expected score: not measured.

    Rank 64, alpha 128 and learning rate 5e-6; the rest is `qwen3_8b_wvb`.
    """
    base = load_config("qwen3_8b_wvb")
    return dataclasses.replace(
        base,
        name="qwen3_8b_wvb_r64",
        adapter=dataclasses.replace(base.adapter, rank=64, alpha=128.0),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=5e-6),
    )
