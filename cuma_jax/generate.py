"""Replies of a trained run to prompts, for the people who ask: `python -m cuma_jax.generate --run runs/quickstart`."""

from cuma_jax.runtime.errors import run_main

if __name__ == "__main__":
    run_main("cuma_jax.commands.generate")
