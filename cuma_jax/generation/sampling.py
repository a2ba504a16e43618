"""Which token comes next.

Temperature, then top-k, then top-p among those left (Holtzman et al., 2020, arXiv:1904.09751). Tokens exactly as
likely as the least likely one that is kept are kept, too, so the order of the vocabulary has no say.

Shapes: B rows, V vocabulary.
"""

import jax
import jax.numpy as jnp

from cuma_jax.config import SamplingConfig

_ONE = 0x3F800000
"""The bits of 1.0 in float32; positive floats are ordered as their bits are."""


def next_tokens(logits_BV: jax.Array, key_B: jax.Array, sampling: SamplingConfig) -> tuple[jax.Array, jax.Array]:
    """Each row's next token and its log-probability.

    Keys are each row's for this token; they are not used where the temperature is 0.

    Returns:
        tokens int32 [B]; and float32 [B], log-softmax over the whole vocabulary of the logits over the temperature (of
        the plain logits where it is 0).
    """
    greedy = sampling.temperature == 0
    if not greedy:
        logits_BV = logits_BV / sampling.temperature
    if greedy:
        token_B = jnp.argmax(logits_BV, axis=-1)
    else:
        left_BV = among_likeliest(logits_BV, sampling.top_k, sampling.top_p)
        token_B = jax.vmap(jax.random.categorical)(key_B, left_BV)
    own_B = jnp.take_along_axis(logits_BV, token_B[:, None], axis=1)[:, 0]
    return token_B.astype(jnp.int32), own_B - jax.nn.logsumexp(logits_BV, axis=-1)


def among_likeliest(logits_BV: jax.Array, top_k: int, top_p: float) -> jax.Array:
    """The logits, -inf for tokens that are not drawn from.

    Args:
        top_k: the k likeliest tokens are kept; 0: all.
        top_p: of these, the fewest likeliest ones that have this much of their probability; 1: all.
    """
    if 0 < top_k < logits_BV.shape[-1]:
        least_B = jax.lax.top_k(logits_BV, top_k)[0][:, -1]
        logits_BV = jnp.where(logits_BV >= least_B[:, None], logits_BV, -jnp.inf)
    if top_p < 1:
        weight_BV = jnp.exp(logits_BV - jnp.max(logits_BV, axis=-1, keepdims=True))
        least_B = _least_weight(weight_BV, top_p)
        logits_BV = jnp.where(weight_BV >= least_B[:, None], logits_BV, -jnp.inf)
    return logits_BV


def _least_weight(weight_BV: jax.Array, share: float) -> jax.Array:
    """The largest w of each row, such that weights of at least w have `share` of the row's sum.

    Found by halving the range of a float32's bits: exact, and 31 sums are far cheaper than sorting the vocabulary.
    """
    needed_B = share * jnp.sum(weight_BV, axis=-1)

    def as_weight(bits_B: jax.Array) -> jax.Array:
        return jax.lax.bitcast_convert_type(bits_B, jnp.float32)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low_B, high_B = bounds
        middle_B = (low_B + high_B) // 2
        heavy_BV = weight_BV >= as_weight(middle_B)[:, None]
        enough_B = jnp.sum(jnp.where(heavy_BV, weight_BV, 0.0), axis=-1) >= needed_B
        return jnp.where(enough_B, middle_B, low_B), jnp.where(enough_B, high_B, middle_B)

    low_B = jnp.zeros(weight_BV.shape[0], jnp.int32)
    return as_weight(jax.lax.fori_loop(0, 31, halve, (low_B, jnp.full_like(low_B, _ONE + 1)))[0])
