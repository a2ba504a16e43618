"""Analyses a trained run of a survey: `python -m cuma_jax.analyze --run runs/quickstart`."""

from cuma_jax.runtime.errors import run_main

if __name__ == "__main__":
    run_main("cuma_jax.commands.analyze")
