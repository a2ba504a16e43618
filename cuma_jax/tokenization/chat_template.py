"""A model's chat template: which of several, rendered the same on every day, and what it does to the turns.

A template is a program of somebody else's. It is run once on a chat of made-up words, within bounds, before anything
depends on it: what it leaves out, and where it marks a turn by plain words, is known from that.
"""

import datetime
import re
import sys
from collections.abc import Sequence
from typing import Any

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tokenization.markers import Markers

Message = dict[str, str]
"""One turn: `role` (system, user or assistant) and `content`."""

_TODAY = datetime.datetime(2024, 7, 26)
"""Today, to templates that write a date: Llama 3.1's default, or a prompt would change from day to day."""
_DATES = "".join(
    ["{% macro strftime_now(form) %}{{ form"]
    + [f"|replace('%{code}', '{_TODAY.strftime('%' + code)}')" for code in (*"dbBmyYaAjHIMSpe", "-d", "-m", "-H", "-I")]
    + [" }}{% endmacro %}"]
)
"""Stands before a template that asks for a date: nothing but text can be handed to it."""
_THOUGHT = re.compile(r"[<\[](think|thinking|thought|reasoning|seed:think|THINK)[>\]](?!.*/\1[>\]])(.*)", re.DOTALL)
"""A thought that is opened and not closed; what follows its mark."""
_MOST_LINES = 1_000_000
"""Lines of the compiled template that the chat below may take; real ones take some hundred."""
_CHAT: tuple[Message, ...] = (
    {"role": "system", "content": "Quagga"},
    {"role": "user", "content": "Zebra"},
    {"role": "assistant", "content": "Okapi"},
    {"role": "user", "content": "Kudu"},
)
_OTHER = "use another model, or the tokenizer of one (--model.tokenizer)"


def choose_template(template: Any, name: str) -> str | None:
    """The chat template, of several named ones the default; None where there is none.

    Raises:
        CumaError: several, and none is the default; or no text.
    """
    if isinstance(template, dict):
        if "default" not in template and len(template) > 1:
            raise CumaError(
                f"tokenizer {name} has several chat templates ({', '.join(map(str, template))}) and none is called "
                f"default; name one of them so in its tokenizer_config.json, or {_OTHER}"
            )
        template = template.get("default", next(iter(template.values()), None))
    if not isinstance(template, str | None):
        raise CumaError(f"tokenizer {name}: its chat template is a {type(template).__name__}, not a text; {_OTHER}")
    return template or None


class ChatTemplate:
    """Renders chats, and knows what the template does to them.

    Attributes:
        text: the template itself.
        dropped: roles of which it leaves out what they say.
        sample: a made-up chat as it renders it; empty where it does not take a whole one.
    """

    def __init__(self, backend: Any, template: str, name: str):
        """Tries the template out.

        Raises:
            CumaError: its loops do not end.
        """
        self._backend, self.text, self._name = backend, template, name
        self.sample, self.dropped = "", frozenset[str]()
        self._thought = ("", "")  # how a generation prompt ends that opens a thought, and how it ends here
        self._parts: list[tuple[str, str]] = []  # role of a turn of the sample, and what stands after what it says
        # Not every template takes a system message, or several turns.
        for chat in (_CHAT, _CHAT[1:], _CHAT[:2], _CHAT[3:]):
            try:
                text = self._within_bounds(chat)
            except _RefusedError:
                continue
            self._thought = _thought(text.rpartition(chat[-1]["content"])[2])
            self.sample = text.removesuffix(self._thought[0]) + self._thought[1]
            found = [self.sample.casefold().find(turn["content"].casefold()) for turn in chat]
            self.dropped = frozenset(turn["role"] for turn, at in zip(chat, found, strict=True) if at < 0)
            ends = [at + len(turn["content"]) for turn, at in zip(chat, found, strict=True)]
            for turn, end, after in zip(chat, ends, [*found[1:], len(self.sample)], strict=True):
                if not self.dropped and end <= after:
                    self._parts.append((turn["role"], self.sample[end:after]))
            return

    def render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """The chat as the template writes it, thinking switched off; a thought that it opens is closed, and empty.

        Raises:
            CumaError: the template refuses these messages, or fails.
        """
        try:
            text = self._backend.apply_chat_template(
                list(messages),
                chat_template=(_DATES if "strftime_now" in self.text else "") + self.text,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=False,
            )
        except CumaError:
            raise
        except Exception as error:  # whatever a template does wrong: divide by zero, include a file, call itself
            roles, reason = ", ".join(message["role"] for message in messages), str(error) or type(error).__name__
            raise _RefusedError(f"the chat template of {self._name} refuses the turns ({roles}): {reason}") from error
        opened, closed = self._thought
        return (
            text.removesuffix(opened) + closed if add_generation_prompt and opened and text.endswith(opened) else text
        )

    def check(self, messages: Sequence[Message], text: str) -> None:
        """Checks that `text`, which the template made of these turns, says what they say; all of it, of who is asked.

        Raises:
            CumaError: it leaves one out.
        """
        lost = [
            message["role"]
            for message in messages
            if message["role"] in self.dropped
            or (message["role"] == "system" and not _within(message["content"].strip(), text))
        ]
        if lost:
            who = "the system message, and with it who is asked," if lost[0] == "system" else f"what the {lost[0]} says"
            raise CumaError(f"the chat template of {self._name} leaves out {who}: the model would not see it; {_OTHER}")

    def plain_words(self, markers: Markers) -> tuple[str, ...]:
        """What opens a turn in nothing but words that a text may hold, `ASSISTANT:` and the like.

        `markers` are what no text can hold: a turn that one of them opens needs no words.

        Raises:
            CumaError: nothing but white space parts what a user says from the reply.
        """
        words, forgeable = list[str](), False
        for role, between in self._parts:
            between = re.sub(r"</?think>", "", between)
            if role != "assistant" and markers.neutralise(between) != between:
                continue
            lines = [line.strip() for line in markers.split(between) if line.strip()]
            if role == "user" and min(map(len, lines), default=0) < 2:
                raise CumaError(
                    f"the chat template of {self._name} puts {between!r} between what the user says and the reply, so "
                    f"that a question's text could write the reply; {_OTHER}"
                )
            forgeable |= role != "assistant" and bool(lines)
            words += lines
        return tuple(dict.fromkeys(words)) if forgeable else ()

    def _within_bounds(self, chat: Sequence[Message]) -> str:
        left, before = _MOST_LINES, sys.gettrace()

        def count(frame: Any, event: str, arg: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename != "<template>":  # jinja's name for it; not what compiles it
                return None
            left -= 1
            if left < 0:
                raise CumaError(f"the chat template of {self._name} does not come to an end; {_OTHER}")
            return count

        sys.settrace(count)
        try:
            return self.render(chat, True)
        finally:
            sys.settrace(before)


def _within(part: str, text: str) -> bool:
    """Whether a text holds another, in whatever capitals and with whatever white space."""
    return part in text or "".join(part.casefold().split()) in "".join(text.casefold().split())


class _RefusedError(CumaError):
    """The template does not take these turns."""


def _thought(prompt: str) -> tuple[str, str]:
    """The end of a generation prompt that opens a thought, from the mark on; and the same with the thought closed."""
    if not (match := _THOUGHT.search(prompt)):
        return "", ""
    mark = match[0].removesuffix(match[2])
    within = f"{match[2].rstrip()}\n" if match[2].strip() else "\n\n"
    return match[0], f"{mark}{within}{mark[0]}/{mark[1:]}\n\n"
