"""Which rows a run draws: the batches of training, those that it is validated on, and how many steps that makes."""

import math

from cuma_jax.config.fields import COUNT
from cuma_jax.data.pipeline import Batcher, TrainBatches, epoch_steps
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import local_rows


def rows_of(run: Run, split: str) -> Batcher:
    """The rows of a split as the objective wants them: cells, single answers, conversations, prompts, or pairs.

    Raises:
        CumaError: there are none.
    """
    mask_N = run.mask(split)
    if not mask_N.any():
        raise CumaError(f"the {split} split has no rows; check data.questions and the shares held out in data.*")
    return run.training.training_rows(mask_N)


def total_steps(run: Run, batcher: Batcher) -> int:
    """`train.steps`, or as many as `train.epochs` passes over the rows need; 0 where nothing is trained."""
    train, size = run.config.train, run.objective.rows_per_step(run.config)
    if run.config.adapter.kind == "none" or not (train.steps or train.epochs):
        return 0
    exact = run.config.data.order == "epochs"
    one_pass = epoch_steps(batcher, size) if exact else len(batcher) / size
    steps = train.steps or max(math.ceil(train.epochs * one_pass), 1)
    if steps > COUNT.high:
        raise CumaError(
            f"config field train.epochs is {train.epochs}: {steps} steps; they must be at most {COUNT.high}"
        )
    return steps


def training_source(run: Run) -> TrainBatches:
    """The batches that training draws."""
    batcher = rows_of(run, "train")
    train, data, size = run.config.train, run.config.data, run.objective.rows_per_step(run.config)
    steps, local = total_steps(run, batcher), local_rows(run.mesh, size)
    return TrainBatches(batcher, size, steps, train.seed, local, data.order, data.questions_per_batch)


def validation_source(run: Run) -> TrainBatches | None:
    """The fixed batches of held-out rows that are validated on, drawn as training batches are; None without any."""
    train = run.config.train
    if not train.eval_batches or not run.mask("validation").any():
        return None
    batcher, local = rows_of(run, "validation"), local_rows(run.mesh, train.batch_size)
    return TrainBatches(batcher, train.batch_size, train.eval_batches, train.seed, local)
