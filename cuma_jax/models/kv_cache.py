"""The key/value cache, and attention of each row's newest token to it.

Shapes: B batch, S slots of the cache (one per token position), H query heads, G key/value heads, N query heads of each
of them (H = G N), K head width, L layers, P virtual tokens of a prefix.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from cuma_jax.runtime.sharding import constrain


@flax.struct.dataclass
class KVCache:
    """Keys and values of a stack of layers: [L,B,G,S,K], or a list with one [B,G,S,K] per layer."""

    k: Any
    v: Any


@flax.struct.dataclass
class LayerCache:
    """One layer's view of the cache, after rotary embedding.

    Keys and values are the layer's [B,G,S,K], or those of a stack [L,B,G,S,K] of which it is one. Heads come before
    slots, as the products want them. Slots after a row's new token hold anything finite.
    """

    k: jax.Array
    v: jax.Array
    position_B: jax.Array  # int32, the slot of each row's new token; those before it hold the row's tokens
    layer: jax.Array | None = None  # which one of the stack; None where there is no stack


def attend_to_cache(
    q_B1HK: jax.Array,
    k_B1GK: jax.Array,
    v_B1GK: jax.Array,
    cache: LayerCache,
    prefix: tuple[jax.Array, jax.Array] | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Softmax attention of each row's next token to its prefix, the cached tokens and itself.

    Scores and weights are float32, their products with values in the values' dtype, as `attention.attend` has it.
    `prefix` are keys and values [P,G,K] that every token sees.

    Returns:
        [B,1,H,K], and the cached keys and values with the new ones. They are written before they are read: the other
        way round, a loop would copy them at every token.
    """
    batch, _, heads, width = q_B1HK.shape
    groups = k_B1GK.shape[2]
    new_k, new_v = _written(cache.k, k_B1GK[:, 0], cache), _written(cache.v, v_B1GK[:, 0], cache)
    k_BGSK, v_BGSK = (x if cache.layer is None else x[cache.layer] for x in (new_k, new_v))
    q_BGNK = q_B1HK.reshape(batch, groups, heads // groups, width)
    in_float: dict[str, Any] = {"preferred_element_type": jnp.float32}
    sees_BS = jnp.arange(k_BGSK.shape[2])[None, :] <= cache.position_B[:, None]
    score = jnp.einsum("bgnk,bgsk->bgns", q_BGNK, k_BGSK, **in_float)
    score = jnp.where(sees_BS[:, None, None, :], score, jnp.finfo(jnp.float32).min)
    virtual = 0
    if prefix is not None:
        virtual = len(prefix[0])
        before_BGNP = jnp.einsum("bgnk,pgk->bgnp", q_BGNK, prefix[0].astype(q_BGNK.dtype), **in_float)
        score = jnp.concatenate([before_BGNP, score], axis=-1)
    weight = jax.nn.softmax(score * width**-0.5, axis=-1).astype(v_BGSK.dtype)
    a_BGNK = jnp.einsum("bgns,bgsk->bgnk", weight[..., virtual:], v_BGSK)
    if prefix is not None:
        a_BGNK = a_BGNK + jnp.einsum("bgnp,pgk->bgnk", weight[..., :virtual], prefix[1].astype(v_BGSK.dtype))
    return a_BGNK.reshape(batch, 1, heads, width), new_k, new_v


def shard_cache(x: jax.Array) -> jax.Array:
    """Cached keys or values [...,B,G,S,K], split over the mesh."""
    return constrain(x, *(None,) * (x.ndim - 4), "batch", "kv_heads", "seq", None)


def _written(x: jax.Array, new_BGK: jax.Array, cache: LayerCache) -> jax.Array:
    row_B = jnp.arange(len(new_BGK))
    at = x.at[row_B, :, cache.position_B] if cache.layer is None else x.at[cache.layer, row_B, :, cache.position_B]
    return shard_cache(at.set(new_BGK))
