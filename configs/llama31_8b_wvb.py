"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import Config, load_config


def llama31_8b_wvb() -> Config:
    """CuMA with rank 64 on Llama-3.1-8B-Instruct and WorldValuesBench.

    Command: python -m cuma_jax.train --config llama31_8b_wvb --data.wvb YOUR_WORLDVALUESBENCH_CHECKOUT
    Hardware: one GPU with 80 GB, or several with --mesh.fsdp N; a TPU slice alike. Time: not measured.
    Expected score: not measured.

    As the paper's script for this base: experts on q and k, rank 64, alpha 128, learning rate 5e-6; the rest is
    `qwen3_8b_wvb`. The base is gated: accept its licence on the hub and set HF_TOKEN, or give a folder with
    --model.source.
    """
    base = load_config("qwen3_8b_wvb")
    return dataclasses.replace(
        base,
        name="llama31_8b_wvb",
        model=dataclasses.replace(base.model, source="meta-llama/Llama-3.1-8B-Instruct"),
        adapter=dataclasses.replace(base.adapter, rank=64, alpha=128.0, targets=("q", "k")),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=5e-6),
    )
