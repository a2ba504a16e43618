"""AdamW with warm-up and decay over the run's real number of steps, on the adapters alone."""

from typing import Any

import jax
import optax

from cuma_jax.config import OptimizerConfig

Tree = Any


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then cosine or linear to zero at `steps`, or constant."""
    warmup = round(config.warmup * steps)
    peak, decay = config.learning_rate, max(steps - warmup, 1)
    after = {
        "cosine": optax.cosine_decay_schedule(peak, decay),
        "linear": optax.linear_schedule(peak, 0.0, decay),
        "constant": optax.constant_schedule(peak),
    }[config.schedule]
    if warmup == 0:
        return after
    # Warm-up starts above zero, so that the first step already learns.
    return optax.join_schedules([optax.linear_schedule(peak / warmup, peak, warmup - 1 or 1), after], [warmup])


def make_optimizer(config: OptimizerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Clipping of the global norm, then AdamW; updates of routers are scaled where they have a rate of their own."""
    adamw = optax.adamw(schedule, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay)
    parts = [optax.clip_by_global_norm(config.clip)] if config.clip else []
    parts.append(adamw)
    if config.router_rate != 1.0:
        parts.append(optax.masked(optax.scale(config.router_rate), routing_mask))
    return optax.chain(*parts) if len(parts) > 1 else adamw


def routing_mask(adapters: Tree) -> Tree:
    """Which of the adapters decide who answers: those of routers and of the profile projection."""

    def decides(path: tuple[Any, ...], _: Any) -> bool:
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        return "projection" in names or any(name == "router" or name.endswith("_router") for name in names)

    return jax.tree_util.tree_map_with_path(decides, adapters)
