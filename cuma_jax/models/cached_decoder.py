"""The decoder with a key/value cache: the whole prompt at once, then one token per row at a time.

The layers are those of `decoder`, with their own weights. Prompts are padded on the right, so every row has its own
length, and the slot of a token is its position.

Shapes: B batch, U texts, T tokens of a prompt, S slots of the cache, D model width, V vocabulary, C profile width, G
key/value heads, K head width, L layers of a stack.
"""

import copy
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from cuma_jax.config.checks import TARGETS
from cuma_jax.models.attention import Segments, rotary_table
from cuma_jax.models.decoder import Decoder, Layer, with_offset
from cuma_jax.models.kv_cache import KVCache, LayerCache, shard_cache
from cuma_jax.models.router import RouterStats

Tree = Any


@dataclasses.dataclass(frozen=True)
class Stack:
    """Layers that are alike."""

    layer: Layer  # one of them, without weights
    variables: Any  # `params` and `adapters` of all, stacked [L, ...], or a list with one tree per layer


class CachedDecoder:
    """A decoder's weights, ready for prompts and single tokens.

    Meant to be made inside a jitted function, outside its loop.

    Args:
        profile_BC: each row's profile vector, or None where no router sees it.
        slots: S, the most tokens that a row can have.
        unroll: single tokens go through layers that have arrays of their own, transposed (see `quantised.Transposed`),
            instead of a scan over stacked ones: on a CPU, a scan inside a loop copies every layer's weights at every
            token. It holds the layers' weights twice.
    """

    def __init__(
        self, decoder: Decoder, base: Tree, adapters: Tree, profile_BC: jax.Array | None, slots: int, unroll: bool
    ):
        self.decoder, self.slots, self.unroll = decoder, slots, unroll
        self._variables = {"params": base, "adapters": adapters}
        self._profile_BC = None if profile_BC is None else self._call("routed", profile_BC)
        self._stacks: list[Stack] = []
        self._frozen = int(decoder.n_frozen > 0)  # how many of the stacks are below the first adapted layer
        if decoder.n_frozen:
            self._stacks.append(Stack(Layer(**decoder.layer_fields(None)), {"params": base["frozen_layers"]}))
        if decoder.n_adapted:
            self._stacks.append(_adapted(decoder, base["adapted_layers"], adapters["adapted_layers"]))
        self._step_stacks = [_unrolled(stack) for stack in self._stacks] if unroll else self._stacks

    def repeated(self, times: int) -> "CachedDecoder":
        """The same weights for a batch in which every row stands `times` times, side by side."""
        other = copy.copy(self)
        other._profile_BC = None if self._profile_BC is None else jnp.repeat(self._profile_BC, times, axis=0)
        return other

    def _call(self, method: str, *args: Any) -> Any:
        return self.decoder.apply(self._variables, *args, method=method)

    def prefill(
        self, tokens_UT: jax.Array, lengths_B: jax.Array, text_B: jax.Array | None = None
    ) -> tuple[jax.Array, list[KVCache], jax.Array | None]:
        """Logits after each row's last token, float32 [B,V]; the cache; and the hidden states [U,T,D] below the first
        adapted layer (None where every layer is adapted).

        Args:
            tokens_UT: int32, padded on the right; T is at most S.
            lengths_B: valid tokens of each row, at least 1.
            text_B: int32, the text of each row, where several have the same one: the layers below the first adapted one
                do not see who is asked, and read each text once. None: row b has text b.
        """
        length = tokens_UT.shape[1]
        shared = (rotary_table(self.decoder.config, length), jnp.arange(length)[None, :] < lengths_B[:, None])
        room = ((0, 0), (0, 0), (0, self.slots - length), (0, 0))

        def read(layer: Layer, x_BTD: jax.Array, variables: Tree) -> tuple[jax.Array, list[jax.Array]]:
            x_BTD, made = _apply(layer, variables, x_BTD, *shared, self._profile_BC)
            return x_BTD, [shard_cache(jnp.pad(jnp.swapaxes(y_BTGK, 1, 2), room)) for y_BTGK in made]

        x_BTD, caches, below_UTD = self._call("embedded", tokens_UT), [], None
        for number, stack in enumerate(self._stacks):
            if number == self._frozen and text_B is not None:
                x_BTD = x_BTD[text_B]
            x_BTD, (k, v) = jax.lax.scan(functools.partial(read, stack.layer), x_BTD, stack.variables)
            if number < self._frozen:
                below_UTD = x_BTD
                if text_B is not None:
                    k, v = k[:, text_B], v[:, text_B]
            caches.append(KVCache(list(k), list(v)) if self.unroll else KVCache(k, v))
        if len(self._stacks) == self._frozen and text_B is not None:
            x_BTD = x_BTD[text_B]
        return self._logits(x_BTD, lengths_B[:, None] - 1), caches, below_UTD

    def step(
        self, tokens_B: jax.Array, position_B: jax.Array, caches: list[KVCache]
    ) -> tuple[jax.Array, list[KVCache], jax.Array | None]:
        """Logits after one more token per row, float32 [B,V]; the cache with it; and the token's hidden states [B,D]
        below the first adapted layer (None where every layer is adapted).

        `position_B` are the new tokens' positions: how many tokens the rows had, less than S.
        """
        at = Segments(jnp.zeros_like(tokens_B)[:, None], position_B[:, None])
        shared = (rotary_table(self.decoder.config, self.slots, at), jnp.ones_like(tokens_B, bool)[:, None])

        def write(layer: Layer, x_B1D: jax.Array, variables: Tree, k: Any, v: Any, i: Any = None) -> Any:
            cache = LayerCache(k, v, position_B, i)
            x_B1D, made = _apply(layer, variables, x_B1D, *shared, self._profile_BC, cache)
            return x_B1D, *made

        def scanned(layer: Layer, carry: Any, xs: Any) -> Any:
            return write(layer, carry[0], xs[0], carry[1], carry[2], xs[1]), None

        x_B1D, found, below_BD = self._call("embedded", tokens_B[:, None]), [], None
        for number, (stack, old) in enumerate(zip(self._step_stacks, caches, strict=True)):
            k, v = old.k, old.v
            if isinstance(stack.variables, list):
                k, v = list(k), list(v)
                for i, variables in enumerate(stack.variables):
                    x_B1D, k[i], v[i] = write(stack.layer, x_B1D, variables, k[i], v[i])
            else:
                # The whole cache goes from layer to layer, and each one writes its part in place.
                layers = (stack.variables, jnp.arange(len(k)))
                (x_B1D, k, v), _ = jax.lax.scan(functools.partial(scanned, stack.layer), (x_B1D, k, v), layers)
            found.append(KVCache(k, v))
            if number < self._frozen:
                below_BD = x_B1D[:, 0]
        return self._logits(x_B1D, jnp.zeros_like(position_B)[:, None]), found, below_BD

    def _logits(self, x_BTD: jax.Array, positions_B1: jax.Array) -> jax.Array:
        h_BD = self._call("at_positions", x_BTD, positions_B1)[:, 0]
        # In this order a CPU is twice as fast with few rows; the compiler would turn it round again.
        logits_VB = jnp.tensordot(self._call("unembedding"), h_BD, (1, 1), preferred_element_type=jnp.float32)
        return jax.lax.optimization_barrier(logits_VB).T


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
    return Stack(layer.clone(transposed=True), layers)


def _apply(
    layer: Layer,
    variables: Tree,
    x_BTD: jax.Array,
    rope: tuple[jax.Array, jax.Array],
    valid_BT: jax.Array,
    profile_BC: jax.Array | None,
    cache: LayerCache | None = None,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """One layer: its output, and the keys and values that it made, or the cached ones with them."""
    (x_BTD, _), made = layer.apply(variables, x_BTD, rope, valid_BT, profile_BC, None, cache, mutable=["cache"])
    return x_BTD, made["cache"]["kv"][0]


def last_positions(
    decoder: Decoder, base: Tree, adapters: Tree, x_BTD: jax.Array, lengths_B: jax.Array, profile_BC: jax.Array | None
) -> tuple[jax.Array, list[dict[str, dict[str, RouterStats]]]]:
    """What `Decoder.upper` gives at each row's last token, [B,D] before the final norm, and each layer's router sums.

    In the last layer only keys and values are computed for every token; the rest, for the last one alone. At least one
    layer must be adapted.
    """
    variables = {"params": base, "adapters": adapters}
    if profile_BC is not None:
        profile_BC = decoder.apply(variables, profile_BC, method="routed")  # type: ignore[assignment]
    stack = _adapted(decoder, base["adapted_layers"], adapters["adapted_layers"])
    valid_BT = jnp.arange(x_BTD.shape[1])[None, :] < lengths_B[:, None]
    shared = (rotary_table(decoder.config, x_BTD.shape[1]), valid_BT)
    found = []
    for number in range(decoder.n_adapted):
        layer = jax.tree.map(lambda x, i=number: x[i], stack.variables)
        (y_BTD, stats), made = stack.layer.apply(layer, x_BTD, *shared, profile_BC, None, None, mutable=["cache"])
        found.append(stats)
        if number < decoder.n_adapted - 1:
            x_BTD = y_BTD
    # The last layer's output at other tokens is not used, so that the compiler leaves it out.
    k_BGSK, v_BGSK = (jnp.swapaxes(y_BTGK, 1, 2) for y_BTGK in made["cache"]["kv"][0])
    position_B = lengths_B - 1
    at = Segments(jnp.zeros_like(position_B)[:, None], position_B[:, None])
    x_B1D = jnp.take_along_axis(x_BTD, position_B[:, None, None], axis=1)
    here = (rotary_table(decoder.config, x_BTD.shape[1], at), jnp.ones_like(position_B, bool)[:, None])
    x_B1D, _ = _apply(stack.layer, layer, x_B1D, *here, profile_BC, LayerCache(k_BGSK, v_BGSK, position_B))
    return x_B1D[:, 0], found
