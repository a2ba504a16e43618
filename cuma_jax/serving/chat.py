"""Replies to single prompts, a few tokens at a time: one program for each length of prompts, whatever is asked of it.

Keys are those of `generation.texts`, so that a reply is the one that `python -m cuma_jax.generate` writes.

Shapes: B rows (1, or as many as the mesh needs), T tokens of a prompt, N tokens written at once, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.generation.personas import Persona, known_fields
from cuma_jax.generation.sampling import next_tokens
from cuma_jax.generation.texts import prompt_tokens, row_key
from cuma_jax.models.cached_decoder import CachedDecoder
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import put_whole
from cuma_jax.serving.asking.engine import Engine
from cuma_jax.serving.replies import ChatReply
from cuma_jax.surveys.prompts import conversation_system_message

CHUNK = 8
"""Tokens that are written in one call."""
ROOM = (32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Most tokens of a reply that there is a program for."""
MOST_TEMPERATURE = 5.0
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
Tree = Any


@dataclasses.dataclass(frozen=True)
class Writing:
    """A reply that is to be written.

    Attributes:
        most: tokens it may have.
        temperature: 0: always the likeliest token.
    """

    writers: "Writers"
    who: Persona
    tokens: np.ndarray
    base: bool
    most: int
    temperature: float
    seed: int

    def whole(self) -> ChatReply:
        """Writes all of it."""
        pieces = self.pieces()
        while True:
            try:
                next(pieces)
            except StopIteration as end:
                return end.value

    def pieces(self) -> Generator[str, None, ChatReply]:
        """Writes it a few tokens at a time, and gives what has become of the text since."""
        tokenizer, said, sent, stopped = self.writers.run.tokenizer, list[int](), "", False
        for token in self.writers.tokens(self):
            stopped = token == tokenizer.end_of_turn_id
            if stopped or len(said) + 1 == self.most:
                said += [] if stopped else [token]
                break
            said.append(token)
            text = tokenizer.decode(said, skip_special=True).strip()
            # A character may take several tokens.
            if len(text) > len(sent) and not text.endswith(_UNFINISHED) and text.startswith(sent):
                yield text[len(sent) :]
                sent = text
        text = tokenizer.decode(said, skip_special=True).strip()
        if text.startswith(sent) and len(text) > len(sent):
            yield text[len(sent) :]
        return ChatReply(
            text, len(self.tokens), len(said) + stopped, stopped, dict(self.who.values), self.who.notes
        )  # fmt: skip


class Writers:
    """The programs that write, for a run and its base."""

    def __init__(self, engine: Engine):
        """Compiles nothing yet."""
        self._engine, self.run = engine, engine.run
        self._rows = self.run.mesh.shape["data"] * self.run.mesh.shape["fsdp"]
        self._programs: dict[tuple[int, bool], tuple[Callable[..., Any], Callable[..., Any]]] = {}

    @functools.cached_property
    def _identity(self) -> Tree:
        return self.run.identity_adapters(self.run.config.train.seed)

    def writing(
        self,
        values: Mapping[str, str],
        turns: list[dict[str, str]],
        base: bool,
        max_new_tokens: int | None,
        temperature: float | None,
        seed: int | None,
    ) -> Writing:
        """A reply that is to be written; a `CumaError` for a number that cannot be, or a prompt that is too long."""
        run, sampling = self.run, self.run.config.sampling
        most = sampling.max_new_tokens if max_new_tokens is None else max_new_tokens
        heat = sampling.temperature if temperature is None else temperature
        if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= ROOM[-1]:
            raise CumaError(f"max_new_tokens is {most!r}; it is a number from 1 to {ROOM[-1]}")
        if isinstance(heat, bool) or not isinstance(heat, (int, float)) or not 0 <= heat <= MOST_TEMPERATURE:
            raise CumaError(f"temperature is {heat!r}; it is a number from 0 to {MOST_TEMPERATURE:g}")
        in_prompt = run.config.profile.in_prompt
        if not values and (in_prompt or (run.table is not None and not base)):
            raise CumaError(
                'who asks? this run sees profiles; give one, like "country=Japan; age=30-39". Its fields, with some '
                "values:\n" + known_fields(run.profiles)
            )
        who = self._engine.persona(values)
        system = [{"role": "system", "content": conversation_system_message(who.text)}] if in_prompt else []
        tokens = prompt_tokens(run.tokenizer, [*system, *turns])
        if len(tokens) > run.config.data.buckets[-1]:
            raise CumaError(
                f"the prompt has {len(tokens):,} tokens with its chat template, and there is room for "
                f"{run.config.data.buckets[-1]:,}; shorten it"
            )
        return Writing(self, who, tokens, base, most, float(heat), sampling.seed if seed is None else seed)

    def tokens(self, of: Writing) -> Generator[int, None, None]:
        """The tokens of a reply, for ever; the caller stops."""
        run, rows = self.run, self._rows
        length = next(n for n in run.config.data.buckets if n >= len(of.tokens))
        room = next(n for n in ROOM if n >= of.most)
        greedy = of.temperature == 0
        begin, further = self._program(room, greedy)
        adapters = self._identity if of.base else self._engine.adapters
        vector_C = self._engine.vector(of.who)
        tokens_BT = np.full((rows, length), run.tokenizer.pad_id, np.int32)
        tokens_BT[:, : len(of.tokens)] = of.tokens
        vectors = None if vector_C is None else put_whole(np.tile(vector_C, (rows, 1)), run.mesh)
        shared = (
            run.base, adapters, vectors, put_whole(np.full(rows, len(of.tokens), np.int32), run.mesh),
            put_whole(np.tile(row_key(of.seed, of.tokens, vector_C, 0), (rows, 1)), run.mesh),
            put_whole(np.array(of.temperature or 1.0, np.float32), run.mesh),
        )  # fmt: skip
        with jax.set_mesh(run.mesh):
            last_B, caches = begin(*shared, put_whole(tokens_BT, run.mesh))
        yield int(last_B[0])
        step = 1
        while step < room:
            with jax.set_mesh(run.mesh):
                found_BN, last_B, caches = further(*shared, np.int32(step), last_B, caches)
            yield from np.asarray(found_BN[0]).tolist()
            step += CHUNK

    def _program(self, room: int, greedy: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
        if (room, greedy) not in self._programs:
            self._programs[room, greedy] = _programs(self.run, room, greedy)
        return self._programs[room, greedy]


def _programs(run: Run, room: int, greedy: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Functions that read a prompt and write its first token, and that write the next `CHUNK` ones."""
    sampling = dataclasses.replace(run.config.sampling, temperature=0.0 if greedy else 1.0)
    unroll = run.mesh.devices.flat[0].platform == "cpu"

    def token(logits_BV: jax.Array, key_B: jax.Array, step: Any, heat: jax.Array) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, (0, None))(jax.random.wrap_key_data(key_B, impl="threefry2x32"), step)
        return next_tokens(logits_BV if greedy else logits_BV / heat, keys, sampling)[0]

    def model(base: Tree, adapters: Tree, vectors_BC: jax.Array | None, slots: int, unrolled: bool) -> CachedDecoder:
        return CachedDecoder(run.decoder, base, adapters, vectors_BC, slots, unrolled)

    def begin(
        base: Tree, adapters: Tree, vectors_BC: Any, lengths_B: jax.Array, key_B: jax.Array, heat: jax.Array,
        tokens_BT: jax.Array,
    ) -> Any:  # fmt: skip
        slots = tokens_BT.shape[1] + room
        logits_BV, caches, _ = model(base, adapters, vectors_BC, slots, unroll).prefill(tokens_BT, lengths_B)
        return token(logits_BV, key_B, jnp.zeros((), jnp.int32), heat), caches

    def further(
        base: Tree, adapters: Tree, vectors_BC: Any, lengths_B: jax.Array, key_B: jax.Array, heat: jax.Array,
        step: jax.Array, last_B: jax.Array, caches: Any,
    ) -> Any:  # fmt: skip
        slots = jax.tree.leaves(caches)[0].shape[-2]
        writes = model(base, adapters, vectors_BC, slots, unroll)

        def one(n: jax.Array, carry: Any) -> Any:
            last_B, caches, found_BN = carry
            logits_BV, caches, _ = writes.step(last_B, lengths_B + step + n - 1, caches)
            last_B = token(logits_BV, key_B, step + n, heat)
            return last_B, caches, found_BN.at[:, n].set(last_B)

        found_BN = jnp.zeros((len(lengths_B), CHUNK), jnp.int32)
        last_B, caches, found_BN = jax.lax.fori_loop(0, CHUNK, one, (last_B, caches, found_BN))
        return found_BN, last_B, caches

    return jax.jit(begin), jax.jit(further, donate_argnums=(8,))
