"""The shapes and shardings of everything that a train step takes, from a config and shapes alone.

`train` restores into them and `plan` compiles with them: one path, so that what is planned is what runs.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cuma_jax.runtime.sharding import replicated
from cuma_jax.training.step import TrainState

Tree = Any


def abstract_state(optimizer: optax.GradientTransformation, adapter_shapes: Tree) -> TrainState:
    """Shapes of the state of adapters of these shapes; nothing is allocated."""
    key: Any = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    step: Any = jax.ShapeDtypeStruct((), jnp.int32)
    return TrainState(step, adapter_shapes, jax.eval_shape(optimizer.init, adapter_shapes), key)


def state_shardings(
    optimizer: optax.GradientTransformation, adapter_shapes: Tree, adapter_shardings: Tree, mesh: Mesh
) -> TrainState:
    """Where the state lives: the optimiser's moments as the adapters they belong to, the rest on every device."""
    whole: Any = replicated(mesh)
    moments = optax.tree_utils.tree_map_params(
        optimizer,
        lambda _, sharding: sharding,
        abstract_state(optimizer, adapter_shapes).opt_state,
        adapter_shardings,
        transform_non_params=lambda _: whole,
    )
    return TrainState(whole, adapter_shardings, moments, whole)
