"""Group relative policy optimisation: replies to one prompt, weighed against each other by their rewards.

Sources: Shao et al. (2024), DeepSeekMath, for the objective; Liu et al. (2025), Understanding R1-Zero-Like Training,
for the form without bias by length and difficulty; Yu et al. (2025), DAPO, for an upper clip of its own; Schulman
(2020), Approximating KL divergence, for k3; DeepSeek-AI (2025), DeepSeek-V3.2, section 3.1, for its weight rho.

Of token t of reply i, with ratio rho = exp(logp - old_logp) and advantage A_i:

    gain = min(rho * A_i, clip(rho, 1 - clip, 1 + clip_high) * A_i) - kl * rho * k3,
    k3 = exp(reference_logp - logp) - (reference_logp - logp) - 1,

rho * k3 being an estimate of KL(policy || reference) that is never negative, and unbiased in its value and in its
gradient. (k3 alone, as GRPO was published, has the gradient of KL(reference || policy) where the tokens are the
policy's own: its value is right, but what it pulls towards is another divergence.) The loss is minus the mean gain,
over each reply's tokens and then over replies (`normalised`), or summed over tokens, over the longest reply there may
be, and averaged over replies (`unbiased`).

Shapes: B replies, those of a group side by side; M groups, G replies of a group, S tokens of a reply (padded).
"""

import jax
import jax.numpy as jnp

from cuma_jax.config.preferences import GrpoConfig
from cuma_jax.losses.sums import Sum

EPSILON = 1e-4
"""Added to a group's standard deviation: a group whose rewards are all alike has advantages of 0, not of noise."""


def group_advantages(reward_B: jax.Array, valid_B: jax.Array, samples: int, form: str) -> jax.Array:
    """How much better each reply is than its group, float32 [B]; 0 for a reply without a reward, or alone.

    Args:
        reward_B: rewards; what stands where `valid_B` is False has no effect, nan included.
        valid_B: bool, which replies have a reward.
        samples: G.
        form: `normalised`: less the group's mean, over its standard deviation (over the replies that have a reward,
            divided by their number) plus `EPSILON`; `unbiased`: less the mean only.
    """
    valid_MG = valid_B.reshape(-1, samples)
    reward_MG = jnp.where(valid_MG, reward_B.astype(jnp.float32).reshape(-1, samples), 0.0)
    count_M1 = jnp.maximum(jnp.sum(valid_MG, axis=1, keepdims=True), 1)
    mean_M1 = jnp.sum(reward_MG, axis=1, keepdims=True) / count_M1
    advantage_MG = jnp.where(valid_MG, reward_MG - mean_M1, 0.0)
    if form == "normalised":
        spread_M1 = jnp.sqrt(jnp.sum(advantage_MG**2, axis=1, keepdims=True) / count_M1)
        advantage_MG = advantage_MG / (spread_M1 + EPSILON)
    return advantage_MG.reshape(-1)


def grpo_sums(
    logp_BS: jax.Array,
    old_logp_BS: jax.Array,
    reference_logp_BS: jax.Array | None,
    advantage_B: jax.Array,
    token_BS: jax.Array,
    weight_B: jax.Array,
    config: GrpoConfig,
    longest: int,
) -> dict[str, Sum]:
    """Sums of the loss and of what is logged about the update.

    Args:
        logp_BS: log-probabilities of the sampled tokens under the policy that is trained.
        old_logp_BS: under the policy that wrote them; a constant.
        reference_logp_BS: under the reference; None where `kl` is 0.
        advantage_B: a constant.
        token_BS: 1.0 for the reply's tokens, 0.0 for padding.
        weight_B: weight of each reply, 0 for one that has no reward.
        config: its `clip`, `clip_high` (0 is `clip`), `kl` and `advantage`, the form.
        longest: `sampling.max_new_tokens`.

    Returns:
        `loss`; over tokens `clipped` (share whose gain no longer depends on the policy), `entropy` (minus the mean
        log-probability of the writer, which estimates its entropy in nats per token) and, with a reference, `kl`; over
        replies `length` in tokens.
    """
    token_BS = token_BS.astype(jnp.float32) * weight_B[:, None]
    advantage_B1, old_logp_BS = advantage_B[:, None], jax.lax.stop_gradient(old_logp_BS)
    # A padded position has no log-probability: its ratio is 1.
    ratio_BS = jnp.exp(jnp.where(token_BS > 0, logp_BS - old_logp_BS, 0.0))
    low, high = 1.0 - config.clip, 1.0 + (config.clip_high or config.clip)
    plain_BS, clipped_BS = ratio_BS * advantage_B1, jnp.clip(ratio_BS, low, high) * advantage_B1
    gain_BS = jnp.minimum(plain_BS, clipped_BS)
    tokens = jnp.sum(token_BS)
    sums = {
        "clipped": Sum(jnp.sum((clipped_BS < plain_BS) * token_BS), tokens),
        "entropy": Sum(-jnp.sum(old_logp_BS * token_BS), tokens),
        "length": Sum(tokens, jnp.sum(weight_B)),
    }
    if reference_logp_BS is not None:
        gap_BS = jnp.where(token_BS > 0, jax.lax.stop_gradient(reference_logp_BS) - logp_BS, 0.0)
        kl_BS = ratio_BS * (jnp.exp(gap_BS) - gap_BS - 1.0)
        gain_BS = gain_BS - config.kl * kl_BS
        sums["kl"] = Sum(jnp.sum(kl_BS * token_BS), tokens)
    each_B = jnp.sum(gain_BS * token_BS, axis=1)  # the reply's weight is in `token_BS`
    length_B = jnp.maximum(jnp.sum(token_BS > 0, axis=1), 1) if config.advantage == "normalised" else longest
    each_B = each_B / length_B
    return sums | {"loss": Sum(-jnp.sum(each_B), jnp.sum(weight_B))}
