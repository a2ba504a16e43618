"""Text written by a run, for the person who is asking."""

from cuma_jax.generation.loop import Generated, make_generate
from cuma_jax.generation.texts import Prompt, Reply, Writer, generate_texts

__all__ = ["Generated", "Prompt", "Reply", "Writer", "generate_texts", "make_generate"]
