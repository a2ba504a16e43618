"""Direct preference optimisation: pairs of replies to one person, one preferred to the other.

Rafailov et al. (2023), eq. 7, with label smoothing (Mitchell, 2023, "A note on DPO with noisy preferences", eq. 3);
IPO: Azar et al. (2023), eq. 17, on log-probabilities averaged over tokens; the term on the chosen reply's own loss is
that of RPO (Pang et al., 2024, eq. 1).

Shapes: B pairs; 2: the chosen reply, the rejected one.
"""

import jax
import jax.numpy as jnp

from cuma_jax.config.preferences import DpoConfig
from cuma_jax.losses.sums import Sum


def dpo_sums(
    logp_B2: jax.Array, reference_B2: jax.Array, count_B2: jax.Array, weight_B: jax.Array, config: DpoConfig
) -> dict[str, Sum]:
    """Sums of the loss and of what is logged beside it.

    Args:
        logp_B2: float32, summed log-probabilities of the replies' tokens under the policy, in nats.
        reference_B2: the same under the reference.
        count_B2: float32, numbers of these tokens.
        weight_B: weight of each pair; 0 leaves it out.

    Returns:
        `loss`, that of the pair and `nll` times the chosen reply's loss per token. `chosen_reward`, `rejected_reward`:
        beta times how much likelier the policy makes the reply than the reference does, in nats (ipo: in nats per
        token); `margin`: the first less the second; `accuracy`: how often that is above 0. `nll`: the chosen reply's
        loss, nats per token. `kl`: half the squared log-ratio of each reply over its number of tokens (Schulman's
        estimator k2), in nats per token: not negative, to second order the divergence of the policy from the reference
        if the replies were its own; they are the data's.
    """
    ratio_B2 = logp_B2 - reference_B2
    if config.loss == "ipo":
        ratio_B2 = ratio_B2 / count_B2
    reward_B2 = config.beta * ratio_B2
    margin_B = reward_B2[:, 0] - reward_B2[:, 1]
    if config.loss == "ipo":
        loss_B = (margin_B / config.beta - 0.5 / config.beta) ** 2
    else:
        smooth = config.label_smoothing
        loss_B = -(1 - smooth) * jax.nn.log_sigmoid(margin_B) - smooth * jax.nn.log_sigmoid(-margin_B)
    nll_B = -logp_B2[:, 0] / count_B2[:, 0]
    count = jnp.sum(weight_B)

    def mean_of(value_B: jax.Array) -> Sum:
        return Sum(jnp.sum(value_B * weight_B), count)

    half_B2 = 0.5 * (logp_B2 - reference_B2) ** 2
    return {
        "loss": mean_of(loss_B + config.nll * nll_B),
        "margin": mean_of(margin_B),
        "accuracy": mean_of((margin_B > 0).astype(jnp.float32)),
        "chosen_reward": mean_of(reward_B2[:, 0]),
        "rejected_reward": mean_of(reward_B2[:, 1]),
        "kl": Sum(jnp.sum(jnp.sum(half_B2, 1) * weight_B), jnp.sum(jnp.sum(count_B2, 1) * weight_B)),
        "nll": mean_of(nll_B),
    }
