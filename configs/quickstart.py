"""Presets are functions named as their file."""

from cuma_jax.config import Config


def quickstart() -> Config:
    """SmolLM2-135M-Instruct on real survey answers, on a laptop CPU.

    Command: python -m cuma_jax.train
    """
    return Config(name="quickstart")
