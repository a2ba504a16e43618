"""A chat as the tokens that a reply follows, the same as in training."""

from collections.abc import Sequence

import numpy as np

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tokenization.tokenizer import Message, Tokenizer

_REPLY = "A"
"""Stands for the reply that is not written yet; no token of it is kept."""


def prompt_tokens(tokenizer: Tokenizer, messages: Sequence[Message]) -> np.ndarray:
    """The tokens before a reply, int32 [T]: those that training on whole conversations puts before it.

    Args:
        tokenizer: the model's.
        messages: the turns, the user's last.

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
