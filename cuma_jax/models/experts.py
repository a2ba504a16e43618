"""LoRA experts beside the frozen linears that share one input.

`y = W0 x + scale * sum_e gate_e B_e A_e x`, computed as two matrix products over all experts at once. The gate is
exactly 0 for experts not selected, so this dense form equals the sparse one; it never forms [B,T,E,O].

Shapes: B batch, T tokens, I input width, O output width, E experts, R rank, N adapted linears of the group.
"""

from collections.abc import Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from cuma_jax.config import AdapterConfig, RouterConfig
from cuma_jax.models.router import Router, RouterStats, lookup_gate, trainable, uniform_fan_in


def lora_scale(adapter: AdapterConfig) -> float:
    """What the product of A and B is multiplied by: alpha over the rank, or over its square root."""
    return adapter.alpha / (adapter.rank if adapter.scaling == "rank" else adapter.rank**0.5)


def shares_gate_up(router: RouterConfig) -> bool:
    """Whether gate and up have one router."""
    return router.shared if router.shared_gate_up == "same" else router.shared_gate_up == "yes"


def router_names(router: RouterConfig, linears: Iterable[str]) -> dict[str, str]:
    """Adapted linear -> the name of its router, for the linears of one group."""
    linears = tuple(linears)
    shared = shares_gate_up(router) if {"gate", "up"} & set(linears) else router.shared
    return {name: "router" if shared else f"{name}_router" for name in linears}


class Experts(nn.Module):
    """The experts of every adapted linear that reads the same input (q, k and v, for one).

    A starts uniform in +-1/sqrt(I) and B at zero, so an untrained adapter changes nothing, bit for bit.
    """

    adapter: AdapterConfig
    router: RouterConfig
    outputs: Mapping[str, tuple[int, str]]  # adapted linear -> (output width, logical axis of it)
    input_axis: str  # logical axis of the input width, from the base weight

    @nn.compact
    def __call__(
        self, x_BTI: jax.Array, profile_BXC: jax.Array | None, valid_BT: jax.Array, deterministic: bool
    ) -> tuple[dict[str, jax.Array], dict[str, RouterStats]]:
        """Adapted linear -> [B,T,O] to add to its frozen output, and router name -> its sums; the arguments: see
        `Router`."""
        adapter, scale = self.adapter, lora_scale(self.adapter)
        gates, stats = self._gates(x_BTI, profile_BXC, valid_BT, deterministic)
        width, rank = x_BTI.shape[-1], adapter.rank
        a_experts = 1 if adapter.shared_a else adapter.experts
        a_shape, a_axes = (width, a_experts, rank), (self.input_axis, "experts", "rank")
        a_init = uniform_fan_in(width)
        a_INER = jnp.stack([trainable(self, f"{n}_a", a_init, a_shape, a_axes) for n in self.outputs], axis=1)
        x_BTI = nn.Dropout(adapter.dropout, deterministic=deterministic)(x_BTI)
        h_BTNER = jnp.einsum("bti,if->btf", x_BTI, a_INER.astype(x_BTI.dtype).reshape(width, -1))
        h_BTNER = h_BTNER.reshape(*x_BTI.shape[:2], len(self.outputs), a_experts, rank)
        added = {}
        for i, (name, (out, out_axis)) in enumerate(self.outputs.items()):
            b_shape, b_axes = (adapter.experts, rank, out), ("experts", "rank", out_axis)
            b_ERO = trainable(self, f"{name}_b", nn.initializers.zeros, b_shape, b_axes).astype(x_BTI.dtype)
            h_BTER = h_BTNER[:, :, i]
            gate_BTE = gates[name]
            factor = scale if gate_BTE is None else (gate_BTE * scale).astype(x_BTI.dtype)[..., None]
            h_BTER = h_BTER * factor
            h_BTF = h_BTER.reshape(*x_BTI.shape[:2], adapter.experts * rank)
            added[name] = h_BTF @ b_ERO.reshape(adapter.experts * rank, out)
        return added, stats

    def _gates(
        self, x_BTI: jax.Array, profile_BXC: jax.Array | None, valid_BT: jax.Array, deterministic: bool
    ) -> tuple[dict[str, jax.Array | None], dict[str, RouterStats]]:
        if self.router.inputs == "none":
            return dict.fromkeys(self.outputs), {}
        if self.router.inputs == "lookup":
            gate_BTE, sums = lookup_gate(profile_BXC, self.adapter.experts, valid_BT)
            return dict.fromkeys(self.outputs, gate_BTE), {"router": sums}
        gates: dict[str, jax.Array | None] = {}
        stats = {}
        owner = router_names(self.router, self.outputs)
        for router_name in dict.fromkeys(owner.values()):
            router = Router(self.router, self.adapter.experts, self.input_axis, name=router_name)
            gate_BTE, stats[router_name] = router(x_BTI, profile_BXC, valid_BT, deterministic)
            gates.update({name: gate_BTE for name in self.outputs if owner[name] == router_name})
        return gates, stats
