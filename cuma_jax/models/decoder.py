"""One decoder for Llama 2/3.x, SmolLM2, Qwen2 and Qwen3, with LoRA experts on any of its linears, or another adapter.

The frozen base is the 'params' collection, everything trainable is 'adapters': two trees from birth. Layers run in two
scans, `frozen_layers` and `adapted_layers`; the lower part does not depend on who asks, and is run once per question.

Shapes: B batch, T tokens, D model width, H query heads, G key/value heads, K head width, F MLP width, V vocabulary,
C profile width, X profile vectors of a row (absent where there is one, T in packed rows), G (in profiles) segments of a
packed row, E experts, L layers, S positions of a row that need logits, O options, P virtual tokens of a prefix.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.config import AdapterConfig, RouterConfig
from cuma_jax.models.attention import Segments, attend, rotary_table, rotate
from cuma_jax.models.dora import Dora
from cuma_jax.models.experts import Experts
from cuma_jax.models.families import DecoderConfig
from cuma_jax.models.kv_cache import LayerCache, attend_to_cache
from cuma_jax.models.quantised import Int8, Transposed, Weight, as_float, product
from cuma_jax.models.router import ProfileProjection, RouterStats, trainable
from cuma_jax.runtime.sharding import constrain

REMAT_POLICIES = {
    # Keeps the products with the frozen weights; the rest is cheap to compute again.
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """RMS norm over the last axis in float32, in the input's dtype. `scale` is that axis' weight."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + eps)
    return (y * scale.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


def with_offset(weight: jax.Array, offset: jax.Array | None) -> jax.Array:
    """A frozen weight and its float32 offset, added in float32, in the weight's dtype."""
    return weight if offset is None else (weight.astype(jnp.float32) + offset).astype(weight.dtype)


class Layer(nn.Module):
    """One pre-norm transformer layer; with `adapter`, what is trained beside it."""

    config: DecoderConfig
    dtype: Any  # compute dtype, and the dtype of the frozen weights
    attention: str
    adapter: AdapterConfig | None  # None for a layer that is only frozen
    router: RouterConfig
    deterministic: bool = True
    quantize: str = "none"  # how the linears are stored, see `ModelConfig.quantize`
    transposed: bool = False  # the linears' weights are given as [O,I], see `quantised.Transposed`; not with int8

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        rope: tuple[jax.Array, jax.Array],
        valid_BT: jax.Array | None,
        profile_BXC: jax.Array | None,
        segment_BT: jax.Array | None = None,
        cache: LayerCache | None = None,
    ) -> tuple[jax.Array, dict[str, dict[str, RouterStats]]]:
        """[B,T,D] in and out, and the routers' sums by group and router; `valid_BT` is needed only with experts.

        With `cache`, T is 1: each row's next token, which attends to the cached tokens before it. The collection
        'cache', where it is mutable, gets the keys and values [B,T,G,K], or the cached ones with them.
        """
        c = self.config
        stats: dict[str, dict[str, RouterStats]] = {}
        heads, kv_heads = c.heads * c.head_dim, c.kv_heads * c.head_dim
        qkv = {"q": (heads, "heads"), "k": (kv_heads, "kv_heads"), "v": (kv_heads, "kv_heads")}

        def linears(x: jax.Array, axis: str, outputs: dict[str, tuple[int, str]], bias: bool) -> dict[str, jax.Array]:
            """The linears that share the input `x`, with what their adapters add."""
            weights, products, y = {}, {}, {}
            for name, (out, out_axis) in outputs.items():
                weights[name] = self._linear(name, (axis, out_axis), (x.shape[-1], out))
                y[name] = products[name] = product(x, weights[name])
                if bias:
                    bias_O = self._base(f"{name}_bias", nn.initializers.zeros, (out_axis,), (out,))
                    y[name] = y[name] + bias_O[None, None, :]
            group = "_".join(outputs)
            targets = {n: o for n, o in outputs.items() if self.adapter is not None and n in self.adapter.targets}
            if not targets or self.adapter is None or valid_BT is None:
                return y
            added: dict[str, jax.Array] = {}
            if self.adapter.kind == "lora":
                experts = Experts(self.adapter, self.router, targets, axis, name=f"{group}_experts")
                added, stats[group] = experts(x, profile_BXC, valid_BT, self.deterministic)
            elif self.adapter.kind == "dora":
                dora = Dora(self.adapter, targets, axis, name=f"{group}_dora")
                added = dora(x, {n: (as_float(weights[n]), products[n]) for n in targets}, self.deterministic)
            y.update({name: y[name] + delta for name, delta in added.items()})
            return y

        h_BTD = rms_norm(x_BTD, self._scale("attn_norm", c.width), c.norm_eps)
        y = linears(h_BTD, "embed", qkv, c.qkv_bias)
        q_BTHK, k_BTGK, v_BTGK = (y[n].reshape(*x_BTD.shape[:2], -1, c.head_dim) for n in ("q", "k", "v"))
        if c.qk_norm:
            q_BTHK = rms_norm(q_BTHK, self._scale("q_norm", c.head_dim, None), c.norm_eps)
            k_BTGK = rms_norm(k_BTGK, self._scale("k_norm", c.head_dim, None), c.norm_eps)
        with jax.named_scope("attention"):
            q_BTHK, k_BTGK = rotate(q_BTHK, *rope), rotate(k_BTGK, *rope)
            if cache is None:
                a_BTHK = attend(q_BTHK, k_BTGK, v_BTGK, self.attention, segment_BT, self._prefix())
            else:
                a_BTHK, k_BTGK, v_BTGK = attend_to_cache(q_BTHK, k_BTGK, v_BTGK, cache, self._prefix())
            self.sow("cache", "kv", (k_BTGK, v_BTGK))
        a_BTF = a_BTHK.reshape(*x_BTD.shape[:2], heads)
        x_BTD = x_BTD + linears(a_BTF, "heads", {"o": (c.width, "embed")}, c.o_bias)["o"]
        x_BTD = constrain(x_BTD, "batch", "seq", "act_embed")

        h_BTD = rms_norm(x_BTD, self._scale("mlp_norm", c.width), c.norm_eps)
        with jax.named_scope("mlp"):
            y = linears(h_BTD, "embed", {"gate": (c.ffn, "mlp"), "up": (c.ffn, "mlp")}, c.mlp_bias)
            h_BTF = nn.silu(y["gate"]) * y["up"]
            x_BTD = x_BTD + linears(h_BTF, "mlp", {"down": (c.width, "embed")}, c.mlp_bias)["down"]
        return constrain(x_BTD, "batch", "seq", "act_embed"), stats

    def _prefix(self) -> tuple[jax.Array, jax.Array] | None:
        """Trained keys and values [P,G,K] before the text (Liu et al., 2022, P-Tuning v2, without a reparametrisation).

        Keys start at unit variance, so that virtual tokens draw different tokens' attention and become different
        things; values start near zero, so that at first the prefix only takes attention away.
        """
        if self.adapter is None or self.adapter.kind != "prefix":
            return None
        shape = (self.adapter.prefix_length, self.config.kv_heads, self.config.head_dim)
        axes = (None, "kv_heads", None)
        k_PGK = trainable(self, "prefix_k", nn.initializers.normal(1.0), shape, axes)
        return k_PGK, trainable(self, "prefix_v", nn.initializers.normal(0.02), shape, axes)

    def _linear(self, name: str, axes: tuple[str, str], shape: tuple[int, int]) -> Weight:
        if self.transposed:
            return Transposed(self._base(name, nn.initializers.normal(0.02), axes[::-1], shape[::-1]))
        if self.quantize == "none":
            return self._base(name, nn.initializers.normal(0.02), axes, shape)
        box = nn.with_logical_partitioning
        q_IO: Any = self.param(name, box(nn.initializers.zeros, axes), shape, jnp.int8)
        scale_O: Any = self.param(f"{name}_scale", box(nn.initializers.ones, axes[1:]), shape[1:], jnp.float32)
        return Int8(q_IO, scale_O)

    def _base(self, name: str, init: Any, axes: tuple[str | None, ...], shape: tuple[int, ...]) -> jax.Array:
        """A weight of the base, with its trained offset where all of the layer is trained."""
        weight: Any = self.param(name, nn.with_logical_partitioning(init, axes), shape, self.dtype)
        if self.adapter is not None and self.adapter.kind == "full":
            return with_offset(weight, trainable(self, name, nn.initializers.zeros, shape, axes))
        return weight

    def _scale(self, name: str, width: int, axis: str | None = "embed") -> jax.Array:
        return self._base(name, nn.initializers.ones, (axis,), (width,))


class Decoder(nn.Module):
    """The language model: embedding, frozen layers, adapted layers, logits where they are asked for."""

    config: DecoderConfig
    adapter: AdapterConfig | None = None  # what is trained in the adapted layers; None, or kind none: none is adapted
    router: RouterConfig = dataclasses.field(default_factory=RouterConfig)
    projection_layers: int = 0  # of the trainable projection of the profile vector; 0: none
    projection_dim: int = 128
    profile_dropout: float = 0.0
    field_dropout: float = 0.0  # probability that a field's block of the profile vector is set to zero
    field_widths: tuple[int, ...] = ()  # columns of each block
    dtype: Any = jnp.float32
    attention: str = "auto"
    remat: str = "none"
    deterministic: bool = True
    quantize: str = "none"

    @property
    def n_adapted(self) -> int:
        """How many of the top layers are adapted."""
        if self.adapter is None or self.adapter.kind == "none":
            return 0
        return min(self.adapter.layers, self.config.layers) or self.config.layers

    @property
    def n_frozen(self) -> int:
        """How many layers lie below the first adapted one."""
        return self.config.layers - self.n_adapted

    def setup(self) -> None:
        """Declares embedding, layers and final norm."""
        c = self.config
        self.embed, self.embed_offset = self._top("embed", nn.initializers.normal(0.02), c.vocab)
        self.final_norm = with_offset(*self._top("final_norm", nn.initializers.ones))
        self.unembed, self.unembed_offset = self.embed, self.embed_offset
        if not c.tied:
            self.unembed, self.unembed_offset = self._top("unembed", nn.initializers.normal(0.02), c.vocab)
        if self.n_frozen:
            self.frozen_layers = self._stack(self.n_frozen, None)
        if self.n_adapted:
            self.adapted_layers = self._stack(self.n_adapted, self.adapter)
        if self.projection_layers:
            self.projection = ProfileProjection(self.projection_layers, self.projection_dim)
        self.drop_profile = nn.Dropout(self.profile_dropout, deterministic=self.deterministic)

    def _top(self, name: str, init: Any, *rows: int) -> tuple[Any, jax.Array | None]:
        """A weight outside the layers (a row per token, or one in all), and its offset where all is trained."""
        shape, axes = (*rows, self.config.width), ("vocab", "embed")[-1 - len(rows) :]
        weight = self.param(name, nn.with_logical_partitioning(init, axes), shape, self.dtype)
        if self.adapter is None or self.adapter.kind != "full" or self.adapter.layers:
            return weight, None
        return weight, trainable(self, name, nn.initializers.zeros, shape, axes)

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
        return scan(**self.layer_fields(adapter))

    def layer_fields(self, adapter: AdapterConfig | None) -> dict[str, Any]:
        """The attributes of a layer with what `adapter` trains (None: a frozen one)."""
        names = ("config", "dtype", "attention", "router", "deterministic", "quantize")
        return {"adapter": adapter} | {name: getattr(self, name) for name in names}

    def lower(self, tokens_BT: jax.Array, segments: Segments | None = None) -> jax.Array:
        """Embedding and frozen layers, [B,T,D]: all that does not depend on the profile's vector."""
        x_BTD = self.embedded(tokens_BT)
        if self.n_frozen:
            rope = rotary_table(self.config, tokens_BT.shape[1], segments)
            segment_BT = None if segments is None else segments.segment_BT
            x_BTD, _ = self.frozen_layers(x_BTD, rope, None, None, segment_BT)
        return x_BTD

    def embedded(self, tokens_BT: jax.Array) -> jax.Array:
        """What the first layer reads, [B,T,D]."""
        x_BTD = _rows(self.embed, self.embed_offset, tokens_BT)
        return constrain(x_BTD.astype(self.dtype), "batch", "seq", "act_embed")

    def upper(
        self,
        x_BTD: jax.Array,
        lengths_B: jax.Array,
        profile_BXC: jax.Array | None,
        segments: Segments | None = None,
    ) -> tuple[jax.Array, dict[str, dict[str, RouterStats]]]:
        """Adapted layers, [B,T,D] before the final norm, and the routers' sums stacked over layers [L, ...].

        `profile_BXC` is one profile vector per row [B,C]; with `segments`, one per segment [B,G,C] where they differ.
        """
        if not self.n_adapted:
            return x_BTD, {}
        valid_BT = jnp.arange(x_BTD.shape[1])[None, :] < lengths_B[:, None]
        segment_BT = None if segments is None else segments.segment_BT
        if profile_BXC is not None:
            profile_BXC = self.routed(profile_BXC)
            if segment_BT is not None and profile_BXC.ndim == 3:
                profile_BXC = jnp.take_along_axis(profile_BXC, segment_BT[..., None], axis=1)
        rope = rotary_table(self.config, x_BTD.shape[1], segments)
        return self.adapted_layers(x_BTD, rope, valid_BT, profile_BXC, segment_BT)

    def routed(self, profile_BXC: jax.Array) -> jax.Array:
        """Profile vectors as routers see them: after dropout and projection."""
        if self.router.inputs != "lookup":  # there the vector is the gate
            profile_BXC = self.drop_profile(self._drop_fields(profile_BXC))
        return self.projection(profile_BXC) if self.projection_layers else profile_BXC

    def _drop_fields(self, profile_BXC: jax.Array) -> jax.Array:
        """Profile vectors with some of their blocks at zero; not scaled up, as a field that was not asked is not."""
        if self.deterministic or not self.field_dropout:
            return profile_BXC
        shape = (*profile_BXC.shape[:-1], len(self.field_widths))
        keep_BXF = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.field_dropout, shape)
        field_C = np.repeat(np.arange(len(self.field_widths)), self.field_widths)
        return jnp.where(keep_BXF[..., field_C], profile_BXC, 0.0)

    def __call__(
        self, tokens_BT: jax.Array, lengths_B: jax.Array, profile_BC: jax.Array | None
    ) -> tuple[jax.Array, dict[str, dict[str, RouterStats]]]:
        """Hidden states before the final norm [B,T,D], and the routers' sums.

        `tokens_BT` are padded on the right; `profile_BC` is one vector per row, or None where no router sees it.
        """
        return self.upper(self.lower(tokens_BT), lengths_B, profile_BC)

    def hidden(self, tokens_BT: jax.Array, lengths_B: jax.Array) -> jax.Array:
        """Hidden states after the final norm, [B,T,D], of a decoder whose routers see no profile."""
        return rms_norm(self(tokens_BT, lengths_B, None)[0], self.final_norm, self.config.norm_eps)

    def at_positions(self, x_BTD: jax.Array, positions_BS: jax.Array) -> jax.Array:
        """Final-norm hidden states at the positions that need logits, [B,S,D]. Logits are never built elsewhere."""
        x_BSD = jnp.take_along_axis(x_BTD, positions_BS[..., None], axis=1)
        return rms_norm(x_BSD, self.final_norm, self.config.norm_eps)

    def unembedding(self) -> jax.Array:
        """One row per token, [V,D]."""
        return with_offset(self.unembed, self.unembed_offset)

    def logits(self, h_BSD: jax.Array) -> jax.Array:
        """Logits over the vocabulary, float32 [B,S,V]."""
        return jnp.einsum("bsd,vd->bsv", h_BSD, self.unembedding(), preferred_element_type=jnp.float32)

    def option_logits(self, h_BD: jax.Array, tokens_BO: jax.Array) -> jax.Array:
        """Logits of a few tokens only, float32 [B,O]: one row of the unembedding for each."""
        rows_BOD = _rows(self.unembed, self.unembed_offset, tokens_BO)
        return jnp.einsum("bd,bod->bo", h_BD, rows_BOD, preferred_element_type=jnp.float32)


def _rows(table_VD: jax.Array, offset_VD: jax.Array | None, tokens: jax.Array) -> jax.Array:
    """Rows of a table and of its offset, added after they are picked: the whole sum is never made."""
    return with_offset(table_VD[tokens], None if offset_VD is None else offset_VD[tokens])
