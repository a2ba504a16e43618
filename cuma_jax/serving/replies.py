"""Replies of a chat: whole, or as they are written."""

import dataclasses
from collections.abc import Generator, Iterator, Mapping, Sequence

from cuma_jax.runtime.errors import CumaError


@dataclasses.dataclass(frozen=True)
class ChatReply:
    """What came of a chat.

    Attributes:
        text: the reply.
        prompt_tokens, tokens: of the prompt as rendered, and of the reply (its end of turn included).
        stopped: whether it came to its end; otherwise it was cut at the limit.
        profile: who was asked for, the derived fields included.
        notes: what the user should know of the profile.
    """

    text: str
    prompt_tokens: int
    tokens: int
    stopped: bool
    profile: dict[str, str]
    notes: tuple[str, ...] = ()


class ChatStream(Iterator[str]):
    """The pieces of a reply as they are written; `reply` is there when they have all been taken. `close` ends it."""

    def __init__(self, pieces: Generator[str, None, ChatReply]):
        """`pieces` writes, and returns the whole."""
        self._pieces = pieces
        self.reply: ChatReply | None = None

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration as end:
            self.reply = self.reply or end.value
            raise StopIteration from None

    def close(self) -> None:
        """Stops writing."""
        self._pieces.close()


def checked_turns(prompt: str | Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """A prompt, or turns of user and assistant, as turns; a `CumaError` for anything else, or a last turn that is not
    the user's.
    """
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    form = 'turns are [{"role": "user", "content": "..."}, ...]'
    if not isinstance(prompt, Sequence) or not prompt:
        raise CumaError(f"a chat is a text or a list of turns; {form}")
    turns: list[dict[str, str]] = []
    for turn in prompt:
        if not isinstance(turn, Mapping) or not isinstance(turn.get("content"), str):
            raise CumaError(f"a turn must have a role and a content, both texts; {form}")
        if turn.get("role") not in ("user", "assistant"):
            raise CumaError(
                f"a turn's role is {str(turn.get('role'))[:40]!r}; it is user or assistant (the system message is the "
                "run's)"
            )
        if not turn["content"].strip():
            raise CumaError("a turn is empty; write something in it, or leave it out")
        turns.append({"role": turn["role"], "content": turn["content"]})
    if turns[-1]["role"] != "user":
        raise CumaError("the last turn of a chat must be the user's")
    return turns
