"""A run's adapters as one PEFT adapter: plain LoRA, DoRA, or experts under fixed gates; and back, to run it here.

`scale * sum_e g_e B_e A_e` is one product of rank K*R: the K experts whose gate is not zero stand side by side, and
gate and scale are folded into B. With one A for all experts it stays of rank R: `(scale * sum_e g_e B_e) A`.

Shapes: L adapted layers, E experts, R rank, I input and O output width, K experts kept.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.config import AdapterConfig, RouterConfig
from cuma_jax.interop.formats.official_config import MODULES
from cuma_jax.interop.formats.official_tensors import group_of
from cuma_jax.interop.formats.peft_folder import Linear, PeftAdapter
from cuma_jax.models.experts import lora_scale

Tree = Any
Gates = Mapping[str, np.ndarray]
"""Adapted linear -> [L,E]."""


def plain_adapter(adapters: Tree, adapter: AdapterConfig, layers: int) -> PeftAdapter:
    """One expert without a router, as it is; of kind `lora` or `dora`."""
    factors: dict[Linear, tuple[np.ndarray, np.ndarray]] = {}
    for linear, a_LIR, b_LRO in _stacks(adapters, adapter):
        a_LIR, b_LRO = a_LIR.reshape(len(a_LIR), -1, adapter.rank), b_LRO.reshape(len(b_LRO), adapter.rank, -1)
        for layer in range(len(a_LIR)):
            factors[layers - len(a_LIR) + layer, linear] = (a_LIR[layer].T, b_LRO[layer].T)
    return PeftAdapter(adapter.rank, adapter.alpha, adapter.scaling == "sqrt_rank", layers, factors)


def dora_adapter(adapters: Tree, adapter: AdapterConfig, base: Tree, layers: int) -> PeftAdapter:
    """The adapter of a DoRA run: `m = (1 + ours) ||W||` for each output.

    PEFT holds magnitudes as they are, and here they are held as their ratio to the norms of the frozen weights.

    `base` are the frozen weights, [in,out] linears stacked over layers; not quantised.
    """
    magnitudes: dict[Linear, np.ndarray] = {}
    for linear in (t for t in MODULES if t in adapter.targets):
        ratio_LO = np.asarray(adapters["adapted_layers"][f"{group_of(linear)}_dora"][f"{linear}_magnitude"])
        w_LIO = base["adapted_layers"][linear]
        norm_LO = jax.device_get(jnp.sqrt(jnp.sum(w_LIO.astype(jnp.float32) ** 2, axis=1)))
        for layer, values_O in enumerate((1 + ratio_LO) * norm_LO):
            magnitudes[layers - len(ratio_LO) + layer, linear] = values_O
    return dataclasses.replace(plain_adapter(adapters, adapter, layers), magnitudes=magnitudes)


def folded_adapter(adapters: Tree, adapter: AdapterConfig, gates: Gates, layers: int) -> PeftAdapter:
    """The experts under fixed gates.

    Every linear has the same rank: where fewer experts than elsewhere have a gate, some of gate zero fill it up.
    """
    scale = lora_scale(adapter)
    kept = max(int((gates[linear] > 0).sum(-1).max()) for linear in adapter.targets)
    factors: dict[Linear, tuple[np.ndarray, np.ndarray]] = {}
    for linear, a_LIER, b_LERO in _stacks(adapters, adapter):
        for layer, gate_E in enumerate(np.asarray(gates[linear], np.float64)):
            b_ERO = scale * gate_E[:, None, None] * b_LERO[layer]
            if adapter.shared_a:
                a_RI, b_OR = a_LIER[layer, :, 0].T, b_ERO.sum(0).T
            else:
                chosen = np.sort(np.argsort(-gate_E, kind="stable")[:kept])
                a_RI = np.concatenate([a_LIER[layer, :, e].T for e in chosen])
                b_OR = np.concatenate([b_ERO[e].T for e in chosen], axis=1)
            factors[layers - len(a_LIER) + layer, linear] = (a_RI, np.asarray(b_OR, np.float32))
    rank = adapter.rank * (1 if adapter.shared_a else kept)
    return PeftAdapter(rank, float(rank), False, layers, factors)


def _stacks(adapters: Tree, adapter: AdapterConfig) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(linear, A, B) of every adapted linear, stacked over layers."""
    kind = "dora" if adapter.kind == "dora" else "experts"
    found = []
    for linear in (t for t in MODULES if t in adapter.targets):
        group = adapters["adapted_layers"][f"{group_of(linear)}_{kind}"]
        found.append((linear, np.asarray(group[f"{linear}_a"]), np.asarray(group[f"{linear}_b"])))
    return found


def as_plain_lora(peft: PeftAdapter) -> tuple[AdapterConfig, RouterConfig, Tree]:
    """A LoRA adapter as settings and tree of plain LoRA: what PEFT will compute, computed here."""
    first, linears = min(layer for layer, _ in peft.factors), list(dict.fromkeys(t for _, t in peft.factors))
    groups: dict[str, dict[str, np.ndarray]] = {}
    for linear in linears:
        pairs = [peft.factors[layer, linear] for layer in range(first, peft.layers)]
        group = groups.setdefault(f"{group_of(linear)}_experts", {})
        group[f"{linear}_a"] = np.stack([a_RI.T[:, None] for a_RI, _ in pairs])
        group[f"{linear}_b"] = np.stack([b_OR.T[None] for _, b_OR in pairs])
    adapter = AdapterConfig(
        experts=1, rank=peft.rank, alpha=peft.alpha, scaling="sqrt_rank" if peft.rslora else "rank",
        targets=tuple(linears), layers=peft.layers - first,
    )  # fmt: skip
    return adapter, RouterConfig(inputs="none", top_k=1), {"adapted_layers": groups}
