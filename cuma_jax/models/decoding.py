"""The decoder with a cache: a prompt at once, then one token a row at a time.

The layers are those of `decoder`, with their own weights; what is kept are each layer's keys and values. Prompts are
padded on the right, so every row has its own length, and the cell of a token is its position.

Shapes: B batch, T tokens of a prompt, S cells of the cache, D model width, V vocabulary, C profile width, G key/value
heads, K head width, L layers of a stack.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from cuma_jax.config_checks import TARGETS
from cuma_jax.models.attention import Segments, rotary_table
from cuma_jax.models.cached_attention import Past
from cuma_jax.models.decoder import Decoder, Layer, with_offset
from cuma_jax.sharding import constrain

Tree = Any


@flax.struct.dataclass
class Kept:
    """Keys and values of a stack of layers: [L,B,G,S,K], or a list with one [B,G,S,K] a layer."""

    k: Any
    v: Any


@dataclasses.dataclass(frozen=True)
class Stack:
    """Layers that are alike.

    Attributes:
        layer: one of them, without weights.
        variables: `params` and `adapters` of all, stacked [L, ...], or a list with one tree a layer.
    """

    layer: Layer
    variables: Any


class CachedDecoder:
    """A decoder's weights, ready for prompts and single tokens.

    Meant to be made inside a jitted function, outside its loop.

    Args:
        decoder: without dropout.
        base, adapters: its variables.
        profile_BC: each row's profile vector, or None where no router sees it.
        cells: S, the most tokens a row can have.
        unroll: single tokens go through layers that have arrays of their own, turned (see `quantised.Turned`), instead
            of a scan over stacked ones: on a CPU, a scan inside a loop copies every layer's weights at every token.
            It holds the layers' weights twice.
    """

    def __init__(
        self, decoder: Decoder, base: Tree, adapters: Tree, profile_BC: jax.Array | None, cells: int, unroll: bool
    ):
        self.decoder, self.cells, self.unroll = decoder, cells, unroll
        self._variables = {"params": base, "adapters": adapters}
        self._profile_BC = None if profile_BC is None else self._call("routed", profile_BC)
        self._stacks: list[Stack] = []
        if decoder.n_frozen:
            self._stacks.append(Stack(Layer(**decoder.layer_fields(None)), {"params": base["frozen_layers"]}))
        if decoder.n_adapted:
            self._stacks.append(_adapted(decoder, base["adapted_layers"], adapters["adapted_layers"]))
        self._step_stacks = [_unrolled(stack) for stack in self._stacks] if unroll else self._stacks

    def _call(self, method: str, *args: Any) -> Any:
        return self.decoder.apply(self._variables, *args, method=method)

    def prefill(self, tokens_BT: jax.Array, lengths_B: jax.Array) -> tuple[jax.Array, list[Kept]]:
        """Logits after each row's last token, float32 [B,V], and the cache.

        Args:
            tokens_BT: int32, padded on the right; T is at most S.
            lengths_B: valid tokens of each row, at least 1.
        """
        length = tokens_BT.shape[1]
        rope = rotary_table(self.decoder.config, length)
        valid_BT = jnp.arange(length)[None, :] < lengths_B[:, None]

        def apply(layer: Layer, variables: Tree, x_BTD: jax.Array, _: None) -> tuple[jax.Array, Kept]:
            x_BTD, made = _layer(layer, variables, x_BTD, rope, valid_BT, self._profile_BC)
            room = ((0, 0), (0, 0), (0, self.cells - length), (0, 0))
            return x_BTD, jax.tree.map(lambda y: _laid_out(jnp.pad(y, room)), made)

        x_BTD, kept = self._call("embedded", tokens_BT), []
        for stack in self._stacks:
            x_BTD, new = _over_layers(stack, apply, x_BTD, None)
            kept.append(Kept(list(new.k), list(new.v)) if self.unroll else new)
        return self._logits(x_BTD, lengths_B[:, None] - 1), kept

    def step(self, tokens_B: jax.Array, position_B: jax.Array, kept: list[Kept]) -> tuple[jax.Array, list[Kept]]:
        """Logits after one more token a row, float32 [B,V], and the cache with it.

        Args:
            tokens_B: int32, the new tokens.
            position_B: int32, their positions: how many tokens the rows had, less than S.
            kept: the cache.
        """
        at = Segments(jnp.zeros_like(tokens_B)[:, None], position_B[:, None])
        rope = rotary_table(self.decoder.config, self.cells, at)
        valid_B1 = jnp.ones_like(tokens_B, bool)[:, None]

        def apply(layer: Layer, variables: Tree, x_B1D: jax.Array, old: Kept) -> tuple[jax.Array, Kept]:
            past = Past(old.k, old.v, position_B)
            return _layer(layer, variables, x_B1D, rope, valid_B1, self._profile_BC, past)

        x_B1D, found = self._call("embedded", tokens_B[:, None]), []
        for stack, old in zip(self._step_stacks, kept, strict=True):
            x_B1D, new = _over_layers(stack, apply, x_B1D, old)
            # Written after the layers, so that a scan does not carry a second copy of the whole cache through.
            found.append(jax.tree.map(lambda cache, one: _written(cache, one, position_B), old, new))
        return self._logits(x_B1D, jnp.zeros_like(position_B)[:, None]), found

    def _logits(self, x_BTD: jax.Array, positions_B1: jax.Array) -> jax.Array:
        h_BD = self._call("gather", x_BTD, positions_B1)[:, 0]
        # In this order: with few rows a CPU is twice as fast.
        logits_VB = jnp.tensordot(self._call("unembedding"), h_BD, (1, 1), preferred_element_type=jnp.float32)
        return logits_VB.T


def _adapted(decoder: Decoder, params: Tree, adapters: Tree) -> Stack:
    """The adapted layers. Where all of a layer is trained they are frozen ones with the sums, made once."""
    if decoder.adapter is not None and decoder.adapter.kind == "full":
        merged = {name: with_offset(weight, adapters.get(name)) for name, weight in params.items()}
        return Stack(Layer(**decoder.layer_fields(None)), {"params": merged})
    return Stack(Layer(**decoder.layer_fields(decoder.adapter)), {"params": params, "adapters": adapters})


def _unrolled(stack: Stack) -> Stack:
    """The same layers, each with arrays of its own."""
    layer, length = stack.layer, len(jax.tree.leaves(stack.variables)[0])
    layers = [jax.tree.map(lambda x, i=i: x[i], stack.variables) for i in range(length)]
    if layer.quantize != "none":
        return Stack(layer, layers)
    for variables in layers:
        variables["params"] = {n: w.T if n in TARGETS else w for n, w in variables["params"].items()}
    return Stack(layer.clone(turned=True), layers)


def _layer(layer: Layer, variables: Tree, x_BTD: jax.Array, *args: Any) -> tuple[jax.Array, Kept]:
    """One layer: its output, and the keys and values it made, heads first."""
    rope, valid_BT, profile_BC, *past = args
    (x_BTD, _), made = layer.apply(
        variables, x_BTD, rope, valid_BT, profile_BC, None, *past, mutable=["cache"]
    )  # fmt: skip
    k_BTGK, v_BTGK = (made["cache"][name][0] for name in ("k", "v"))
    return x_BTD, Kept(jnp.swapaxes(k_BTGK, 1, 2), jnp.swapaxes(v_BTGK, 1, 2))


def _over_layers(
    stack: Stack, apply: Callable[..., tuple[jax.Array, Kept]], x_BTD: jax.Array, kept: Kept | None
) -> tuple[jax.Array, Kept]:
    """`apply(layer, variables, x, its part of kept)` for one layer after the other; what they made, stacked alike."""
    if isinstance(stack.variables, list):
        ks, vs = [], []
        for i, variables in enumerate(stack.variables):
            old = None if kept is None else Kept(kept.k[i], kept.v[i])
            x_BTD, new = apply(stack.layer, variables, x_BTD, old)
            ks.append(new.k)
            vs.append(new.v)
        return x_BTD, Kept(ks, vs)
    return jax.lax.scan(lambda x, xs: apply(stack.layer, xs[0], x, xs[1]), x_BTD, (stack.variables, kept))


def _laid_out(cache: jax.Array) -> jax.Array:
    """[...,B,G,S,K], split over the mesh."""
    lead = (None,) * (cache.ndim - 4)
    return constrain(cache, *lead, "batch", "kv_heads", "seq", None)


def _written(cache: jax.Array, one: jax.Array, position_B: jax.Array) -> jax.Array:
    """The cache [...,B,G,S,K] with `one` [...,B,G,1,K] in each row's own cell."""
    row_B = jnp.arange(len(position_B))
    if cache.ndim == 4:
        return _laid_out(cache.at[row_B, :, position_B].set(one[:, :, 0]))
    return _laid_out(cache.at[:, row_B, :, position_B].set(jnp.moveaxis(one[:, :, :, 0], 1, 0)))
