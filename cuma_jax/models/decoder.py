"""One decoder for Llama 2/3.x, SmolLM2, Qwen2 and Qwen3, with LoRA experts on any of its linears.

The frozen base is the 'params' collection, everything trainable is 'adapters': two trees from birth. Layers run in
two scans, `frozen_layers` without experts and `adapted_layers` with them, so that the lower part can be computed once
per question when it does not depend on who is asking.

Shapes: B batch, T tokens, D model width, H query heads, G key/value heads, K head width, F MLP width, V vocabulary,
C profile width, X profile vectors of a row (absent where there is one, T in packed rows), G (in profiles) segments of a
packed row, E experts, L layers, S gathered positions a row, O options.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cuma_jax.config import AdapterConfig, RouterConfig
from cuma_jax.models.attention import Segments, attend, rotary_table, rotate
from cuma_jax.models.experts import Experts
from cuma_jax.models.families import DecoderConfig
from cuma_jax.models.profile_projection import ProfileProjection
from cuma_jax.models.router import RouterStats
from cuma_jax.sharding import constrain

# What 'dots' keeps from the forward pass: the products with the frozen weights; the rest is cheap to compute again.
REMAT_POLICIES = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """RMS norm over the last axis in float32, in the input's dtype. `scale` is that axis' weight."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + eps)
    return (y * scale.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


class Layer(nn.Module):
    """One pre-norm transformer layer; with `adapter`, its target linears carry experts.

    Attributes:
        config: shapes of the base.
        dtype: compute dtype, and the dtype of the frozen weights.
        attention: kernel name for `attend`.
        adapter: None for a layer that carries no experts.
        router: router settings.
        deterministic: no dropout.
    """

    config: DecoderConfig
    dtype: Any
    attention: str
    adapter: AdapterConfig | None
    router: RouterConfig
    deterministic: bool = True

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        rope: tuple[jax.Array, jax.Array],
        valid_BT: jax.Array | None,
        profile_BXC: jax.Array | None,
        segment_BT: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, dict[str, RouterStats]]]:
        """[B,T,D] in and out, and the routers' sums by group and router; `valid_BT` is needed only with experts."""
        c = self.config
        stats: dict[str, dict[str, RouterStats]] = {}
        heads, kv_heads = c.heads * c.head_dim, c.kv_heads * c.head_dim
        qkv = {"q": (heads, "heads"), "k": (kv_heads, "kv_heads"), "v": (kv_heads, "kv_heads")}

        def linears(x: jax.Array, axis: str, outputs: dict[str, tuple[int, str]], bias: bool) -> dict[str, jax.Array]:
            """The linears that share the input `x`, with their experts."""
            y = {name: self._linear(x, name, axis, out, out_axis, bias) for name, (out, out_axis) in outputs.items()}
            targets = {n: o for n, o in outputs.items() if self.adapter is not None and n in self.adapter.targets}
            if targets and self.adapter is not None and valid_BT is not None:
                group = "_".join(outputs)
                experts = Experts(self.adapter, self.router, targets, axis, name=f"{group}_experts")
                added, stats[group] = experts(x, profile_BXC, valid_BT, self.deterministic)
                y.update({name: y[name] + delta for name, delta in added.items()})
            return y

        h_BTD = rms_norm(x_BTD, self._scale("attn_norm", c.width), c.norm_eps)
        y = linears(h_BTD, "embed", qkv, c.qkv_bias)
        q_BTHK, k_BTGK, v_BTGK = (
            y[n].reshape(*x_BTD.shape[:2], -1, c.head_dim) for n in ("q", "k", "v")
        )  # fmt: skip
        if c.qk_norm:
            q_BTHK = rms_norm(q_BTHK, self._scale("q_norm", c.head_dim, None), c.norm_eps)
            k_BTGK = rms_norm(k_BTGK, self._scale("k_norm", c.head_dim, None), c.norm_eps)
        with jax.named_scope("attention"):
            a_BTHK = attend(rotate(q_BTHK, *rope), rotate(k_BTGK, *rope), v_BTGK, self.attention, segment_BT)
        a_BTF = a_BTHK.reshape(*x_BTD.shape[:2], heads)
        x_BTD = x_BTD + linears(a_BTF, "heads", {"o": (c.width, "embed")}, c.o_bias)["o"]
        x_BTD = constrain(x_BTD, "batch", "seq", "act_embed")

        h_BTD = rms_norm(x_BTD, self._scale("mlp_norm", c.width), c.norm_eps)
        with jax.named_scope("mlp"):
            y = linears(h_BTD, "embed", {"gate": (c.ffn, "mlp"), "up": (c.ffn, "mlp")}, c.mlp_bias)
            h_BTF = nn.silu(y["gate"]) * y["up"]
            x_BTD = x_BTD + linears(h_BTF, "mlp", {"down": (c.width, "embed")}, c.mlp_bias)["down"]
        return constrain(x_BTD, "batch", "seq", "act_embed"), stats

    def _frozen(self, name: str, init: Any, axes: tuple[str | None, ...], shape: tuple[int, ...]) -> jax.Array:
        weight: Any = self.param(name, nn.with_logical_partitioning(init, axes), shape, self.dtype)
        return weight

    def _scale(self, name: str, width: int, axis: str | None = "embed") -> jax.Array:
        return self._frozen(name, nn.initializers.ones, (axis,), (width,))

    def _linear(self, x: jax.Array, name: str, in_axis: str, out: int, out_axis: str, bias: bool) -> jax.Array:
        y = x @ self._frozen(name, nn.initializers.normal(0.02), (in_axis, out_axis), (x.shape[-1], out))
        if bias:
            y = y + self._frozen(f"{name}_bias", nn.initializers.zeros, (out_axis,), (out,))[None, None, :]
        return y


class Decoder(nn.Module):
    """The language model: embedding, frozen layers, adapted layers, logits where they are asked for.

    Attributes:
        config: shapes of the base.
        adapter: experts of the adapted layers; None: no layer carries any.
        router: router settings.
        projection_layers, projection_dim: trainable projection of the profile vector (0: none).
        profile_dropout: dropout on the profile vector.
        dtype: compute dtype.
        attention, remat: see `ModelConfig`.
        deterministic: no dropout.
    """

    config: DecoderConfig
    adapter: AdapterConfig | None = None
    router: RouterConfig = dataclasses.field(default_factory=RouterConfig)
    projection_layers: int = 0
    projection_dim: int = 128
    profile_dropout: float = 0.0
    dtype: Any = jnp.float32
    attention: str = "auto"
    remat: str = "none"
    deterministic: bool = True

    @property
    def n_adapted(self) -> int:
        """How many of the top layers carry experts."""
        if self.adapter is None:
            return 0
        return min(self.adapter.layers, self.config.layers) or self.config.layers

    @property
    def n_frozen(self) -> int:
        """How many layers lie below the first that carries experts."""
        return self.config.layers - self.n_adapted

    def setup(self) -> None:
        """Declares embedding, layers and final norm."""
        c = self.config
        table = nn.with_logical_partitioning(nn.initializers.normal(0.02), ("vocab", "embed"))
        self.embed: Any = self.param("embed", table, (c.vocab, c.width), self.dtype)
        norm = nn.with_logical_partitioning(nn.initializers.ones, ("embed",))
        self.final_norm: Any = self.param("final_norm", norm, (c.width,), self.dtype)
        self.unembed: Any = self.embed if c.tied else self.param("unembed", table, (c.vocab, c.width), self.dtype)
        if self.n_frozen:
            self.frozen_layers = self._stack(self.n_frozen, None)
        if self.n_adapted:
            self.adapted_layers = self._stack(self.n_adapted, self.adapter)
        if self.projection_layers:
            self.projection = ProfileProjection(self.projection_layers, self.projection_dim)
        self.drop_profile = nn.Dropout(self.profile_dropout, deterministic=self.deterministic)

    def _stack(self, length: int, adapter: AdapterConfig | None) -> nn.Module:
        layer = Layer
        if self.remat != "none":
            layer = nn.remat(Layer, policy=REMAT_POLICIES[self.remat], prevent_cse=False)
        scan = nn.scan(
            layer,
            variable_axes={"params": 0, "adapters": 0},
            split_rngs={"params": True, "adapters": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),
            length=length,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return scan(self.config, self.dtype, self.attention, adapter, self.router, self.deterministic)

    def lower(self, tokens_BT: jax.Array, segments: Segments | None = None) -> jax.Array:
        """Embedding and frozen layers, [B,T,D]: all that does not depend on the profile's vector."""
        x_BTD = constrain(self.embed[tokens_BT].astype(self.dtype), "batch", "seq", "act_embed")
        if self.n_frozen:
            rope = rotary_table(self.config, tokens_BT.shape[1], segments)
            segment_BT = None if segments is None else segments.segment_BT
            x_BTD, _ = self.frozen_layers(x_BTD, rope, None, None, segment_BT)
        return x_BTD

    def upper(
        self,
        x_BTD: jax.Array,
        lengths_B: jax.Array,
        profile_BXC: jax.Array | None,
        segments: Segments | None = None,
    ) -> tuple[jax.Array, dict[str, dict[str, RouterStats]]]:
        """Adapted layers, [B,T,D] before the final norm, and the routers' sums stacked over layers [L, ...].

        Args:
            x_BTD: from `lower`.
            lengths_B: valid tokens of each row.
            profile_BXC: one profile vector a row [B,C]; with `segments`, one a segment [B,G,C].
            segments: where several conversations share a row.
        """
        if not self.n_adapted:
            return x_BTD, {}
        valid_BT = jnp.arange(x_BTD.shape[1])[None, :] < lengths_B[:, None]
        segment_BT = None if segments is None else segments.segment_BT
        if profile_BXC is not None:
            profile_BXC = self.drop_profile(profile_BXC)
            if self.projection_layers:
                profile_BXC = self.projection(profile_BXC)
            if segment_BT is not None:
                profile_BXC = jnp.take_along_axis(profile_BXC, segment_BT[..., None], axis=1)
        rope = rotary_table(self.config, x_BTD.shape[1], segments)
        return self.adapted_layers(x_BTD, rope, valid_BT, profile_BXC, segment_BT)

    def __call__(
        self, tokens_BT: jax.Array, lengths_B: jax.Array, profile_BC: jax.Array | None
    ) -> tuple[jax.Array, dict[str, dict[str, RouterStats]]]:
        """Hidden states before the final norm [B,T,D], and the routers' sums.

        Args:
            tokens_BT: int32, padded on the right.
            lengths_B: valid tokens of each row.
            profile_BC: one profile vector a row, or None where no router sees it.
        """
        return self.upper(self.lower(tokens_BT), lengths_B, profile_BC)

    def hidden(self, tokens_BT: jax.Array, lengths_B: jax.Array) -> jax.Array:
        """Hidden states after the final norm, [B,T,D], of a decoder whose routers see no profile."""
        return rms_norm(self(tokens_BT, lengths_B, None)[0], self.final_norm, self.config.norm_eps)

    def gather(self, x_BTD: jax.Array, positions_BS: jax.Array) -> jax.Array:
        """Final-norm hidden states at the positions that need logits, [B,S,D]. Logits are never built elsewhere."""
        x_BSD = jnp.take_along_axis(x_BTD, positions_BS[..., None], axis=1)
        return rms_norm(x_BSD, self.final_norm, self.config.norm_eps)

    def unembedding(self) -> jax.Array:
        """One row a token, [V,D]."""
        return self.unembed

    def logits(self, h_BSD: jax.Array) -> jax.Array:
        """Logits over the vocabulary, float32 [B,S,V]."""
        return jnp.einsum("bsd,vd->bsv", h_BSD, self.unembed, preferred_element_type=jnp.float32)

    def option_logits(self, h_BD: jax.Array, tokens_BO: jax.Array) -> jax.Array:
        """Logits of a few tokens only, float32 [B,O]: one row of the unembedding for each."""
        rows_BOD = self.unembed[tokens_BO]
        return jnp.einsum("bd,bod->bo", h_BD, rows_BOD, preferred_element_type=jnp.float32)
