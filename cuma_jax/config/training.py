"""Sections of a config about training and scoring: objective, optimiser, loop, evaluation, devices, folder."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What training minimises."""

    name: str = "choice"
    """choice: cross-entropy over the option letters; sft: cross-entropy over the answer's tokens; dpo: pairs of a
    preferred and another reply (section `dpo`); grpo: replies of its own, weighed by rewards (section `grpo`)."""
    aggregate: Literal["cell", "respondent"] = "cell"
    """cell: the answers of all respondents with one profile, as a distribution; respondent: one answer a row."""
    loss: Literal["cross_entropy", "emd"] = "cross_entropy"
    """choice only; emd is the squared difference of cumulative distributions on ordered options."""
    balance: float = 0.01
    """Coefficient of the load-balancing loss."""
    balance_form: Literal["switch", "reference"] = "switch"
    """switch: mean gate probability before top-K, mean over routers; reference: after top-K, summed."""
    z_loss: float = 0.0
    """Coefficient of the router z-loss."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW."""

    learning_rate: float = 3e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """After warm-up: cosine or linear to zero at the last step, or constant."""
    warmup: float = 0.03
    """Warm-up as a share of all steps."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    clip: float = 1.0
    """Clip the adapters' global gradient norm; 0 switches it off."""
    router_rate: float = 1.0
    """Learning rate of routers and profile projection, as a multiple of `learning_rate`."""
    b1: float = 0.9
    """Adam's first-moment decay."""
    b2: float = 0.999
    """Adam's second-moment decay."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop."""

    steps: int = 300
    """Optimiser steps; 0: as many as `epochs` need."""
    epochs: float = 0.0
    """Passes over the training rows; used when steps is 0."""
    batch_size: int = 16
    """Rows a step, over all devices and micro-batches."""
    micro_batches: int = 1
    """Gradient accumulation: the batch is run in this many parts."""
    seed: int = 0
    """Seed of initialisation, data order and dropout."""
    log_every: int = 5
    """Steps between logged metrics."""
    eval_every: int = 100
    """Steps between validations; 0: only at the end."""
    eval_batches: int = 8
    """Batches of each validation."""
    save_every: int = 50
    """Steps between checkpoints; 0: only at the end."""
    keep: int = 2
    """Newest checkpoints kept, beside the best."""
    interference_every: int = 0
    """Steps between measurements of how the gradients of groups of people agree (`python -m cuma_jax.analyze` shows
    them); 0: never."""
    question_cache: Literal["auto", "off"] = "auto"
    """auto: run the layers below the first adapted one once per question (with the profile in the prompt: once per
    question and profile, where these are fewer than the rows of training)."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is scored, and how."""

    splits: tuple[str, ...] = ("unseen_respondent", "unseen_country")
    """Splits to score; any of train, validation, test, probe, unseen_respondent, unseen_country, unseen_question,
    unseen_annotator, unseen_prompt, unseen_conversation. Those the data do not have are an error."""
    group_by: tuple[str, ...] = ("country",)
    """Profile fields whose values make the groups of a (group, question) cell."""
    max_profiles: int = 400
    """Most distinct profiles predicted per question and split; more are sampled (by hash) and reported."""
    min_cell: int = 20
    """Smallest number of answers in a reported cell."""
    bootstrap: int = 1000
    """Bootstrap resamples of respondents."""
    option_orders: int = 1
    """Orders of the options that predictions are averaged over: 1: as listed; 2: also reversed; more: random ones."""
    checkpoint: Literal["last", "best"] = "last"
    """Which checkpoint is scored: the newest, or the one with the lowest validation loss."""
    batch_size: int = 64
    """Rows a step of prediction."""
    seed: int = 0
    """Seed of the bootstrap and the sampling."""
    after_training: bool = True
    """Evaluate at the end of `train`."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices in a (data, fsdp, tensor) grid. 0 for data: all remaining devices."""

    data: int = 0
    """Copies of the model; each takes a share of the batch."""
    fsdp: int = 1
    """Ways the weights are split; each also takes a share of the batch."""
    tensor: int = 1
    """Ways each matrix product is split (heads, MLP columns, vocabulary)."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Where a run lives and what it writes."""

    dir: str = ""
    """Folder of the run; empty: runs/<config name>. A run that is there goes on from its newest checkpoint."""
    tensorboard: bool = True
    """Write TensorBoard files beside metrics.jsonl."""
    trace_steps: int = 0
    """Record this many steps with JAX's profiler, from the tenth on, in the run's folder (`trace/`, for Perfetto or
    xprof)."""
    wandb: str = ""
    """Weights & Biases project; empty: off."""
    cache_dir: str = ""
    """Downloads, profile tables, compiled programs; empty: $CUMA_JAX_CACHE or ~/.cache/cuma_jax."""
