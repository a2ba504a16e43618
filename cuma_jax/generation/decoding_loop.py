"""Prompts in, replies out: one compiled function for each shape of a batch.

The prompt fills the cache; a loop then writes one token per row, and ends when every row has ended its turn. Routers
see the profile at every token. A row's keys are its own, folded with the number of the token, so that what it says does
not depend on who else is in the batch. Where several replies to each prompt are wanted, a prompt is read once.

Shapes: B rows, T tokens of a prompt, N most new tokens, V vocabulary, P profiles, C profile width.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cuma_jax.config import SamplingConfig
from cuma_jax.generation.sampling import next_tokens
from cuma_jax.models.cached_decoder import CachedDecoder, KVCache
from cuma_jax.models.decoder import Decoder
from cuma_jax.runtime.sharding import batch_sharding, constrain, put_batch, replicated

Tree = Any
_SHORT = 8
"""Tokens of a reply up to which transposing the weights costs a CPU more than it saves."""


@flax.struct.dataclass
class Generated:
    """Replies.

    Log-probabilities are those of each token over the whole vocabulary, at the temperature it was drawn with (0: at 1),
    before top-k and top-p. Where they are asked for, there are hidden states below the first adapted layer, of the
    prompts' texts and of the replies' tokens (but the last): a forward pass over the same tokens can begin with them.
    """

    tokens_BN: jax.Array  # int32; a reply's end of turn is part of it, `pad_id` comes after it
    logp_BN: jax.Array  # float32; 0 after the end
    length_B: jax.Array  # int32, tokens written, the end of turn included
    stopped_B: jax.Array  # bool, whether the end of turn was written; otherwise the reply was cut
    prompt_UTD: Any = None
    reply_BND: Any = None


@flax.struct.dataclass
class _State:
    step: jax.Array  # tokens written so far
    last_B: jax.Array
    caches: list[KVCache]
    out: Generated


def make_generate(
    decoder: Decoder,
    sampling: SamplingConfig,
    end_ids: tuple[int, ...],
    pad_id: int,
    mesh: Mesh,
    adapter_shardings: Tree,
    base_shardings: Tree,
    unroll: bool | None = None,
    samples: int = 1,
    keep_below: bool = False,
) -> Callable[[Tree, Tree, jax.Array | None, Mapping[str, Any]], Generated]:
    """A function (base, adapters, profile_PC, batch) -> Generated, compiled once for each shape of a batch.

    Args:
        decoder: without dropout.
        mesh: rows are split over data and fsdp, heads over tensor.
        adapter_shardings, base_shardings: of the function's arguments.
        unroll: see `CachedDecoder`; None: on a CPU, where replies may be long enough to pay for it.
        samples: replies to each prompt, side by side in what is returned.
        keep_below: also return the hidden states below the first adapted layer; there must be a layer below.

    The function's arguments:
        profile_PC: profile vectors; None where no router sees them.
        batch: tokens int32 [B,T], prompts padded on the right; lengths int32 [B], 0 for a row that only fills the
            batch up (nothing is written for it); profile int32 [B], rows of profile_PC; key uint32 [B,2], or one for
            each reply [B*samples,2], the `jax.random.key_data` of each reply's key. On the devices, or numpy arrays of
            this process's rows. With `text` int32 [B] tokens are [U,T], and row b has text `text[b]`.

    It returns `Generated`, whole on every device.
    """
    if unroll is None:
        unroll = mesh.devices.flat[0].platform == "cpu" and sampling.max_new_tokens > _SHORT
    whole = replicated(mesh)

    def run(base: Tree, adapters: Tree, profile_PC: jax.Array | None, batch: dict[str, jax.Array]) -> Generated:
        tokens_BT, lengths_B, most = batch["tokens"], batch["lengths"], sampling.max_new_tokens
        profile_BC = None if profile_PC is None else profile_PC[batch["profile"]]
        slots = tokens_BT.shape[1] + most
        model = CachedDecoder(decoder, base, adapters, profile_BC, slots, unroll)
        logits_BV, caches, prompt_UTD = model.prefill(tokens_BT, lengths_B, batch.get("text"))
        if samples > 1:
            logits_BV, lengths_B = (jnp.repeat(x, samples, axis=0) for x in (logits_BV, lengths_B))
            caches = jax.tree.map(lambda x: jnp.repeat(x, samples, axis=-4), caches)
            model = model.repeated(samples)
        key_B = jax.random.wrap_key_data(batch["key"], impl="threefry2x32")

        def write(step: jax.Array, logits_BV: jax.Array, out: Generated) -> tuple[jax.Array, Generated]:
            """The next token of every row, and the replies with it."""
            step_key_B = jax.vmap(jax.random.fold_in, (0, None))(key_B, step)
            token_B, logp_B = next_tokens(constrain(logits_BV, "batch", None), step_key_B, sampling)
            going_B = ~out.stopped_B
            token_B = jnp.where(going_B, token_B, pad_id)
            ends_B = jnp.any(token_B[:, None] == jnp.array(end_ids, jnp.int32)[None, :], axis=1)
            out = dataclasses.replace(
                out,
                tokens_BN=out.tokens_BN.at[:, step].set(token_B),
                logp_BN=out.logp_BN.at[:, step].set(jnp.where(going_B, logp_B, 0.0)),
                length_B=out.length_B + going_B,
                stopped_B=out.stopped_B | ends_B,
            )
            return token_B, out

        def further(state: _State) -> _State:
            logits_BV, caches, below_BD = model.step(state.last_B, lengths_B + state.step - 1, state.caches)
            last_B, out = write(state.step, logits_BV, state.out)
            if keep_below:
                out = dataclasses.replace(out, reply_BND=out.reply_BND.at[:, state.step - 1].set(below_BD))
            return _State(state.step + 1, last_B, caches, out)

        rows = len(lengths_B)
        out = Generated(
            jnp.full((rows, most), pad_id, jnp.int32),
            jnp.zeros((rows, most), jnp.float32),
            jnp.zeros(rows, jnp.int32),
            lengths_B == 0,
            prompt_UTD if keep_below else None,
            jnp.zeros((rows, most, decoder.config.width), decoder.dtype) if keep_below else None,
        )
        last_B, out = write(jnp.zeros((), jnp.int32), logits_BV, out)
        state = _State(jnp.ones((), jnp.int32), last_B, caches, out)
        out = jax.lax.while_loop(lambda s: (s.step < most) & ~jnp.all(s.out.stopped_B), further, state).out
        return dataclasses.replace(out, stopped_B=out.stopped_B & (lengths_B > 0))

    compiled = jax.jit(
        run, in_shardings=(base_shardings, adapter_shardings, whole, batch_sharding(mesh)), out_shardings=whole
    )

    def generate(base: Tree, adapters: Tree, profile_PC: jax.Array | None, batch: Mapping[str, Any]) -> Generated:
        with jax.set_mesh(mesh):
            if isinstance(batch["tokens"], np.ndarray):
                batch = put_batch(batch, mesh)
            return compiled(base, adapters, profile_PC, dict(batch))

    return generate
