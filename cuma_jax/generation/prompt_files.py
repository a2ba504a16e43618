"""Requests for replies, from a command line or a file of prompts."""

import dataclasses
import json
import pathlib
from typing import Any

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tokenization.tokenizer import Message

_KEYS = ("prompt", "messages", "question")
_PROFILE = "profile"


@dataclasses.dataclass(frozen=True)
class PromptRequest:
    """One prompt to reply to."""

    name: str  # for errors
    messages: tuple[Message, ...] = ()  # the user's last; without a system message; empty: a question of the survey
    question: str = ""  # its id; empty: `messages`
    profile: str = ""  # who asks it; empty: every persona that the command names


def prompt_request(text: str, name: str) -> PromptRequest:
    """A prompt of one turn; a `CumaError` for an empty one."""
    if not text.strip():
        raise CumaError(f"{name} is empty; write something to reply to")
    return PromptRequest(name, ({"role": "user", "content": text},))


def read_prompts(path: pathlib.Path) -> list[PromptRequest]:
    """The prompts of a .jsonl file.

    A line is a string, or an object with one of `prompt` (a string), `messages` (turns with `role` and `content`) and
    `question` (the id of a survey's question), and perhaps with `profile` (a string): who asks this one.

    Raises:
        CumaError: no such file, an empty one, or a line that is none of these; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CumaError(f"--file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CumaError(f"--file {path} is not UTF-8 text; save it as UTF-8") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_request(json.loads(line), f"--file {path}, line {number}"))
            except json.JSONDecodeError as error:
                raise CumaError(
                    f'--file {path}, line {number} is not JSON ({error.msg}); write {{"prompt": "..."}} on a line'
                ) from None
    if not found:
        raise CumaError(f'--file {path} holds no prompt; write one a line: {{"prompt": "..."}}')
    return found


def _request(value: Any, name: str) -> PromptRequest:
    if isinstance(value, str):
        return prompt_request(value, name)
    keys = [key for key in _KEYS if isinstance(value, dict) and key in value]
    if len(keys) != 1:
        raise CumaError(f'{name} must be a string or an object with one of {", ".join(_KEYS)}: {{"prompt": "..."}}')
    key, profile = keys[0], value.get(_PROFILE, "")
    for string in (key, _PROFILE):
        if string != "messages" and not isinstance(value.get(string, ""), str):
            raise CumaError(f"{name}: {string!r} must be a string")
    content = value[key]
    if key == "messages":
        request = PromptRequest(name, _turns(content, name))
    else:
        request = prompt_request(content, name) if key == "prompt" else PromptRequest(name, question=content)
    return dataclasses.replace(request, profile=profile)


def _turns(content: Any, name: str) -> tuple[Message, ...]:
    form = '[{"role": "user", "content": "..."}, ...]'
    if not isinstance(content, list) or not content:
        raise CumaError(f"{name}: 'messages' must be a list of turns, {form}")
    for turn in content:
        good = isinstance(turn, dict) and isinstance(turn.get("content"), str)
        if not good or turn.get("role") not in ("user", "assistant"):
            raise CumaError(
                f"{name}: a turn is {json.dumps(turn)[:80]}; turns are {form}, of user and assistant (the system "
                "message is the run's)"
            )
    return tuple({"role": turn["role"], "content": turn["content"]} for turn in content)
