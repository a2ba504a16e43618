"""Prompts in, texts out: batches of one size and a few lengths, and replies in the order of their prompts.

Shapes: B rows of a batch, T tokens, C profile width, P profiles.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from cuma_jax.config import SamplingConfig
from cuma_jax.generation.decoding_loop import Generated, make_generate
from cuma_jax.models.decoder import Decoder
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key
from cuma_jax.runtime.sharding import local_rows, put_whole
from cuma_jax.tokenization.tokenizer import Message, Tokenizer

Tree = Any
_REPLY = "A"
"""Stands for the reply that is not written yet; no token of it is kept."""


@dataclasses.dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as tokens, and the profile that it is written for."""

    tokens: np.ndarray  # int32 [T'], the rendered chat with its generation prompt
    profile: int = 0  # row of the writer's profile vectors
    index: int = 0  # which of several replies to the same prompt and profile
    name: str = "a prompt"  # for errors


@dataclasses.dataclass(frozen=True)
class Reply:
    """One reply."""

    text: str  # without the end of turn, and without white space at its ends
    tokens: np.ndarray  # int32, the end of turn included
    logp: np.ndarray  # float32, of each token; see `Generated`
    stopped: bool  # whether it came to its end; otherwise it was cut at `sampling.max_new_tokens`


@dataclasses.dataclass(frozen=True)
class Writer:
    """A model that writes, but for its adapters; see `make_generate`."""

    decoder: Decoder
    base: Tree
    base_shardings: Tree
    adapter_shardings: Tree
    mesh: Mesh
    tokenizer: Tokenizer
    sampling: SamplingConfig
    vectors_PC: np.ndarray | None  # float32, profile vectors; None where no router sees them
    lengths: tuple[int, ...]  # increasing: what prompts are padded to; a program is compiled for each one used
    batch_size: int  # rows of every batch; a multiple of the mesh's data x fsdp
    longer: str = "add a longer bucket to data.buckets"  # how to make room for longer prompts, for the error

    @functools.cached_property
    def generate(self) -> Callable[..., Generated]:
        """The compiled function."""
        tokenizer = self.tokenizer
        return make_generate(
            self.decoder, self.sampling, (tokenizer.end_of_turn_id,), tokenizer.pad_id, self.mesh,
            self.adapter_shardings, self.base_shardings,
        )  # fmt: skip


def generate_texts(
    writer: Writer, adapters: Tree, prompts: Sequence[EncodedPrompt], seed: int, progress: bool = True
) -> list[Reply]:
    """A reply to every prompt, in their order. All processes call this with the same prompts.

    The same prompt, profile vector, index and seed get the same text, whatever else is asked for.

    Two prompts that are alike differ in their `index`, or get the same reply.

    Raises:
        CumaError: a prompt that is empty or too long, before anything is computed; or too little memory.
    """
    bucket_N = np.array([_bucket(writer, prompt) for prompt in prompts], np.int64)
    replies: list[Reply | None] = [None] * len(prompts)
    size, rows = writer.batch_size, local_rows(writer.mesh, writer.batch_size)
    # Where there is no terminal, a line every so often instead of a bar that redraws itself.
    pace = 0.1 if sys.stderr.isatty() else 30.0
    quiet = not progress or jax.process_index() != 0
    with tqdm(
        total=len(prompts), desc="writing", unit="reply", disable=quiet, mininterval=pace, dynamic_ncols=True
    ) as bar:
        for bucket, length in enumerate(writer.lengths):
            number_N = np.flatnonzero(bucket_N == bucket)
            for first in range(0, len(number_N), size):
                numbers = number_N[first : first + size]
                batch, vectors_BC = _batch(writer, [prompts[n] for n in numbers], length, seed)
                placed_BC = None if vectors_BC is None else put_whole(vectors_BC, writer.mesh)
                local = {name: array[rows] for name, array in batch.items()}
                try:
                    out = jax.device_get(writer.generate(writer.base, adapters, placed_BC, local))
                except jax.errors.JaxRuntimeError as error:
                    if "RESOURCE_EXHAUSTED" not in str(error):
                        raise
                    raise CumaError(
                        f"not enough memory for {size} replies at once to prompts of up to {length:,} tokens; shorten "
                        "them, or write fewer at once (generate: --batch_size; evaluate: --evaluation.batch_size)"
                    ) from None
                for row, n in enumerate(numbers):
                    replies[n] = _reply(writer.tokenizer, out, row)
                bar.update(len(numbers))
    return [reply for reply in replies if reply is not None]


def prompt_tokens(tokenizer: Tokenizer, messages: Sequence[Message]) -> np.ndarray:
    """The tokens before a reply, int32 [T]: those that training on whole conversations puts before it.

    Raises:
        CumaError: no user's turn at the end, an empty turn, or turns that the template refuses.
    """
    safe = [message | {"content": message["content"].strip()} for message in messages]
    if not safe or safe[-1]["role"] != "user":
        roles = ", ".join(message["role"] for message in safe) or "none"
        raise CumaError(f"the last turn before a reply must be the user's; the turns here are: {roles}")
    if empty := [message["role"] for message in safe if not message["content"]]:
        raise CumaError(f"a chat has an empty turn of the {empty[0]}; write something in it or leave it out")
    if all(message["role"] != "assistant" for message in safe):
        return np.array(tokenizer.encode_chat(safe, add_generation_prompt=True), np.int32)
    # Templates may write an earlier turn of the assistant otherwise than the last; training writes all alike.
    ids, mask_T = tokenizer.supervised_tokens([*safe, {"role": "assistant", "content": _REPLY}])
    last = int(np.flatnonzero(mask_T & ~np.append(False, mask_T[:-1]))[-1])
    return np.array(ids[:last], np.int32)


def row_key(seed: int, tokens: np.ndarray, vector_C: np.ndarray | None, index: int) -> np.ndarray:
    """The key of one reply, uint32 [2]: a hash of seed, prompt, profile vector and index, and of nothing else."""
    vector = b"" if vector_C is None else np.asarray(vector_C, np.float32)
    digest = content_key(str(seed), np.asarray(tokens, np.int32), vector, str(index))
    return np.frombuffer(bytes.fromhex(digest)[:8], ">u4").astype(np.uint32)


def _bucket(writer: Writer, prompt: EncodedPrompt) -> int:
    """The shortest length that holds a prompt (its number)."""
    needed, longest = len(prompt.tokens), writer.lengths[-1]
    if needed > longest:
        raise CumaError(
            f"{prompt.name} has {needed} tokens with its chat template, and there is room for {longest}; shorten it, "
            f"or {writer.longer}"
        )
    if not needed:
        raise CumaError(f"{prompt.name} has no tokens; write something to reply to")
    return int(np.searchsorted(writer.lengths, needed))


def _batch(
    writer: Writer, prompts: Sequence[EncodedPrompt], length: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The batch of up to `batch_size` prompts; and their profile vectors, one per row, so that shapes never change."""
    size, vectors_PC = writer.batch_size, writer.vectors_PC
    batch = {
        "tokens": np.full((size, length), writer.tokenizer.pad_id, np.int32),
        "lengths": np.zeros(size, np.int32),
        "profile": np.arange(size, dtype=np.int32),
        "key": np.zeros((size, 2), np.uint32),
    }
    vectors_BC = None if vectors_PC is None else np.zeros((size, vectors_PC.shape[1]), np.float32)
    for row, prompt in enumerate(prompts):
        vector_C = None if vectors_PC is None else vectors_PC[prompt.profile]
        batch["tokens"][row, : len(prompt.tokens)] = prompt.tokens
        batch["lengths"][row] = len(prompt.tokens)
        batch["key"][row] = row_key(seed, prompt.tokens, vector_C, prompt.index)
        if vectors_BC is not None:
            vectors_BC[row] = vector_C
    return batch, vectors_BC


def _reply(tokenizer: Tokenizer, out: Generated, row: int) -> Reply:
    count, stopped = int(out.length_B[row]), bool(out.stopped_B[row])
    tokens = np.asarray(out.tokens_BN[row, :count])
    said = tokens[: count - stopped]
    text = tokenizer.decode(said.tolist(), skip_special=True).strip()
    return Reply(text, tokens, np.asarray(out.logp_BN[row, :count]), stopped)
