"""Presets are functions named as their file."""

import dataclasses
from typing import Any

from cuma_jax.config import Comparison, Variant, load_config, variant


def _changed(name: str, title: str, **overrides: Any) -> Variant:
    return variant(name, "cuma", title=title, **overrides)


def compare_learning() -> Comparison:
    """What CuMA's learning depends on, one change at a time: one question, 80 countries, 16 of them never seen.

    Command: python -m cuma_jax.compare --config compare_learning
    Hardware: 2 CPU cores, 3 GB of memory. Time: about a minute and a half a variant. Results: docs/learning.md.
    """
    base = load_config("quickstart")
    base = dataclasses.replace(
        base,
        adapter=dataclasses.replace(base.adapter, layers=3, alpha=16.0),
        profile=dataclasses.replace(base.profile, components=24, values_per_component=4, derived=()),
        data=dataclasses.replace(
            base.data, questions=("wvs_immig.*",), unseen_countries=0.2, split_seed=1, buckets=(88,)
        ),
        train=dataclasses.replace(base.train, steps=100, batch_size=8, eval_every=20, eval_batches=8, save_every=0),
        evaluation=dataclasses.replace(base.evaluation, bootstrap=400),
        run=dataclasses.replace(base.run, tensorboard=False),
    )
    both = {"derived": ("region", "language")}
    whole = {"granularity": "profile"}
    return Comparison(
        name="compare_learning",
        base=base,
        variants=(
            variant("cuma", title="as it was: fields, whitened, 24 components", seeds=3),
            # Transfer to countries never seen.
            _changed("region", "+ UN subregion", profile={"derived": ("region",)}),
            _changed("region_language", "+ subregion, language", profile=both),
            _changed("field_dropout", "+ both, fields dropped 0.3", profile=both | {"field_dropout": 0.3}, ),
            _changed("categorical_dropout", "categorical, + both, fields dropped 0.3",
                     profile=both | {"field_dropout": 0.3, "granularity": "categorical"}),
            _changed("categorical", "categorical", profile={"granularity": "categorical"}),
            _changed("categorical_both", "categorical, + both", profile=both | {"granularity": "categorical"}),
            _changed("categorical_dropout_05", "categorical, + both, fields dropped 0.5",
                     profile=both | {"field_dropout": 0.5, "granularity": "categorical"}),
            _changed("categorical_dropout_01", "categorical, + both, fields dropped 0.1",
                     profile=both | {"field_dropout": 0.1, "granularity": "categorical"}),
            _changed("all_components_both", "all components, + both",
                     profile=both | {"components": 128, "values_per_component": 1}),
            _changed("whole_standardised_both", "whole profile, standardised, + both",
                     profile=whole | both | {"normalise": "standardise"}),
            _changed("all_components", "all components", profile={"components": 128, "values_per_component": 1}),
            _changed("all_components_dropout", "all components, + both, fields dropped 0.3",
                     profile=both | {"components": 128, "values_per_component": 1, "field_dropout": 0.3}),
            _changed("components_8", "8 components", profile={"components": 8}),
            _changed("components_4", "4 components", profile={"components": 4}),
            _changed("dropout", "profile dropout 0.3", profile={"dropout": 0.3}),
            # The profile's vector.
            _changed("whole_whitened", "whole profile, whitened", profile=whole),
            _changed("whole_standardised", "whole profile, standardised", profile=whole | {"normalise": "standardise"}),
            _changed("whole_raw", "whole profile, as encoded", profile=whole | {"normalise": "none"}),
            _changed("whole_raw_scaled", "as encoded, first layer x 20",
                     profile=whole | {"normalise": "none"}, router={"profile_scale": 20.0}),
            _changed("backbone", "encoder: the backbone", profile={"encoder": "backbone"}),
            # Adapters.
            _changed("alpha_64", "alpha 64", adapter={"alpha": 64.0}),
            _changed("layers_6", "last 6 layers", adapter={"layers": 6}),
            _changed("layers_1", "last layer", adapter={"layers": 1}),
            _changed("targets_o_down", "experts on o and down", adapter={"targets": ("o", "down")}),
            _changed("rank_2", "rank 2", adapter={"rank": 2, "alpha": 4.0}),
            # Router.
            _changed("router_rate_3", "router learns 3 x as fast", optimizer={"router_rate": 3.0}),
            _changed("router_rate_03", "router learns 0.3 x as fast", optimizer={"router_rate": 0.3}),
            _changed("temperature_2", "gate temperature 2", router={"temperature": 2.0}),
            _changed("soft", "soft gate", router={"gate": "soft"}, objective={"balance": 0.0}),
            _changed("balance_0", "no balance", objective={"balance": 0.0}),
            _changed("balance_01", "balance 0.1", objective={"balance": 0.1}),
            _changed("profile_only", "router sees the profile only", router={"inputs": "profile"}),
            # Optimisation.
            _changed("rate_1e3", "learning rate 1e-3", optimizer={"learning_rate": 1e-3}),
            _changed("rate_1e2", "learning rate 1e-2", optimizer={"learning_rate": 1e-2}),
            _changed("batch_16", "16 rows, half the steps", train={"batch_size": 16, "steps": 50, "eval_every": 10}),
            _changed("steps_300", "300 steps", train={"steps": 300, "eval_every": 60}),
        ),
        title="What the learning of CuMA depends on",
    )  # fmt: skip
