"""The choice objective: the model's distribution over the option letters against how people answered.

Shapes: B batch, O options (padded; `options_B` says how many each row has).
"""

import jax
import jax.numpy as jnp

from cuma_jax.losses.sums import Sum


def option_mask(options_B: jax.Array, width: int) -> jax.Array:
    """Bool [B,O], which options are there."""
    return jnp.arange(width)[None, :] < options_B[:, None]


def option_log_probs(logits_BO: jax.Array, options_B: jax.Array) -> jax.Array:
    """Log-softmax in float32 over the options that are there; 0 for the padding."""
    mask_BO = option_mask(options_B, logits_BO.shape[1])
    logp_BO = jax.nn.log_softmax(jnp.where(mask_BO, logits_BO.astype(jnp.float32), -jnp.inf), axis=-1)
    return jnp.where(mask_BO, logp_BO, 0.0)


def choice_sums(
    logits_BO: jax.Array, options_B: jax.Array, target_BO: jax.Array, weight_B: jax.Array, loss: str
) -> dict[str, Sum]:
    """Sums of the loss and of the accuracy of the likeliest option.

    Args:
        logits_BO: logits of the option letters.
        options_B: number of options of each row.
        target_BO: distribution of the answers (one-hot for one respondent), zero past the options.
        weight_B: weight of each row; 0 leaves it out.
        loss: `cross_entropy`, or `emd`: the squared difference of the cumulative distributions, over O - 1.

    Returns:
        `loss` in nats (cross_entropy) or scale units squared (emd); `accuracy`, the share of answers on the argmax.
    """
    mask_BO, logp_BO = option_mask(options_B, logits_BO.shape[1]), option_log_probs(logits_BO, options_B)
    if loss == "cross_entropy":
        loss_B = -jnp.sum(target_BO * logp_BO, axis=-1)
    else:
        difference_BO = jnp.cumsum(jnp.exp(logp_BO) * mask_BO - target_BO, axis=-1)
        loss_B = jnp.sum(jnp.where(mask_BO, difference_BO**2, 0.0), axis=-1) / (options_B - 1)
    best_B = jnp.argmax(jnp.where(mask_BO, logits_BO, -jnp.inf), axis=-1)
    hit_B = jnp.take_along_axis(target_BO, best_B[:, None], axis=1)[:, 0]
    count = jnp.sum(weight_B)
    return {"loss": Sum(jnp.sum(loss_B * weight_B), count), "accuracy": Sum(jnp.sum(hit_B * weight_B), count)}
