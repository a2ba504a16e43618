"""The jitted train step, and the steps of a run that are just this and its validation.

The gradient of an accumulated batch is exact, balance loss included: the loss is a function of sums over all
micro-batches, so they are summed in one differentiable scan whose body is recomputed in the backward pass.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from cuma_jax.config import Config, ObjectiveConfig, RouterConfig
from cuma_jax.data.batches import Batch
from cuma_jax.losses.balance import balance_loss, router_z_loss
from cuma_jax.losses.sums import BatchSums
from cuma_jax.models.decoder import Decoder
from cuma_jax.run.forward import Model, Tables
from cuma_jax.run.inference import row_step
from cuma_jax.run.rows import validation_source
from cuma_jax.run.run import Run
from cuma_jax.runtime.sharding import batch_sharding, put_batch, replicated

Tree = Any
SumsOf = Callable[..., BatchSums]
"""`Objective.sums`."""


@flax.struct.dataclass
class TrainState:
    """All that changes while training.

    Attributes:
        step: int32, training steps taken, which is also the position in the data; an optimiser step each, or for grpo
            `grpo.updates` of them.
        adapters: trainable parameters, float32.
        opt_state: the optimiser's moments.
        key: key data of the dropout stream; the key of a step is folded from it and the step.
    """

    step: jax.Array
    adapters: Tree
    opt_state: Tree
    key: jax.Array


@dataclasses.dataclass(frozen=True)
class UpdateRule:
    """How gradients become the next state.

    Attributes:
        optimizer, schedule: both count updates.
        shardings: of the state.
    """

    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    shardings: Tree


def total_loss(
    sums: BatchSums, objective: ObjectiveConfig, router: RouterConfig | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss that is minimised, and the metrics that are logged, from the sums of a whole global batch."""
    balance = balance_loss(sums.routers, objective.balance_form, router)
    loss = sums.objective["loss"].mean()
    total = loss + objective.balance * balance
    if objective.z_loss:
        total = total + objective.z_loss * router_z_loss(sums.routers)
    metrics = {name: s.mean() for name, s in sums.objective.items()} | {"balance": balance, "total": total}
    return total, metrics


def loss_of_batch(
    decoder: Decoder,
    config: Config,
    adapters: Tree,
    base: Tree,
    tables: Tables,
    batch: Tree,
    key: jax.Array,
    sums_of: SumsOf,
) -> tuple[jax.Array, tuple[BatchSums, dict[str, jax.Array]]]:
    """The loss of a global batch run in `train.micro_batches` parts, as if it were run at once.

    `sums_of` gives the sums of a part.
    """
    parts = config.train.micro_batches

    def run(base: Tree, adapters: Tree, tables: Tables, rows: Tree, key: jax.Array) -> BatchSums:
        return sums_of(config, Model(decoder, base, adapters, tables), rows, key)

    if parts == 1:
        sums = run(base, adapters, tables, batch, key)
    else:
        split = split_rows(batch, parts)
        one = jax.checkpoint(run, policy=jax.checkpoint_policies.nothing_saveable)

        def body(total: BatchSums, part: Any) -> tuple[BatchSums, None]:
            number, rows = part
            found = one(base, adapters, tables, rows, jax.random.fold_in(key, number))
            return jax.tree.map(jnp.add, total, found), None

        first = jax.tree.map(lambda x: x[0], split)
        shapes = jax.eval_shape(run, base, adapters, tables, first, key)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        sums, _ = jax.lax.scan(body, zeros, (jnp.arange(parts), split))
    total, metrics = total_loss(sums, config.objective, config.router)
    return total, (sums, metrics)


def split_rows(batch: Tree, parts: int) -> Tree:
    """[B,...] as [parts, B / parts, ...]; row r goes to part r % parts, so that each device keeps its own rows."""
    return jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1), batch)


def in_parts(run: Callable[[Tree], jax.Array], batch: Tree, parts: int) -> jax.Array:
    """`run(batch)` [B,...], computed in the parts that `loss_of_batch` cuts: memory is one part's."""
    if parts == 1:
        return run(batch)
    found = jax.lax.map(run, split_rows(batch, parts))
    return jnp.swapaxes(found, 0, 1).reshape(-1, *found.shape[2:])


def make_train_step(
    decoder: Decoder,
    config: Config,
    sums_of: SumsOf,
    rule: UpdateRule,
    mesh: Mesh,
    base_shardings: Tree,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """`step(state, base, tables, batch) -> (state, metrics)`, jitted; the old state's buffers are reused."""

    def step(state: TrainState, base: Tree, tables: Tables, batch: Tree) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        grad = jax.value_and_grad(loss_of_batch, argnums=2, has_aux=True)
        (_, (sums, metrics)), grads = grad(decoder, config, state.adapters, base, tables, batch, key, sums_of)
        with jax.named_scope("optimizer"):
            updates, opt_state = rule.optimizer.update(grads, state.opt_state, state.adapters)
            adapters = optax.apply_updates(state.adapters, updates)
        metrics |= {
            "gradient_norm": optax.global_norm(grads),
            "learning_rate": jnp.asarray(rule.schedule(state.step), jnp.float32),
            "tokens": sums.tokens,
        }
        return TrainState(state.step + 1, adapters, opt_state, state.key), metrics

    whole = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(rule.shardings, base_shardings, whole, batch_sharding(mesh)),
        out_shardings=(rule.shardings, whole),
        donate_argnums=0,
    )


class SupervisedSteps:
    """See `run.objective.Steps`."""

    synchronous = False

    def __init__(self, run: Run, rule: UpdateRule):
        self._run, self._complete = run, run.objective.completer(run)
        held_out = validation_source(run)
        self._held_out = [] if held_out is None else [held_out[i] for i in range(len(held_out))]
        sums = run.objective.sums
        self.train_step = make_train_step(run.train_decoder, run.config, sums, rule, run.mesh, run.base_shardings)
        self.eval_step = row_step(run, lambda model, batch: sums(run.config, model, batch, None))

    def step(self, state: TrainState, bucket: int, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        """One step on this process's part of a batch; the old state's buffers are reused."""
        tables = self._run.training.tables[bucket]
        placed = self._complete(tables, put_batch(batch, self._run.mesh))
        return self.train_step(state, self._run.base, tables, placed)

    def validate(self, adapters: Any) -> dict[str, float]:
        """Mean loss and accuracy over the validation batches; empty without validation."""
        totals: dict[str, np.ndarray] = {}
        for bucket, batch in self._held_out:
            tables = self._run.training.tables[bucket]
            placed = self._complete(tables, put_batch(batch, self._run.mesh))
            sums = jax.device_get(self.eval_step(adapters, self._run.base, tables, placed).objective)
            for name, s in sums.items():
                totals[name] = totals.get(name, np.zeros(2)) + np.array([s.total, s.count], np.float64)
        return {name: float(total / count) for name, (total, count) in totals.items()}
