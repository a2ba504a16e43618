"""The router: gate weights over experts, from the text and the profile; and the profile's trainable projection.

Shapes: B batch, T tokens, I input width of the adapted linear, C profile width, M projected profile width, H router
hidden width, E experts, X profile vectors of a row (absent where there is one, T where each token has its own).
`T` in `gate_BTE` is 1 where the router sees only the profile: the gate is then one per sequence.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from cuma_jax.config import RouterConfig


@flax.struct.dataclass
class RouterStats:
    """Sums over valid tokens, from which the losses and the expert use are computed after all batches are summed."""

    selected_E: jax.Array  # how many of the K selections of each token fell on each expert, over K
    probability_E: jax.Array  # full-softmax probabilities (before top-K)
    gate_E: jax.Array  # gate weights (after top-K)
    z: jax.Array  # squared log-sum-exp of the logits
    count: jax.Array  # valid tokens
    gate_BE: jax.Array  # gate weights summed over the valid tokens of each sequence


def top_k_mask(logits_E: jax.Array, k: int) -> jax.Array:
    """Bool mask of the `k` largest entries on the last axis; of equal entries the first win (as argsort does).

    Counts for each entry how many beat it: E^2 comparisons instead of a sort, which is faster for E around 8 and
    splits over devices without communication.
    """
    size = logits_E.shape[-1]
    mine, other = logits_E[..., :, None], logits_E[..., None, :]
    index = jnp.arange(size)
    earlier_EE = index[None, :] < index[:, None]
    earlier_EE = jnp.broadcast_to(earlier_EE, (*logits_E.shape, size))
    beaten_by = jnp.sum((other > mine) | ((other == mine) & earlier_EE), axis=-1)
    return beaten_by < k


def gate_weights(logits_E: jax.Array, gate: str, k: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gate weights from router logits (float32), on the last axis; `gate`: see `RouterConfig.gate`.

    Returns:
        (gate, full softmax, selection mask), each [..., E]; the gate is exactly 0 off the selection.
    """
    probability_E = jax.nn.softmax(logits_E, axis=-1)
    if gate == "soft":
        return probability_E, probability_E, jnp.ones_like(logits_E, dtype=bool)
    mask_E = top_k_mask(jax.lax.stop_gradient(logits_E), k)
    if gate == "topk_unnormalised":
        return jnp.where(mask_E, probability_E, 0.0), probability_E, mask_E
    scores_E = logits_E if gate == "softmax_topk" else probability_E
    return jax.nn.softmax(jnp.where(mask_E, scores_E, -jnp.inf), axis=-1), probability_E, mask_E


def uniform_fan_in(fan_in: int) -> Callable[..., jax.Array]:
    """Uniform in +-1/sqrt(fan_in), the usual initialisation of a linear layer."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def trainable(module: nn.Module, name: str, init: Callable[..., Any], shape: tuple[int, ...], axes: Any) -> jax.Array:
    """A float32 variable of the 'adapters' collection, the one tree that is trained and saved.

    Its key comes from the 'adapters' stream, which only initialisation needs.
    """
    boxed = nn.with_logical_partitioning(init, axes)
    variable: Any = module.variable("adapters", name, lambda: boxed(module.make_rng("adapters"), shape, jnp.float32))
    return variable.value


class ProfileProjection(nn.Module):
    """One linear layer, or two with a ReLU between, from C to M; float32, in the 'adapters' collection."""

    layers: int
    dim: int

    @nn.compact
    def __call__(self, profile_BXC: jax.Array) -> jax.Array:
        """Projects the last axis, [B,C] to [B,M] or [B,G,C] to [B,G,M]."""
        for layer in range(self.layers):
            width = profile_BXC.shape[-1]
            axes = ("profile", "router_hidden") if layer == 0 else ("router_hidden", None)
            kernel = trainable(self, f"kernel_{layer}", uniform_fan_in(width), (width, self.dim), axes)
            bias = trainable(self, f"bias_{layer}", nn.initializers.zeros, (self.dim,), axes[1:])
            profile_BXC = profile_BXC @ kernel + bias.reshape((1,) * (profile_BXC.ndim - 1) + (-1,))
            if layer < self.layers - 1:
                profile_BXC = nn.relu(profile_BXC)
        return profile_BXC


class Router(nn.Module):
    """`s = MLP([x ; e])`, then a gate over experts. All in float32.

    The first layer is split, `W1 [x ; e] = W1x x + W1e e`: the profile's part is computed once per sequence.
    """

    config: RouterConfig
    experts: int
    input_axis: str  # logical axis of the width of `x`, taken from the adapted linear

    @nn.compact
    def __call__(
        self, x_BTI: jax.Array, profile_BXC: jax.Array | None, valid_BT: jax.Array, deterministic: bool
    ) -> tuple[jax.Array, RouterStats]:
        """gate_BTE float32 (T is 1 when only the profile is seen), and the sums for the balance loss.

        Args:
            x_BTI: input of the adapted linear, in the compute dtype.
            profile_BXC: one vector per row [B,C] or per token [B,T,C]; None where the router does not see them.
            valid_BT: bool, which tokens are not padding.
            deterministic: no dropout.
        """
        config = self.config
        sees_text, sees_profile = "hidden" in config.inputs, "profile" in config.inputs
        if not sees_profile:
            profile_BXC = None
        elif profile_BXC is None:
            raise ValueError(f"router.inputs is {config.inputs!r} but no profile vectors were given")
        drop = nn.Dropout(config.dropout, deterministic=deterministic)
        first = config.hidden_dim if config.layers > 1 else self.experts
        first_axis = "router_hidden" if config.layers > 1 else "experts"
        init = uniform_fan_in(x_BTI.shape[-1])
        s_BTH = trainable(self, "bias_0", init, (first,), (first_axis,))[None, None, :]
        if sees_text:
            kernel = trainable(self, "hidden_0", init, (x_BTI.shape[-1], first), (self.input_axis, first_axis))
            s_BTH = s_BTH + drop(x_BTI.astype(jnp.float32)) @ kernel
        if profile_BXC is not None:
            if profile_BXC.ndim == 2:
                profile_BXC = profile_BXC[:, None, :]
            # Unit scale by its own fan-in. Drawn as columns of one matrix with the wide hidden state, the profile
            # starts so faint that all profiles pick the same experts and the pooled answers are learned first: on e143,
            # 80 steps, EMD by country 0.034 this way and 0.053 that way (pooled answers 0.088).
            own = nn.initializers.normal(config.profile_scale * profile_BXC.shape[-1] ** -0.5)
            kernel = trainable(self, "profile_0", own, (profile_BXC.shape[-1], first), ("profile", first_axis))
            s_BTH = s_BTH + drop(profile_BXC.astype(jnp.float32)) @ kernel
        for layer in range(1, config.layers):
            last = layer == config.layers - 1
            shape = (config.hidden_dim, self.experts if last else config.hidden_dim)
            # A square kernel names its router_hidden axis once: one array may not split two ways over one mesh axis.
            axes = ("router_hidden", "experts") if last else ("router_hidden", None)
            kernel = trainable(self, f"hidden_{layer}", uniform_fan_in(shape[0]), shape, axes)
            bias = trainable(self, f"bias_{layer}", uniform_fan_in(shape[0]), shape[1:], axes[1:])
            s_BTH = drop(nn.relu(s_BTH)) @ kernel + bias[None, None, :]
        s_BTH = s_BTH / config.temperature
        gate_BTE, probability_BTE, mask_BTE = gate_weights(s_BTH, config.gate, config.top_k)
        return gate_BTE, _sums(gate_BTE, probability_BTE, mask_BTE, s_BTH, valid_BT)


def lookup_gate(profile_BXC: jax.Array | None, experts: int, valid_BT: jax.Array) -> tuple[jax.Array, RouterStats]:
    """The profile vectors as gates: each row's weights over experts, whoever wrote the table decides.

    Vectors are one per row [B,E] or one per token [B,T,E], each summing to 1. Returns gate_BTE float32 (T is 1 for one
    vector per row) and its sums; the logits are the gates' logarithms.
    """
    if profile_BXC is None or profile_BXC.shape[-1] != experts:
        found = "no profile vectors" if profile_BXC is None else f"profile vectors of width {profile_BXC.shape[-1]}"
        raise ValueError(f"router.inputs is 'lookup' with {experts} experts, but {found} were given")
    gate_BTE = (profile_BXC[:, None, :] if profile_BXC.ndim == 2 else profile_BXC).astype(jnp.float32)
    return gate_BTE, _sums(gate_BTE, gate_BTE, gate_BTE > 0, jnp.log(gate_BTE), valid_BT)


def _sums(
    gate_BTE: jax.Array, probability_BTE: jax.Array, mask_BTE: jax.Array, logits_BTE: jax.Array, valid_BT: jax.Array
) -> RouterStats:
    weight_BT = valid_BT.astype(jnp.float32)
    if gate_BTE.shape[1] == 1:  # the sequence's one gate stands for each of its tokens
        weight_BT = jnp.sum(weight_BT, axis=1, keepdims=True)
    selected_BTE = mask_BTE / jnp.sum(mask_BTE, axis=-1, keepdims=True)
    gate_BE = jnp.einsum("bte,bt->be", gate_BTE, weight_BT)
    return RouterStats(
        selected_E=jnp.einsum("bte,bt->e", selected_BTE, weight_BT),
        probability_E=jnp.einsum("bte,bt->e", probability_BTE, weight_BT),
        gate_E=jnp.sum(gate_BE, axis=0),
        z=jnp.sum(jax.nn.logsumexp(logits_BTE, axis=-1) ** 2 * weight_BT),
        count=jnp.sum(weight_BT),
        gate_BE=gate_BE,
    )
