"""What an endpoint's answer says, whatever it holds: its text, why there may be none, and what an error is about."""

import dataclasses
import json
import re
from typing import Any

_MOST_TOKENS = 1 << 40
_WORDS = ("text", "output_text", "refusal")
"""Kinds of parts that are words."""
_CUT = ("length", "max_tokens", "model_length", "max_output_tokens")
_NOT_TAKEN = re.compile(
    r"unsupport|(?:not|n't|longer)(?: be)? support|not (?:a )?(?:allow|permit|accept|enabled|available|recogni|valid)"
    r"|deprecat|incompatib|unrecogni|unknown|unexpected|extra_|extra (?:input|field)|forbid|removed|disabled"
)
_NOT_THIS_VALUE = re.compile(r"must be|should|has to|cannot|only|default|support|invalid")
_NO_SYSTEM = re.compile(r"must alternate|only user\b.{0,40}\broles\b")
_SYSTEM = re.compile(r"\b(?:system|developer)\b.{0,40}\b(?:role|message|instruction|prompt)|"
                     r"\brole\b.{0,40}\b(?:system|developer)\b")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Answer:
    """A judge's answer.

    Attributes:
        text: its words; those of a refusal where there are no others.
        fault: why they are no verdict, whatever they say: cut, filtered, refused; empty where nothing is known.
        tokens_in, tokens_out: as the endpoint counts them.
    """

    text: str
    fault: str = ""
    tokens_in: int = 0
    tokens_out: int = 0


def read_answer(content: bytes, max_tokens: int) -> Answer:
    """The first choice of a body; a `ValueError` that says what it is instead where it is no such answer."""
    try:
        values = json.loads(content)
    except RecursionError:
        raise ValueError("an answer that is nested too deep") from None
    except ValueError:
        raise ValueError("an answer that is not JSON") from None
    choices = values.get("choices") if isinstance(values, dict) else None
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        raise ValueError("an answer without choices")
    usage, message = _dict(values.get("usage")), _dict(choices[0].get("message"))
    text, kinds = _text(message.get("content"))
    refusal = message.get("refusal") or (text if kinds == {"refusal"} else "")
    why, fault = choices[0].get("finish_reason"), ""
    if why == "content_filter":
        fault = "stopped by the endpoint's content filter (finish_reason content_filter)"
    elif why in _CUT:
        where = "before its verdict" if text.strip() else "before it began"
        fault = (
            f"the answer was cut at judge.max_tokens ({max_tokens}) {where} (finish_reason {why}; a model that thinks "
            "needs more)"
        )
    elif isinstance(refusal, str) and refusal.strip():
        fault = "the judge refused"
    elif not text.strip() and (thought := _thought(message) or ", ".join(sorted(kinds - set(_WORDS)))):
        fault = f"an answer without text, only {thought}"
    elif not text.strip() and isinstance(why, str) and why != "stop":
        fault = f"an answer without text (finish_reason {why[:40]})"
    said = text or (refusal if isinstance(refusal, str) else "")
    return Answer(said, fault, _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))


def server_reason(content: bytes) -> str:
    """The message of an error as OpenAI, vLLM or FastAPI word it, or the body as it is."""
    found = [
        f"{words} ({where})" if where and where not in words else words for where, words, _ in _complaints(content)
    ]
    return "; ".join(found) or content.decode("utf-8", "replace")


def refused_parameters(content: bytes) -> frozenset[str]:
    """Which of `temperature`, `max_tokens` and `system` (its message) an error says are not taken.

    Newer models know no max_tokens, and many no temperature of 0; templates of some open ones have no system message.
    """
    refused = set[str]()
    for where, words, kind in _complaints(content):
        text = f"{words} {kind}".lower()
        place, not_taken = where.lower(), bool(_NOT_TAKEN.search(text))
        about = {name for name in ("temperature", "max_tokens") if place.split(".")[-1] == name}
        about |= {name for name in ("temperature", "max_tokens") if not place and re.search(rf"\b{name}\b", text)}
        if "temperature" in about and (place or not_taken or _NOT_THIS_VALUE.search(text)):
            refused.add("temperature")
        if "max_tokens" in about and (not_taken or "max_completion_tokens" in text):
            refused.add("max_tokens")
        of_a_role = re.match(r"messages\b.*\brole$", place)
        if of_a_role or _NO_SYSTEM.search(text) or (not_taken and _SYSTEM.search(text)):
            refused.add("system")
    return frozenset(refused)


def _complaints(content: bytes) -> list[tuple[str, str, str]]:
    """(field, message, kind) of every fault that an error names; the field and the kind may be empty."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return []
    error = values.get("error", values) if isinstance(values, dict) else values
    if isinstance(error, dict) and isinstance(error.get("detail"), list | str):
        error = error["detail"]
    found = []
    for one in error[:5] if isinstance(error, list) else [error]:
        fields = {"message": one} if isinstance(one, str) else _dict(one)
        words, where = fields.get("message", fields.get("msg")), fields.get("param", fields.get("loc"))
        if isinstance(where, list):
            where = ".".join(str(part) for part in where if isinstance(part, str | int) and part != "body")
        if isinstance(words, str) and words:
            kinds = [fields[name] for name in ("code", "type") if isinstance(fields.get(name), str)]
            found.append((where if isinstance(where, str) else "", words, " ".join(kinds)))
    return found


def _text(content: Any) -> tuple[str, set[str]]:
    """The words of a message's content, a string or typed parts; and the kinds of its parts. Thoughts are no words."""
    if isinstance(content, str):
        return content, set()
    said, kinds = list[str](), set[str]()
    for part in content if isinstance(content, list) else [content]:
        fields = {"type": "text", "text": part} if isinstance(part, str) else _dict(part)
        kind = fields.get("type", "text")
        if not fields or not isinstance(kind, str):
            continue
        kinds.add(kind[:40])
        words = fields.get("refusal" if kind == "refusal" else "text")
        if kind in _WORDS and isinstance(words, str):
            said.append(words)
    return "\n".join(said), kinds


def _thought(message: dict[str, Any]) -> str:
    return next((name for name in ("reasoning_content", "reasoning") if message.get(name)), "")


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return min(max(value, 0), _MOST_TOKENS) if isinstance(value, int) else 0
