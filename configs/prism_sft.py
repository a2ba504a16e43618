"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import Config, load_config


def prism_sft() -> Config:
    """CuMA on Qwen3-8B learns to write the replies that people of PRISM scored highest (see `community_alignment_sft`).

    Command: python -m cuma_jax.train --config prism_sft
    Hardware: one GPU with 80 GB, or several with --mesh.fsdp N; a TPU slice alike. Time: not measured.
    Expected score: not measured. Next: prism_dpo, which starts from this run.
    """
    base = load_config("community_alignment_sft")
    return dataclasses.replace(base, name="prism_sft", data=dataclasses.replace(base.data, source="prism"))
