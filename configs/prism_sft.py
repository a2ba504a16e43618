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
    TrainConfig,
)


def prism_sft() -> Config:
    """CuMA on Qwen3-8B learns to write the replies that people of PRISM preferred.

    Command: python -m cuma_jax.train --config prism_sft
    Hardware: one GPU with 80 GB, or several with --mesh.fsdp N; a TPU slice alike. Time: not measured.
    Expected score: not measured. Next: prism_dpo, which starts from this run.

    As the official scripts: experts on q and v of every layer, E=8, K=2, rank 8, alpha 16, AdamW at 2e-5 with decay
    0.01, batches of 16, one pass, 2,048 tokens, the profile in the system message too.

    Not as they: every turn is supervised, annotators and opening prompts are held out whole (theirs are split by row),
    no sample of 10,000, and the profile vectors are whitened.
    """
    return Config(
        name="prism_sft",
        model=ModelConfig(source="Qwen/Qwen3-8B", remat="dots"),
        adapter=AdapterConfig(experts=8, rank=8, alpha=16.0, targets=("q", "v")),
        profile=ProfileConfig(
            encoder="Qwen/Qwen3-Embedding-0.6B",
            granularity="profile",
            pooling="last",
            normalise="whiten",
            components=64,
            in_prompt=True,
        ),
        data=DataConfig(
            source="prism",
            order="epochs",
            unseen_respondents=0.1,
            unseen_questions=0.1,
            unseen_countries=0.0,
            buckets=(256, 512, 1024, 2048),
            max_length=2048,
            too_long="skip",
        ),
        objective=ObjectiveConfig(name="sft", aggregate="respondent", balance=0.01),
        optimizer=OptimizerConfig(learning_rate=2e-5, schedule="cosine", warmup=0.03, weight_decay=0.01, clip=1.0),
        train=TrainConfig(steps=0, epochs=1.0, batch_size=16, log_every=10, eval_every=500, save_every=500),
        evaluation=EvaluationConfig(splits=("unseen_annotator", "unseen_prompt"), batch_size=16),
    )
