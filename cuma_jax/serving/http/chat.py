"""OpenAI's chat completions over a run: who is asked comes as `profile`, or in the name of the model."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving import ChatReply, ChatStream, Model
from cuma_jax.serving.groups import parse_group
from cuma_jax.serving.http.bodies import ChatBody
from cuma_jax.serving.http.problems import Problem, as_problem, openai_error

RUN, BASE = "run", "base"
MOST_CHARACTERS, MOST_TOKENS = 60_000, 4096
"""Characters of all messages together, and tokens of a reply."""


def model_names(model: Model) -> list[dict[str, Any]]:
    """What `GET /v1/models` lists."""
    about = {"object": "model", "created": 0, "owned_by": model.name}
    return [{"id": name} | about for name in (RUN, BASE)]


class ChatRequest:
    """A chat, checked.

    Raises:
        CumaError: what this server does not do, or the run does not know.
        Problem: no such model.
    """

    def __init__(self, body: ChatBody, model: Model):
        self.name = body.model
        which, at, group = body.model.partition("@")
        if which not in (RUN, BASE, model.name):
            raise Problem(404, f"there is no model {which!r}; there are run, base and run@FIELD=VALUE;FIELD=VALUE")
        if at and body.profile is not None:
            raise CumaError("who is asked is in the name of the model and in profile; give one of them")
        _refuse(body)
        where = group if at else body.profile
        asked = parse_group(where, model.fields, unknown=True)
        if asked.conditions and asked.profile is None:
            raise CumaError("a chat is with one profile: give one value a field")
        self.profile = asked.profile or {}
        self.base = which == BASE
        self.messages = [_turn(turn.role, turn.text) for turn in body.messages]
        if (total := sum(len(turn["content"]) for turn in self.messages)) > MOST_CHARACTERS:
            raise CumaError(f"the messages have {total:,} characters; this server takes {MOST_CHARACTERS:,}")
        most = body.max_completion_tokens or body.max_tokens
        self.most = None if most is None else min(most, MOST_TOKENS)
        self.temperature, self.seed = body.temperature, body.seed
        self.stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
        self.usage = body.stream_options is not None and body.stream_options.include_usage
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())

    @property
    def begin(self) -> Callable[[Model], ChatStream]:
        """What the model's thread calls."""

        def begin(model: Model) -> ChatStream:
            stream = model.chat(
                self.profile, self.messages, self.base, self.most, self.temperature, self.seed, stream=True
            )
            assert isinstance(stream, ChatStream)
            return stream

        return begin

    def completion(self, text: str, reply: ChatReply, stopped: bool) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": text, "refusal": None}
        reason = "stop" if stopped else "length"
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        about = {"profile": reply.profile, "notes": list(reply.notes)}
        return self._object("chat.completion", [choice]) | {"usage": usage(reply)} | about

    def chunk(self, delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        """A piece of a stream."""
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return self._object("chat.completion.chunk", [choice]) | ({"usage": None} if self.usage else {})

    def last(self, reply: ChatReply) -> dict[str, Any]:
        """The piece with the counts of tokens, where it was asked for."""
        return self._object("chat.completion.chunk", []) | {"usage": usage(reply)}

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.name, "choices": choices}


class Cut:
    """Text that ends before a stop string; `push` gives what is certain not to be part of one."""

    def __init__(self, stops: list[str]):
        self._stops, self._held, self.found = stops, "", False
        self._longest = max((len(stop) for stop in stops), default=1) - 1

    def push(self, piece: str, end: bool = False) -> str:
        """What may be said now."""
        if self.found:
            return ""
        text = self._held + piece
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        keep = 0 if end else min(self._longest, len(text))
        self._held = text[len(text) - keep :] if keep else ""
        return text[: len(text) - keep] if keep else text


def usage(reply: ChatReply) -> dict[str, int]:
    """Tokens of the prompt as rendered, and of all that was written."""
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.tokens,
        "total_tokens": reply.prompt_tokens + reply.tokens,
    }


async def whole(asked: ChatRequest, events: AsyncIterator[str | ChatReply]) -> dict[str, Any]:
    """The reply in one piece, as JSON."""
    cut, parts = Cut(asked.stops), list[str]()
    async for event in events:
        if isinstance(event, ChatReply):
            parts.append(cut.push("", end=True))
            text = "".join(parts) if asked.stops else event.text
            return asked.completion(text, event, event.stopped or cut.found)
        parts.append(cut.push(event))
    raise Problem(500, "the reply ended early")


async def pieces(
    asked: ChatRequest, first: str | ChatReply, events: AsyncIterator[str | ChatReply]
) -> AsyncIterator[dict[str, str]]:
    """The stream's events. What goes wrong after the first is said in an event, as OpenAI's clients read it."""
    cut = Cut(asked.stops)
    try:
        yield _event(asked.chunk({"role": "assistant", "content": ""}))
        event: str | ChatReply = first
        while not isinstance(event, ChatReply):
            if said := cut.push(event):
                yield _event(asked.chunk({"content": said}))
            if cut.found and not asked.usage:  # the rest would be written for its number of tokens only
                break
            event = await anext(events)
        if said := cut.push("", end=True):
            yield _event(asked.chunk({"content": said}))
        stopped = cut.found or (isinstance(event, ChatReply) and event.stopped)
        yield _event(asked.chunk({}, "stop" if stopped else "length"))
        if asked.usage and isinstance(event, ChatReply):
            yield _event(asked.last(event))
        yield {"data": "[DONE]"}
    except Exception as error:
        yield _event(openai_error(as_problem(error)))
    finally:
        await events.aclose()  # type: ignore[attr-defined]  # a generator: ends the writing


def _turn(role: str, text: str) -> dict[str, str]:
    if role not in ("user", "assistant"):
        raise CumaError(
            f"a message has the role {role[:40]!r}; roles are user and assistant. The system message is the run's own, "
            'as in training; say who is asked as "profile", or in the model\'s name: run@country=Japan'
        )
    return {"role": role, "content": text}


def _refuse(body: ChatBody) -> None:
    """What this server does not do is said, not ignored."""
    if body.n not in (None, 1):
        raise CumaError("n must be 1: ask again with another seed for another reply")
    if body.tools or body.functions:
        raise CumaError("this server calls no tools; leave tools and functions out")
    if "" in ([body.stop] if isinstance(body.stop, str) else body.stop or []):
        raise CumaError("stop holds an empty text, which every reply begins with; leave it out, or say where to stop")
    if body.logprobs:
        raise CumaError("this server tells no logprobs of replies; /v1/predict gives shares of options")
    if body.response_format and body.response_format.get("type", "text") != "text":
        raise CumaError("replies are text; leave response_format out")
    if body.top_p not in (None, 1, 1.0):
        raise CumaError("top_p is the run's sampling.top_p here; leave it out, or give 1")


def _event(value: dict[str, Any]) -> dict[str, str]:
    return {"data": json.dumps(value, ensure_ascii=False)}
