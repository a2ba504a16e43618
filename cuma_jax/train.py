"""Trains adapters and scores them: `python -m cuma_jax.train`. See `--help-all` for every setting."""

from cuma_jax.runtime.errors import run_main

if __name__ == "__main__":
    run_main("cuma_jax.commands.train")
