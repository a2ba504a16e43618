"""Presets are functions named as their file."""

from cuma_jax.config import AdapterConfig, Config, DataConfig, EvaluationConfig, ModelConfig, ProfileConfig, TrainConfig


def debug() -> Config:
    """A tiny random decoder and an invented survey: every room of the house in under a minute, learning nothing real.

    Command: python -m cuma_jax.train --config configs/debug.py
    Hardware: any CPU. Time: under 60 s. Expected: the loss falls; figures mean nothing beyond that.
    """
    return Config(
        name="debug",
        model=ModelConfig(source="random:tiny", dtype="float32"),
        adapter=AdapterConfig(layers=2, rank=4),
        profile=ProfileConfig(encoder="backbone", components=8, values_per_component=4),
        # Its own rows take 192 tokens; the longer ones are for whoever tries a survey of his own with it.
        data=DataConfig(
            source="invented",
            unseen_respondents=0.2,
            unseen_countries=0.15,
            buckets=(128, 192, 256, 384, 512, 768, 1024),
        ),
        train=TrainConfig(steps=40, batch_size=16, log_every=1, eval_every=20, save_every=20),
        evaluation=EvaluationConfig(min_cell=5, bootstrap=200, batch_size=32),
    )
