"""Replies written by a run, to the persona that asks."""

from cuma_jax.generation.decoding_loop import Generated, make_generate
from cuma_jax.generation.texts import EncodedPrompt, Reply, Writer, generate_texts

__all__ = ["EncodedPrompt", "Generated", "Reply", "Writer", "generate_texts", "make_generate"]
