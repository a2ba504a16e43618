"""Looks after data: `python -m cuma_jax.data build | show | check | export`. See `--help`, also of each command."""

from cuma_jax.runtime.errors import run_main

if __name__ == "__main__":
    run_main("cuma_jax.commands.data.command_line")
