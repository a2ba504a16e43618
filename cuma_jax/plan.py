"""Whether a run fits a machine that is not here: `python -m cuma_jax.plan --config C --topology v5e:16x16`."""

from cuma_jax.runtime.errors import run_main

if __name__ == "__main__":
    run_main("cuma_jax.commands.plan")
