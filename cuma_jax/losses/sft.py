"""Supervised fine-tuning: cross-entropy on the tokens of the assistant's turns.

Shapes: B batch, S supervised positions per row (padded, weight 0), D model width, V vocabulary.
"""

import jax
import jax.numpy as jnp

from cuma_jax.losses.linear_cross_entropy import linear_cross_entropy
from cuma_jax.losses.sums import Sum


def sft_sums(h_BSD: jax.Array, unembed_VD: jax.Array, label_BS: jax.Array, weight_BS: jax.Array) -> dict[str, Sum]:
    """Sums over supervised tokens: `loss` in nats per token, `accuracy` of the likeliest token.

    Args:
        h_BSD: hidden states, after the final norm, at the positions before each supervised token.
        unembed_VD: one row per token.
        label_BS: the supervised tokens.
        weight_BS: weight of each; 0 leaves it out.
    """
    loss_BS, hit_BS = linear_cross_entropy(h_BSD, unembed_VD, label_BS)
    count = jnp.sum(weight_BS)
    return {"loss": Sum(jnp.sum(loss_BS * weight_BS), count), "accuracy": Sum(jnp.sum(hit_BS * weight_BS), count)}
