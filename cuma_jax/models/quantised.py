"""How frozen linears are stored, and the product with one: as they are, transposed, or in int8.

In int8 each weight takes one byte, and each output has one float32 scale.

A weight is `scale * q` with q from -127 to 127: symmetric, so that zero stays zero, and rounded to nearest, with the
scale of an output its largest weight over 127. A product is `(x @ q) * scale`: the scale falls on the output, and the
copy of q in the compute dtype (exact: bfloat16 holds every integer up to 256) lives as long as one product does.

Shapes: B batch, T tokens, I input width, O output width. Files store a linear as [O,I].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LARGEST = 127
"""Largest absolute value of q; -128 is not used."""
_BLOCK = 64
"""Outputs that are quantised at once, so that no second copy of a tensor is made."""


class Int8(NamedTuple):
    """A quantised weight: `q_IO` int8, and `scale_O` float32 that each of its columns is multiplied by."""

    q_IO: jax.Array
    scale_O: jax.Array


class Transposed(NamedTuple):
    """A weight that is stored as `w_OI`: with few rows of x, a CPU multiplies by it up to twice as fast."""

    w_OI: jax.Array


Weight = jax.Array | Int8 | Transposed


def product(x_BTI: jax.Array, weight: Weight) -> jax.Array:
    """`x` times a frozen weight, in the dtype of `x`, [B,T,O]."""
    if isinstance(weight, Transposed):
        return jnp.moveaxis(jnp.tensordot(weight.w_OI, x_BTI, (1, 2)), 0, -1)
    return _int8_product(x_BTI, *weight) if isinstance(weight, Int8) else x_BTI @ weight


def as_float(weight: Weight) -> jax.Array:
    """The weight [I,O] written out; float32 if it was quantised."""
    if isinstance(weight, Transposed):
        return weight.w_OI.T
    if isinstance(weight, Int8):
        return weight.q_IO.astype(jnp.float32) * weight.scale_O[None, :]
    return weight


# Derived by JAX, the backward pass would keep q in the compute dtype from the forward pass, for every layer at once.
@jax.custom_vjp
def _int8_product(x_BTI: jax.Array, q_IO: jax.Array, scale_O: jax.Array) -> jax.Array:
    return _scaled(x_BTI @ q_IO.astype(x_BTI.dtype), scale_O)


def _forward(x_BTI: jax.Array, q_IO: jax.Array, scale_O: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _int8_product(x_BTI, q_IO, scale_O), (q_IO, scale_O)


def _backward(saved: tuple[jax.Array, jax.Array], cotangent_BTO: jax.Array) -> tuple[jax.Array, None, None]:
    q_IO, scale_O = saved
    return _scaled(cotangent_BTO, scale_O) @ q_IO.T.astype(cotangent_BTO.dtype), None, None


_int8_product.defvjp(_forward, _backward)


def _scaled(y_BTO: jax.Array, scale_O: jax.Array) -> jax.Array:
    """In float32: a scale rounded to bfloat16 would shift its whole channel."""
    return (y_BTO.astype(jnp.float32) * scale_O.reshape((1,) * (y_BTO.ndim - 1) + (-1,))).astype(y_BTO.dtype)


def output_scales(stored_OI: np.ndarray) -> np.ndarray:
    """The scale of every output, float32 [O]; 1 where all its weights are zero. `stored_OI` has all inputs."""
    scale_O = np.empty(len(stored_OI), np.float32)
    for row in range(0, len(stored_OI), _BLOCK):
        block_BI = stored_OI[row : row + _BLOCK].astype(np.float32)
        scale_O[row : row + _BLOCK] = np.maximum(block_BI.max(axis=1), -block_BI.min(axis=1)) / LARGEST
    return np.where(scale_O == 0, np.float32(1), scale_O)


def quantise_into(out_IO: np.ndarray, stored_OI: np.ndarray, scale_O: np.ndarray) -> None:
    """Writes the int8 of `stored_OI.T` into `out_IO`; both may be parts of a tensor, of the same outputs and inputs."""
    for row in range(0, len(stored_OI), _BLOCK):
        block_BI = stored_OI[row : row + _BLOCK].astype(np.float32) / scale_O[row : row + _BLOCK, None]
        out_IO[:, row : row + _BLOCK] = np.rint(block_BI, out=block_BI).T
