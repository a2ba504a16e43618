"""Causal attention with grouped queries and rotary positions, behind one function.

Shapes: B batch, T tokens, H query heads, G key/value heads, K head width, P virtual tokens of a prefix.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.models.families import DecoderConfig, llama3_divisors


@flax.struct.dataclass
class Segments:
    """Several conversations in one row, which do not see each other.

    Attributes:
        segment_BT: int32, number of the conversation that each token belongs to, 0 up.
        position_BT: int32, each token's position in its conversation.
    """

    segment_BT: jax.Array
    position_BT: jax.Array


def rotary_frequencies(config: DecoderConfig) -> np.ndarray:
    """Inverse frequencies, float64 [K/2], after rope scaling (transformers' `ROPE_INIT_FUNCTIONS`)."""
    inverse = config.rope_theta ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
    scaling = config.rope_scaling
    if scaling is None:
        return inverse
    if scaling.kind == "linear":
        return inverse / scaling.factor
    return inverse / llama3_divisors(scaling, config.rope_theta, config.head_dim)


def rotary_table(
    config: DecoderConfig, length: int, segments: Segments | None = None
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """(sin, cos), float32 [1,T,K], for positions 0..length-1; the half-rotation layout of Llama.

    With `segments`, [B,T,K]: positions start anew in every segment.
    """
    angle_TK = np.arange(length)[:, None] * np.tile(rotary_frequencies(config), 2)[None, :]
    tables = jnp.asarray(np.sin(angle_TK), jnp.float32), jnp.asarray(np.cos(angle_TK), jnp.float32)
    if segments is None:
        return tables[0][None], tables[1][None]
    return tables[0][segments.position_BT], tables[1][segments.position_BT]


def rotate(x_BTHK: jax.Array, sin_BTK: jax.Array, cos_BTK: jax.Array) -> jax.Array:
    """Rotary embedding in float32, returned in the input's dtype; the tables' first axis may be 1."""
    x = x_BTHK.astype(jnp.float32)
    first, second = jnp.split(x, 2, axis=-1)
    turned = jnp.concatenate([-second, first], axis=-1)
    return (x * cos_BTK[:, :, None, :] + turned * sin_BTK[:, :, None, :]).astype(x_BTHK.dtype)


def attend(
    q_BTHK: jax.Array,
    k_BTGK: jax.Array,
    v_BTGK: jax.Array,
    implementation: str,
    segment_BT: jax.Array | None = None,
    prefix: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Causal softmax attention, [B,T,H,K].

    Rows are padded on the right, so a valid token never sees padding: the causal mask alone is exact for every
    valid position, and what padding positions hold is never read.

    Args:
        q_BTHK, k_BTGK, v_BTGK: after rotary embedding.
        implementation: `xla`, `cudnn`, or `auto` (cudnn on GPU in 16 bits without a prefix, else xla).
        segment_BT: tokens see only their own segment; None: the whole row.
        prefix: keys and values [P,G,K] that every token of every segment sees, beside those of the text.
    """
    if implementation == "auto":
        sixteen_bits = q_BTHK.dtype in (jnp.bfloat16, jnp.float16)
        cudnn = sixteen_bits and jax.default_backend() == "gpu" and prefix is None
        implementation = "cudnn" if cudnn else "xla"
    kernel: Any = implementation
    mask_B1TS = None
    if segment_BT is not None:
        mask_B1TS = segment_BT[:, None, :, None] == segment_BT[:, None, None, :]
    if prefix is not None:
        causal_TT = jnp.tril(jnp.ones((q_BTHK.shape[1], q_BTHK.shape[1]), bool))[None, None]
        mask_B1TS = causal_TT if mask_B1TS is None else mask_B1TS & causal_TT
        mask_B1TS = jnp.pad(mask_B1TS, ((0, 0), (0, 0), (0, 0), (len(prefix[0]), 0)), constant_values=True)
        k_BTGK, v_BTGK = _prepend(prefix[0], k_BTGK), _prepend(prefix[1], v_BTGK)
    # The kernels' own causal mask lets query t see keys 0..t, which is wrong once a prefix stands before the keys.
    return jax.nn.dot_product_attention(
        q_BTHK, k_BTGK, v_BTGK, mask=mask_B1TS, is_causal=prefix is None, implementation=kernel
    )


def _prepend(prefix_PGK: jax.Array, x_BTGK: jax.Array) -> jax.Array:
    every_row = jnp.broadcast_to(prefix_PGK[None].astype(x_BTGK.dtype), (len(x_BTGK), *prefix_PGK.shape))
    return jnp.concatenate([every_row, x_BTGK], axis=1)
