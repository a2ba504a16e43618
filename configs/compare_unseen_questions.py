"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import Comparison, by_method
from cuma_jax.config.presets import load_preset


def compare_unseen_questions() -> Comparison:
    """Eight questions that training never saw, of 25 on abortion and public spending, by the party people lean to.

    Command: python -m cuma_jax.compare --config compare_unseen_questions
    Hardware: 2 CPU cores, 3 GB of memory. Time and results: docs/results.md.
    """
    base = load_preset("compare_open_values").base
    base = dataclasses.replace(
        base,
        profile=dataclasses.replace(base.profile, fields=("party", "schooling"), derived=()),
        data=dataclasses.replace(
            base.data,
            questions=("gss_abortion.*", "gss_spending.*"),
            unseen_countries=0.0,
            unseen_questions=0.3,
            split_seed=0,
        ),
        evaluation=dataclasses.replace(
            base.evaluation, splits=("unseen_respondent", "unseen_question"), group_by=("party",)
        ),
    )
    return Comparison(
        name="compare_unseen_questions",
        base=base,
        variants=(
            *by_method("cuma", "lora", seeds=3),
            *by_method("base", "mixlora", "cuma_profile", "lora_persona"),
        ),
        title="Questions never seen",
    )
