"""Load balancing: `E * sum_e f_e P_e` per router, 1 when experts share the tokens evenly.

f_e is the share of selections that fall on expert e and P_e its mean gate probability (Fedus et al., 2021, Switch
Transformers, eq. 4). Both are sums over valid tokens of the whole global batch, divided once.

Shapes: L layers, E experts.
"""

import math
from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp

from cuma_jax.config import RouterConfig
from cuma_jax.models.router import RouterStats


@flax.struct.dataclass
class RouterSums:
    """What the balance loss needs of one router group, stacked over layers; adds up over micro-batches.

    Attributes:
        selected_LE, probability_LE, gate_LE: see `RouterStats`.
        z_L: squared log-sum-exp of the logits.
        count_L: valid tokens.
    """

    selected_LE: jax.Array
    probability_LE: jax.Array
    gate_LE: jax.Array
    z_L: jax.Array
    count_L: jax.Array


def router_sums(stats: Mapping[str, Mapping[str, RouterStats]]) -> dict[str, RouterSums]:
    """The sums of every router, by `group/router`."""
    return {
        f"{group}/{name}": RouterSums(s.selected_E, s.probability_E, s.gate_E, s.z, s.count)
        for group, routers in stats.items()
        for name, s in routers.items()
    }


def balance_loss(routers: Mapping[str, RouterSums], form: str, router: RouterConfig | None = None) -> jax.Array:
    """The load-balancing loss, a scalar; 0 without routers.

    Args:
        routers: sums over the whole batch.
        form: `switch`: P is the mean of the full softmax, and routers are averaged. `reference`: P is the mean of
            the gate weights after top-K, and routers are summed (as the official code does).
        router: settings of the routers. The official code takes the gates of `topk_unnormalised` before top-K, and
            counts every expert as selected: its loss is then the constant E/K of every router.
    """
    if not routers:
        return jnp.zeros(())
    if form == "reference" and router is not None and router.gate == "topk_unnormalised":
        constant = sum(math.prod(s.selected_LE.shape) for s in routers.values()) / router.top_k
        return jnp.asarray(constant, jnp.float32)
    losses = []
    for s in routers.values():
        p_LE = s.probability_LE if form == "switch" else s.gate_LE
        experts = p_LE.shape[-1]
        losses.append(experts * jnp.sum((s.selected_LE / s.count_L[:, None]) * (p_LE / s.count_L[:, None]), axis=-1))
    per_router = jnp.concatenate(losses)
    return jnp.mean(per_router) if form == "switch" else jnp.sum(per_router)


def router_z_loss(routers: Mapping[str, RouterSums]) -> jax.Array:
    """Mean squared log-sum-exp of the router logits (Zoph et al., 2022, ST-MoE, eq. 5), over tokens and routers."""
    if not routers:
        return jnp.zeros(())
    return jnp.mean(jnp.concatenate([s.z_L / s.count_L for s in routers.values()]))
