"""Causal attention with grouped queries and rotary positions, behind one function.

Shapes: B batch, T tokens, H query heads, G key/value heads, K head width, P virtual tokens of a prefix.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.models.families import DecoderConfig, llama3_divisors
from cuma_jax.runtime.errors import CumaError

SHARED = -1
"""The segment whose tokens every segment after them sees: a prompt before several replies to it."""


@flax.struct.dataclass
class Segments:
    """Several conversations in one row, which do not see each other."""

    segment_BT: jax.Array  # int32, number of the conversation that each token belongs to, 0 up; or `SHARED`
    position_BT: jax.Array  # int32, each token's position in its conversation


def rotary_frequencies(config: DecoderConfig) -> np.ndarray:
    """Inverse frequencies, float64 [K/2], after rope scaling (transformers' `ROPE_INIT_FUNCTIONS`)."""
    inverse = config.rope_theta ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
    scaling = config.rope_scaling
    if scaling is None:
        return inverse
    if scaling.kind == "linear":
        return inverse / scaling.factor
    return inverse / llama3_divisors(scaling, config.rope_theta, config.head_dim)


def rotary_table(config: DecoderConfig, length: int, segments: Segments | None = None) -> tuple[jax.Array, jax.Array]:
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
    quarter_turn = jnp.concatenate([-second, first], axis=-1)
    return (x * cos_BTK[:, :, None, :] + quarter_turn * sin_BTK[:, :, None, :]).astype(x_BTHK.dtype)


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
        implementation: `xla`, `cudnn`, or `auto` (cudnn where it runs and there is no prefix, else xla).
        segment_BT: tokens see only their own segment, and `SHARED`; None: the whole row.
        prefix: keys and values [P,G,K] that every token of every segment sees, beside those of the text.

    Raises:
        CumaError: `cudnn` is asked for where it does not run.
    """
    kernel: Any = implementation
    if implementation != "xla":
        length, virtual, masked = q_BTHK.shape[1], 0 if prefix is None else len(prefix[0]), segment_BT is not None
        lengths = (length, length + virtual) if masked or prefix is not None else ()
        runs = check_attention(implementation, q_BTHK.dtype, q_BTHK.shape[-1], lengths)
        kernel = "cudnn" if runs and (implementation == "cudnn" or prefix is None) else "xla"
    mask_B1TS = None
    if segment_BT is not None:
        segment_B11S = segment_BT[:, None, None, :]
        mask_B1TS = (segment_BT[:, None, :, None] == segment_B11S) | (segment_B11S == SHARED)
    if prefix is not None:
        causal_TT = jnp.tril(jnp.ones((q_BTHK.shape[1], q_BTHK.shape[1]), bool))[None, None]
        mask_B1TS = causal_TT if mask_B1TS is None else mask_B1TS & causal_TT
        mask_B1TS = jnp.pad(mask_B1TS, ((0, 0), (0, 0), (0, 0), (len(prefix[0]), 0)), constant_values=True)
        k_BTGK, v_BTGK = _prepend(prefix[0], k_BTGK), _prepend(prefix[1], v_BTGK)
    # The kernels' own causal mask lets query t see keys 0..t, which is wrong once a prefix stands before the keys.
    return jax.nn.dot_product_attention(
        q_BTHK, k_BTGK, v_BTGK, mask=mask_B1TS, is_causal=prefix is None, implementation=kernel
    )


def cuda_capability() -> tuple[int, int] | None:
    """Compute capability of the NVIDIA GPU that JAX uses here, e.g. (9, 0); None where it uses none."""
    if jax.default_backend() != "gpu":
        return None
    device = jax.local_devices()[0]
    if "cuda" not in device.client.platform_version:  # AMD's GPUs are the backend `gpu`, too
        return None
    major, minor = str(device.compute_capability).split(".")
    return int(major), int(minor)


def cudnn_refuses(dtype: Any, head_dim: int, masked: tuple[int, ...], capability: tuple[int, int] | None) -> str:
    """Why cudnn's flash attention, forward and backward, cannot run; empty where it can.

    The limits are those of jax 0.10.2 (`check_is_flash_attention` of its cudnn/fused_attention_stablehlo.py), where a
    mask becomes a bias, and cuDNN's own support matrix (SM80 or newer). `masked` are the numbers of queries and of keys
    where there is a mask beside the causal one, else empty; `capability`: see `cuda_capability`.
    """
    if capability is None:
        return "needs an NVIDIA GPU"
    if capability < (8, 0):
        return f"needs a GPU of compute capability 8.0 (Ampere) or newer; here it is {capability[0]}.{capability[1]}"
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float16):
        return f"needs model.dtype bfloat16; here it is {jnp.dtype(dtype)}"
    widest = 256 if capability >= (9, 0) else 128
    if head_dim % 8 or head_dim > widest:
        return f"needs heads of a multiple of 8 and at most {widest} on this GPU; here they are {head_dim} wide"
    if any(length % 2 for length in masked):
        return f"needs even lengths where rows are packed or have a prefix; here they are {masked}"
    return ""


def check_attention(implementation: str, dtype: Any, head_dim: int, masked: tuple[int, ...] = ()) -> bool:
    """Whether cudnn's kernel runs here; the arguments are those of `cudnn_refuses`.

    Raises:
        CumaError: it does not, and `implementation` is `cudnn`.
    """
    refused = cudnn_refuses(dtype, head_dim, masked, cuda_capability())
    if refused and implementation == "cudnn":
        raise CumaError(f"config field model.attention is 'cudnn', which {refused}; use auto or xla")
    return not refused


def _prepend(prefix_PGK: jax.Array, x_BTGK: jax.Array) -> jax.Array:
    every_row = jnp.broadcast_to(prefix_PGK[None].astype(x_BTGK.dtype), (len(x_BTGK), *prefix_PGK.shape))
    return jnp.concatenate([every_row, x_BTGK], axis=1)
