"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import METHOD_NAMES, Comparison, by_method, load_config


def compare_debug() -> Comparison:
    """Every method on the debug preset, a few steps each: shows that all of them run, and nothing else.

    Command: python -m cuma_jax.compare --config compare_debug
    Hardware: any CPU. Time: 4 minutes on 2 idle cores.
    """
    base = load_config("debug")
    few = ("cuma", "lora")
    return Comparison(
        name="compare_debug",
        base=dataclasses.replace(
            base,
            data=dataclasses.replace(base.data, buckets=(384,)),
            train=dataclasses.replace(base.train, steps=6, batch_size=4, eval_every=0, eval_batches=1, save_every=0),
            evaluation=dataclasses.replace(base.evaluation, max_profiles=10, bootstrap=100),
            run=dataclasses.replace(base.run, tensorboard=False),
        ),
        variants=(*by_method(*few, seeds=2), *by_method(*(m for m in METHOD_NAMES if m not in few))),
        note="A few steps of a random model on an invented survey: the figures mean nothing.",
    )
