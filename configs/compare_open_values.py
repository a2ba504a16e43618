"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.cli import load_config
from cuma_jax.config_compare import Comparison, by_method


def compare_open_values() -> Comparison:
    """Every method on real value surveys, with SmolLM2-135M-Instruct: respondents and countries never seen.

    Command: python -m cuma_jax.compare --config compare_open_values
    Hardware: 2 CPU cores, 3 GB of memory. Time: not measured.
    """
    base = load_config("quickstart")
    base = dataclasses.replace(
        base,
        data=dataclasses.replace(
            base.data,
            questions=("wvs_immig.*", "wvs_justifbribe.*", "WVS.*"),
            unseen_countries=0.2,
            split_seed=1,
        ),
        train=dataclasses.replace(base.train, steps=160, batch_size=8, eval_every=0),
        run=dataclasses.replace(base.run, tensorboard=False),
    )
    return Comparison(
        name="compare_open_values",
        base=base,
        variants=(
            *by_method("lora", "lora_persona", "mixlora", "hydralora", "cuma", "cuma_profile", seeds=3),
            *by_method(
                "base", "persona", "persona_few_shot", "full", "prefix", "rslora", "dora", "mixlora_persona",
                "cuma_persona", "shuffled", "soft", "no_balance", "categorical", "per_country", "reference",
            ),
        ),
        title="Methods on open value surveys",
    )  # fmt: skip
