"""How groups of people would answer: `python -m cuma_jax.predict --run runs/quickstart --where country=Japan`."""

from cuma_jax.commands.predict import main
from cuma_jax.runtime.errors import run_main

if __name__ == "__main__":
    run_main(main)
