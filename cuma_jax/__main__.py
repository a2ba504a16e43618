"""All commands under one name: `python -m cuma_jax` lists them; once installed, so does `cuma`."""

from cuma_jax.commands.door import main
from cuma_jax.runtime.errors import run_main

if __name__ == "__main__":
    run_main(main)
