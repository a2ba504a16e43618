"""Presets are functions named as their file."""

import dataclasses

from cuma_jax.config import Config, DataConfig, EvaluationConfig, load_config


def afrobarometer() -> Config:
    """SmolLM2-135M-Instruct learns 204 questions in 20 countries; people, countries and questions are held out.

    Command: python -m cuma_jax.train --config afrobarometer --data.path YOUR/survey.yaml --run.dir runs/afrobarometer
    Hardware: 2 CPU cores, about 4 GB of memory. Time: not measured in full; see docs/afrobarometer.md.
    Expected score: not measured.

    The file is Afrobarometer round 4, which you fetch yourself; docs/afrobarometer.md says how, and has the YAML file.
    """
    base = load_config("quickstart")
    return dataclasses.replace(
        base,
        name="afrobarometer",
        # Region, language, income and life expectancy speak for countries that were never seen. Nothing else is told of
        # a person: 20 profiles, so that every question is scored in minutes.
        profile=dataclasses.replace(base.profile, fields=("country",), context="gapminder"),
        # 3 of 20 countries and 20 of 204 questions are held out; of few countries none is for validation.
        data=DataConfig(
            source="csv",
            unseen_respondents=0.1,
            validation_respondents=0.03,
            unseen_countries=0.15,
            unseen_questions=0.1,
            questions_per_batch=8,
            buckets=(72, 88, 112, 160, 256),
        ),
        # 184 questions in 17 countries are 3,128 cells: each is drawn about twice. Everybody held out is scored.
        train=dataclasses.replace(base.train, steps=800, eval_every=200, save_every=200),
        evaluation=EvaluationConfig(
            splits=("unseen_respondent", "unseen_country", "unseen_question"), max_profiles=30_000
        ),
    )
