"""Attention of one new token a row to the keys and values that are kept of the tokens before it.

Shapes: B batch, S cells of the cache, H query heads, G key/value heads, N query heads of each of them (H = G N), K head
width, P virtual tokens of a prefix.
"""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Past:
    """What is kept of the tokens before, after rotary embedding.

    Attributes:
        k_BGSK, v_BGSK: keys and values; heads come before cells, as the products below want them.
        seen_B: int32; cells 0..seen-1 of a row hold its tokens, the others hold anything finite.
    """

    k_BGSK: jax.Array
    v_BGSK: jax.Array
    seen_B: jax.Array


def attend_to_past(
    q_B1HK: jax.Array,
    k_B1GK: jax.Array,
    v_B1GK: jax.Array,
    past: Past,
    prefix: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Softmax attention of each row's next token to its prefix, its past and itself, [B,1,H,K].

    Scores and weights in float32, their products with values in the values' dtype, as `attention.attend` has it.

    Args:
        q_B1HK, k_B1GK, v_B1GK: of the new token, after rotary embedding.
        past: the tokens before.
        prefix: keys and values [P,G,K] that every token sees.
    """
    batch, _, heads, width = q_B1HK.shape
    groups, cells = k_B1GK.shape[2], past.k_BGSK.shape[2]
    q_BGNK = q_B1HK.reshape(batch, groups, heads // groups, width)
    in_float = {"preferred_element_type": jnp.float32}
    seen_BS = jnp.arange(cells)[None, :] < past.seen_B[:, None]
    before_BGNS = jnp.einsum("bgnk,bgsk->bgns", q_BGNK, past.k_BGSK, **in_float)
    before_BGNS = jnp.where(seen_BS[:, None, None, :], before_BGNS, jnp.finfo(jnp.float32).min)
    scores = [before_BGNS, jnp.einsum("bgnk,bgk->bgn", q_BGNK, k_B1GK[:, 0], **in_float)[..., None]]
    if prefix is not None:
        scores.append(jnp.einsum("bgnk,pgk->bgnp", q_BGNK, prefix[0].astype(q_BGNK.dtype), **in_float))
    weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1) * width**-0.5, axis=-1).astype(v_B1GK.dtype)
    a_BGNK = jnp.einsum("bgns,bgsk->bgnk", weights[..., :cells], past.v_BGSK)
    a_BGNK = a_BGNK + weights[..., cells, None] * v_B1GK[:, 0, :, None, :]
    if prefix is not None:
        a_BGNK = a_BGNK + jnp.einsum("bgnp,pgk->bgnk", weights[..., cells + 1 :], prefix[1].astype(v_B1GK.dtype))
    return a_BGNK.reshape(batch, 1, heads, width)
