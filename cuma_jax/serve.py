"""A trained run over HTTP, and its page: `python -m cuma_jax.serve --run runs/quickstart`."""

from cuma_jax.commands.serve import main
from cuma_jax.runtime.errors import run_main

if __name__ == "__main__":
    run_main(main)
