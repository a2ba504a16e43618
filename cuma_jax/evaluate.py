"""Scores a trained run again: `python -m cuma_jax.evaluate --run runs/quickstart`."""
