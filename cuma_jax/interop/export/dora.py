"""DoRA as PEFT holds it: magnitudes as they are, not as their ratio to the norms of the frozen weights.

Shapes: L adapted layers, I input and O output width.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.config import AdapterConfig
from cuma_jax.interop.export.fold import plain_adapter
from cuma_jax.interop.formats.official_config import MODULES
from cuma_jax.interop.formats.official_tensors import group_of
from cuma_jax.interop.formats.peft_folder import Linear, PeftAdapter

Tree = Any


def dora_adapter(adapters: Tree, adapter: AdapterConfig, base: Tree, layers: int) -> PeftAdapter:
    """The adapter of a DoRA run: `m = (1 + ours) ||W||` for each output.

    Args:
        adapters: numpy leaves.
        adapter: settings of the run.
        base: the frozen weights, [in,out] linears stacked over layers; not quantised.
        layers: of the base.
    """
    magnitudes: dict[Linear, np.ndarray] = {}
    for linear in (t for t in MODULES if t in adapter.targets):
        ratio_LO = np.asarray(adapters["adapted_layers"][f"{group_of(linear)}_dora"][f"{linear}_magnitude"])
        w_LIO = base["adapted_layers"][linear]
        norm_LO = jax.device_get(jnp.sqrt(jnp.sum(w_LIO.astype(jnp.float32) ** 2, axis=1)))
        for layer, values_O in enumerate((1 + ratio_LO) * norm_LO):
            magnitudes[layers - len(ratio_LO) + layer, linear] = values_O
    return dataclasses.replace(plain_adapter(adapters, adapter, layers), magnitudes=magnitudes)
