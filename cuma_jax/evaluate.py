"""Scores a trained run again: `python -m cuma_jax.evaluate --run runs/quickstart`, and compares it with another."""

from cuma_jax.runtime.errors import run_main

if __name__ == "__main__":
    run_main("cuma_jax.commands.evaluate")
