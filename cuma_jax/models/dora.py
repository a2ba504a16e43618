"""DoRA: one LoRA expert and a trained magnitude for every output (Liu et al., 2024, arXiv:2402.09353).

The adapted weight is `m (W0 + s A B) / ||W0 + s A B||`, the norm over the inputs of each output, which the backward
pass takes as a constant (section 4.3 there). The magnitude is held as its ratio to `||W0||` less one, so a fresh one is
zero. With `f = m / ||W0 + s A B||` the layer adds `(f - 1) x W0 + f s x A B` to what the frozen linear gives; its bias
is not scaled. Dropout falls on the input of A alone.

Shapes: B batch, T tokens, I input width, O output width, R rank.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from cuma_jax.config import AdapterConfig
from cuma_jax.models.experts import lora_scale
from cuma_jax.models.router import trainable, uniform_fan_in


def relative_norm(w_IO: jax.Array, a_IR: jax.Array, b_RO: jax.Array, scale: float) -> jax.Array:
    """`||W + scale A B|| / ||W||` of each output, float32 [O]; exactly 1 where B is zero.

    The square is multiplied out, so that no second array of W's size is made and the terms with B vanish exactly.
    """
    w_IO = w_IO.astype(jnp.float32)
    squared_O = jnp.maximum(jnp.sum(w_IO * w_IO, axis=0), jnp.finfo(jnp.float32).tiny)
    cross_O = jnp.sum((a_IR.T @ w_IO) * b_RO, axis=0)
    added_O = jnp.sum((a_IR.T @ a_IR @ b_RO) * b_RO, axis=0)
    ratio_O = 1 + (2 * scale * cross_O + scale**2 * added_O) / squared_O
    return jnp.sqrt(jnp.maximum(ratio_O, 1e-6))  # rounding may take a column that nearly vanished below zero


class Dora(nn.Module):
    """What DoRA adds to every adapted linear that reads the same input; nothing, bit for bit, while untrained."""

    adapter: AdapterConfig
    outputs: Mapping[str, tuple[int, str]]  # adapted linear -> (output width, logical axis of it)
    input_axis: str  # logical axis of the input width, from the base weight

    @nn.compact
    def __call__(
        self, x_BTI: jax.Array, frozen: Mapping[str, tuple[jax.Array, jax.Array]], deterministic: bool
    ) -> dict[str, jax.Array]:
        """Adapted linear -> [B,T,O] to add to its frozen output.

        `frozen` is adapted linear -> (its frozen weight [I,O], `x` times it [B,T,O] without the bias).
        """
        width, rank, scale, dtype = x_BTI.shape[-1], self.adapter.rank, lora_scale(self.adapter), x_BTI.dtype
        dropped_BTI = nn.Dropout(self.adapter.dropout, deterministic=deterministic)(x_BTI)
        added = {}
        for name, (out, out_axis) in self.outputs.items():
            a_IR = trainable(self, f"{name}_a", uniform_fan_in(width), (width, rank), (self.input_axis, "rank"))
            b_RO = trainable(self, f"{name}_b", nn.initializers.zeros, (rank, out), ("rank", out_axis))
            magnitude_O = trainable(self, f"{name}_magnitude", nn.initializers.zeros, (out,), (out_axis,))
            w_IO, y_BTO = frozen[name]
            # Stopped before the norm: after it, the backward pass would still keep what the norm's own would need.
            stopped_IR, stopped_RO = jax.lax.stop_gradient((a_IR, b_RO))
            f_O = (1 + magnitude_O) / relative_norm(w_IO, stopped_IR, stopped_RO, scale)
            lora_BTO = dropped_BTI @ a_IR.astype(dtype) @ b_RO.astype(dtype)
            added[name] = (f_O - 1).astype(dtype)[None, None] * y_BTO + (scale * f_O).astype(dtype)[
                None, None
            ] * lora_BTO
        return added
