"""Exports a run: `python -m cuma_jax.export --run runs/x --format bundle|reference|peft --out FOLDER`."""

from cuma_jax.runtime.errors import run_main

if __name__ == "__main__":
    run_main("cuma_jax.commands.export")
