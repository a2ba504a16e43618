"""A trainable projection between the profile table and the routers.

Shapes: B batch, C profile width, M projection width.
"""

import flax.linen as nn
import jax

from cuma_jax.models.router import trainable, uniform_fan_in


class ProfileProjection(nn.Module):
    """One linear layer, or two with a ReLU between, from C to M; float32, in the 'adapters' collection.

    Attributes:
        layers: 1 or 2.
        dim: M.
    """

    layers: int
    dim: int

    @nn.compact
    def __call__(self, profile_BC: jax.Array) -> jax.Array:
        """Projects the last axis, [B,C] to [B,M] or [B,G,C] to [B,G,M]."""
        for layer in range(self.layers):
            width = profile_BC.shape[-1]
            axes = ("profile", "router_hidden") if layer == 0 else ("router_hidden", None)
            kernel = trainable(self, f"kernel_{layer}", uniform_fan_in(width), (width, self.dim), axes)
            bias = trainable(self, f"bias_{layer}", nn.initializers.zeros, (self.dim,), axes[1:])
            profile_BC = profile_BC @ kernel + bias.reshape((1,) * (profile_BC.ndim - 1) + (-1,))
            if layer < self.layers - 1:
                profile_BC = nn.relu(profile_BC)
        return profile_BC
