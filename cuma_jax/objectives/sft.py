"""Supervised fine-tuning: cross-entropy on the tokens of the assistant's turns.

Shapes: B batch, S supervised positions a row (padded, weight 0), V vocabulary.
"""

import jax
import jax.numpy as jnp

from cuma_jax.objectives.sums import Sum


def sft_sums(logits_BSV: jax.Array, label_BS: jax.Array, weight_BS: jax.Array) -> dict[str, Sum]:
    """Sums over supervised tokens: `loss` in nats a token, `accuracy` of the likeliest token.

    Args:
        logits_BSV: float32 logits at the positions before each supervised token.
        label_BS: the supervised tokens.
        weight_BS: weight of each; 0 leaves it out.
    """
    logp_BSV = jax.nn.log_softmax(logits_BSV.astype(jnp.float32), axis=-1)
    loss_BS = -jnp.take_along_axis(logp_BSV, label_BS[..., None], axis=-1)[..., 0]
    hit_BS = jnp.argmax(logits_BSV, axis=-1) == label_BS
    count = jnp.sum(weight_BS)
    return {"loss": Sum(jnp.sum(loss_BS * weight_BS), count), "accuracy": Sum(jnp.sum(hit_BS * weight_BS), count)}
