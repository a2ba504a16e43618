"""Sections of a config about training and scoring: objective, optimiser, loop, evaluation, devices, folder."""

import dataclasses
from typing import Annotated, Literal

from cuma_jax.config.fields import COUNT, NONE_OR_MORE, ROWS, SEED, SHARE, WEIGHT, Line, Place, Range


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What training minimises."""

    name: Annotated[str, Line()] = "choice"
    """choice: cross-entropy over the option letters; sft: cross-entropy over the answer's tokens; dpo: pairs of a
    preferred and another reply (section `dpo`); grpo: replies of its own, weighed by rewards (section `grpo`)."""
    aggregate: Literal["cell", "respondent"] = "cell"
    """cell: the answers of all respondents with one profile, as a distribution; respondent: one answer a row."""
    loss: Literal["cross_entropy", "emd"] = "cross_entropy"
    """choice only; emd is the squared difference of cumulative distributions on ordered options."""
    balance: Annotated[float, WEIGHT] = 0.01
    """Coefficient of the load-balancing loss."""
    balance_form: Literal["switch", "reference"] = "switch"
    """switch: mean gate probability before top-K, mean over routers; reference: after top-K, summed."""
    z_loss: Annotated[float, WEIGHT] = 0.0
    """Coefficient of the router z-loss."""
    start: Literal["base", "pooled"] = "base"
    """choice only. base: a question's options are as likely as the base finds them, before training; pooled: as in all
    training answers to it, so that adapters learn differences from them. Questions without training answers: base."""
    start_dropout: Annotated[float, SHARE] = 0.0
    """With start pooled: the share of training rows that start from the base all the same, as new questions do."""
    start_answers: Annotated[float, Range(0, 10**9)] = 0.0
    """With start pooled: trained as if so many people more had answered each question as all do, whoever they are. The
    fewer answers a question has, the nearer it stays to pooled; validation is of the real answers."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW."""

    learning_rate: Annotated[float, Range(1e-12, 100)] = 3e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """After warm-up: cosine or linear to zero at the last step, or constant."""
    warmup: Annotated[float, SHARE] = 0.03
    """Warm-up as a share of all steps."""
    weight_decay: Annotated[float, WEIGHT] = 0.0
    """Decoupled weight decay."""
    clip: Annotated[float, Range(1e-6, 10**6, or_zero=True)] = 1.0
    """Clip the adapters' global gradient norm; 0 switches it off."""
    router_rate: Annotated[float, Range(1e-6, 10**6)] = 1.0
    """Learning rate of routers and profile projection, as a multiple of `learning_rate`."""
    b1: Annotated[float, SHARE] = 0.9
    """Adam's first-moment decay."""
    b2: Annotated[float, SHARE] = 0.999
    """Adam's second-moment decay."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop."""

    steps: Annotated[int, NONE_OR_MORE] = 300
    """Optimiser steps; 0: as many as `epochs` need."""
    epochs: Annotated[float, Range(0, 10**6)] = 0.0
    """Passes over the training rows; used when steps is 0."""
    batch_size: Annotated[int, ROWS] = 16
    """Rows a step, over all devices and micro-batches."""
    micro_batches: Annotated[int, ROWS] = 1
    """Gradient accumulation: the batch is run in this many parts."""
    seed: Annotated[int, SEED] = 0
    """Seed of initialisation, data order and dropout."""
    log_every: Annotated[int, COUNT] = 5
    """Steps between logged metrics."""
    eval_every: Annotated[int, NONE_OR_MORE] = 100
    """Steps between validations; 0: only at the end."""
    eval_batches: Annotated[int, Range(0, 10**5)] = 8
    """Batches of each validation."""
    save_every: Annotated[int, NONE_OR_MORE] = 50
    """Steps between checkpoints; 0: only at the end."""
    keep: Annotated[int, Range(1, 10000)] = 2
    """Newest checkpoints kept, beside the best."""
    interference_every: Annotated[int, NONE_OR_MORE] = 0
    """Steps between measurements of how the gradients of groups of people agree (`python -m cuma_jax.analyze` shows
    them); 0: never."""
    question_cache: Literal["auto", "off"] = "auto"
    """auto: run the layers below the first adapted one once per question (with the profile in the prompt: once per
    question and profile, where these are fewer than the rows of training)."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is scored, and how."""

    splits: Annotated[tuple[str, ...], Line()] = ("unseen_respondent", "unseen_country")
    """Splits to score; any of train, validation, test, probe, unseen_respondent, unseen_country, unseen_question,
    unseen_annotator, unseen_prompt, unseen_conversation. Those the data do not have are an error."""
    group_by: Annotated[tuple[str, ...], Line()] = ("country",)
    """Profile fields whose values make the groups of a (group, question) cell."""
    max_profiles: Annotated[int, COUNT] = 400
    """Most distinct profiles predicted per question and split; more are sampled (by hash) and reported."""
    min_cell: Annotated[int, COUNT] = 20
    """Smallest number of answers in a reported cell."""
    bootstrap: Annotated[int, Range(2, 10**5)] = 1000
    """Bootstrap resamples of respondents, from which intervals come; at least 2."""
    option_orders: Annotated[int, Range(1, 1000)] = 1
    """Orders of the options that predictions are averaged over: 1: as listed; 2: also reversed; more: random ones."""
    checkpoint: Literal["last", "best"] = "last"
    """Which checkpoint is scored: the newest, or the one with the lowest validation loss."""
    hold: Literal["none", "pooled"] = "none"
    """Surveys only. pooled: predictions of questions that were in training are drawn towards the pooled answers, each
    question's as strongly as validation respondents' answers say; none: as the model gives them."""
    batch_size: Annotated[int, ROWS] = 64
    """Rows a step of prediction."""
    seed: Annotated[int, SEED] = 0
    """Seed of the bootstrap and the sampling."""
    after_training: bool = True
    """Evaluate at the end of `train`."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices in a (data, fsdp, tensor) grid. 0 for data: all remaining devices."""

    data: Annotated[int, Range(0, 65536)] = 0
    """Copies of the model; each takes a share of the batch."""
    fsdp: Annotated[int, Range(1, 65536)] = 1
    """Ways the weights are split; each also takes a share of the batch."""
    tensor: Annotated[int, Range(1, 65536)] = 1
    """Ways each matrix product is split (heads, MLP columns, vocabulary)."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Where a run lives and what it writes."""

    dir: Annotated[str, Place("new folder")] = ""
    """Folder of the run; empty: runs/<config name>. A run that is there goes on from its newest checkpoint."""
    tensorboard: bool = True
    """Write TensorBoard files beside metrics.jsonl."""
    trace_steps: Annotated[int, Range(0, 10000)] = 0
    """Record this many steps with JAX's profiler, from the tenth on, in the run's folder (`trace/`, for Perfetto or
    xprof)."""
    wandb: Annotated[str, Line()] = ""
    """Weights & Biases project; empty: off."""
    cache_dir: Annotated[str, Place("new folder")] = ""
    """Downloads, profile tables, compiled programs; empty: $CUMA_JAX_CACHE or ~/.cache/cuma_jax."""
