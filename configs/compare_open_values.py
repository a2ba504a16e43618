"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import Comparison, by_method, load_config, variant


def compare_open_values() -> Comparison:
    """Every method on real answers to two value questions: respondents and 19 countries that training never saw.

    Command: python -m cuma_jax.compare --config compare_open_values
    Hardware: 2 CPU cores, 3 GB of memory. Time and results: docs/results.md.
    """
    base = load_config("quickstart")
    base = dataclasses.replace(
        base,
        adapter=dataclasses.replace(base.adapter, layers=3),
        profile=dataclasses.replace(
            base.profile, components=128, values_per_component=1, derived=("region", "language")
        ),
        data=dataclasses.replace(
            base.data,
            questions=("wvs_immig.*", "wvs_justifbribe.*"),
            unseen_countries=0.2,
            split_seed=1,
            # The longer ones hold profiles in the prompt, and worked examples.
            buckets=(88, 106, 120, 140, 240, 320, 400),
        ),
        train=dataclasses.replace(base.train, steps=120, batch_size=8, eval_every=30, eval_batches=8, save_every=60),
        evaluation=dataclasses.replace(base.evaluation, max_profiles=400, bootstrap=1000),
        run=dataclasses.replace(base.run, tensorboard=False),
    )
    return Comparison(
        name="compare_open_values",
        base=base,
        variants=(
            *by_method("cuma", "lora", "mixlora", "hydralora", "cuma_profile", "lora_persona", "cuma_persona", seeds=3),
            *by_method(
                "base", "per_country", "categorical", "shuffled", "soft", "no_balance", "full", "prefix", "rslora",
                "dora", "reference", "mixlora_persona", "persona", "persona_few_shot",
            ),
            variant("cuma_360", "cuma", title="CuMA, 360 steps", train={"steps": 360, "eval_every": 90}),
            variant("lora_360", "lora", title="LoRA, 360 steps", train={"steps": 360, "eval_every": 90}),
            variant(
                "whitened_24", "cuma", title="CuMA, as before this study",
                profile={"components": 24, "values_per_component": 4, "derived": ()},
            ),
        ),
        title="Methods on open value surveys",
    )  # fmt: skip
