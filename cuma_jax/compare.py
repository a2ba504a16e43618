"""Runs variants with several seeds and compares them: `python -m cuma_jax.compare --config compare_debug`."""

from cuma_jax.runtime.errors import run_main

if __name__ == "__main__":
    run_main("cuma_jax.commands.compare")
