"""One tokenizer for every source: a Hugging Face folder, the fields of a GGUF file, or bytes for random models.

All three end as a transformers fast tokenizer with a chat template, so that rendering is the template's own, default
system message included.
"""

import bisect
import itertools
import json
import string
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key
from cuma_jax.tokenization.backends import load_backend
from cuma_jax.tokenization.markers import Markers, break_up

Message = dict[str, str]
"""One turn: `role` (system, user or assistant) and `content`."""

_CHUNK = 4096  # texts tokenised at once
_PROBE = "Zebra"
"""An answer that no template contains; what follows it is how a template ends a turn."""

_DATES = (
    "{% macro strftime_now(form) %}{{ form | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July')"
    " | replace('%m', '07') | replace('%Y', '2024') }}{% endmacro %}"
)
"""Today, to templates that write a date: always Llama 3.1's default, or a prompt would change from day to day."""


class Tokenizer:
    """Text to token ids and back, with the model's chat template.

    `end_of_turn_id` is the special token that ends an assistant turn; `vocab_size` takes in added tokens; lengths mask
    `pad_id`, so any id would do.
    """

    def __init__(self, backend: Any, name: str, chat: bool = True):
        """Wraps a transformers tokenizer; `chat` False is for text encoders, which need no chat template.

        Raises:
            CumaError: no chat template, or a template that ends a turn without a special token.
        """
        self.name, self._backend = name, backend
        if chat and not backend.chat_template:
            raise CumaError(
                f"tokenizer {name} has no chat template; use an instruction-tuned model, or give the tokenizer of one "
                "with --model.tokenizer"
            )
        if isinstance(backend.chat_template, str) and "strftime_now" in backend.chat_template.removeprefix(_DATES):
            backend.chat_template = _DATES + backend.chat_template.removeprefix(_DATES)
        self.vocab_size: int = len(backend)
        added = backend.added_tokens_decoder
        # Some tokenizers add runs of spaces as tokens: those are text, and no text is special to them.
        self._marker_ids = {i for i, token in added.items() if token.content.strip()}
        self._added = tuple(sorted(added[i].content for i in self._marker_ids))
        self._markers = Markers(self._added)
        self._letter_ids: dict[tuple[int, str], list[int]] = {}
        # A token may also be found in the text as the tokenizer normalises it (lower case, NFKC).
        self._normalises = backend.backend_tokenizer.normalizer is not None and any(
            added[i].normalized for i in self._marker_ids
        )
        self.end_of_turn_id: int = self._find_end_of_turn() if chat else int(backend.eos_token_id or 0)
        self.pad_id: int = self.end_of_turn_id if backend.pad_token_id is None else int(backend.pad_token_id)

    @property
    def fingerprint(self) -> str:
        """A key of all that decides how a chat is rendered and tokenised."""
        return content_key(self._backend.backend_tokenizer.to_str(), json.dumps(self._backend.chat_template))

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; nothing is added, and special tokens written in the text become their ids."""
        return list(self._backend.encode(text, add_special_tokens=False))

    def encode_batch(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Token ids (int32) of many texts, as `encode` gives them."""
        found: list[np.ndarray] = []
        left = iter(texts)
        while chunk := list(itertools.islice(left, _CHUNK)):
            ids = self._backend(chunk, add_special_tokens=False, return_attention_mask=False)["input_ids"]
            found += [np.array(row, np.int32) for row in ids]
        return found

    def decode(self, ids: list[int], skip_special: bool = False) -> str:
        """The text of token ids."""
        return self._backend.decode(ids, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)

    def neutralise(self, text: str) -> str:
        """`text` as a message may hold it: no part of it is one of this tokenizer's added tokens, or a known marker.

        See `tokenization.markers`. Text without markers is unchanged.
        """
        text = self._markers.neutralise(text)
        while self._normalises:
            found = self._backend(text, add_special_tokens=False, return_offsets_mapping=True)
            pairs = zip(found["input_ids"], found["offset_mapping"], strict=True)
            spans = [span for i, span in pairs if i in self._marker_ids and span[1] > span[0]]
            if not spans:
                break
            for start, end in reversed(spans):
                text = text[:start] + break_up(text[start:end]) + text[end:]
        return text

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """The chat as the model's template writes it (thinking switched off, where the template knows it).

        Contents are neutralised first: the markers in the result are the template's own.

        Raises:
            CumaError: the template refuses these messages.
        """
        import jinja2

        safe = [message | {"content": self.neutralise(message["content"])} for message in messages]
        try:
            return self._backend.apply_chat_template(
                safe, tokenize=False, add_generation_prompt=add_generation_prompt, enable_thinking=False
            )
        except jinja2.TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise CumaError(f"the chat template of {self.name} refuses the turns ({roles}): {error}") from error

    def encode_chat(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> list[int]:
        """Token ids of the rendered chat."""
        return self.encode(self.render(messages, add_generation_prompt))

    def supervised_tokens(self, messages: Sequence[Message]) -> tuple[list[int], np.ndarray]:
        """A whole conversation for training: its tokens, and which of them the model is to learn.

        Every assistant turn stands after what the model would have been given to write it: the turns before and the
        generation prompt. Where a template writes an earlier turn otherwise than the last one (Qwen3 opens only the
        last with an empty think block), all turns are written as the last one is. Contents lose white space at both
        ends.

        Returns:
            Token ids, and bool [T]: the tokens of every assistant turn's content and of the end of the turn.

        Raises:
            CumaError: no assistant turn, an empty one, or a template that does not continue its generation prompt.
        """
        messages = [message | {"content": self.neutralise(message["content"]).strip()} for message in messages]
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if not turns or not all(messages[i]["content"] for i in turns):
            what = "an empty assistant turn" if turns else "no assistant turn"
            raise CumaError(f"a conversation of {len(messages)} turns has {what}: there is nothing to train on")
        text, starts = self.render(messages[: turns[0]], add_generation_prompt=True), []
        for i, after in zip(turns, [*turns[1:], None], strict=True):
            starts.append(len(text))
            whole = self.render(messages[:after], add_generation_prompt=after is not None)
            if whole.startswith(text) and whole[len(text) :].lstrip().startswith(messages[i]["content"]):
                text = whole
            else:
                text += messages[i]["content"] + self._after_turn(messages, i, after, whole)
        found = self._backend(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = found["input_ids"]
        mask_T = np.zeros(len(ids), bool)
        for start in starts:
            first = self._prefix_length(ids, found["offset_mapping"], text, start)
            if self.end_of_turn_id not in ids[first:]:
                raise self._no_prefix()
            mask_T[first : ids.index(self.end_of_turn_id, first) + 1] = True
        return ids, mask_T

    def _prefix_length(self, ids: list[int], spans: Sequence[tuple[int, int]], text: str, start: int) -> int:
        """How many of the tokens `ids` of `text` are the tokens of `text[:start]`; `spans` are their places in it.

        Text on one side of a special token is tokenised without regard to the other side, so that what follows the
        last one is all that needs tokenising again.
        """
        first = bisect.bisect_left(spans, start, key=lambda span: span[0])
        last = next((i for i in range(first - 1, -1, -1) if ids[i] in self._marker_ids), -1)
        if ids[last + 1 : first] == self.encode(text[spans[last][1] if last >= 0 else 0 : start]):
            return first
        prefix = self.encode(text[:start])
        if ids[: len(prefix)] != prefix:
            raise self._no_prefix()
        return len(prefix)

    def _after_turn(self, messages: Sequence[Message], i: int, after: int | None, whole: str) -> str:
        """What `whole`, the rendering of `messages[:after]`, has after the content of turn `i`."""
        content = messages[i]["content"]
        probe = _PROBE + ("0" if content[-1] != "0" else "1")
        probed = [*messages[:i], messages[i] | {"content": probe}, *messages[i + 1 : after]]
        other = self.render(probed, add_generation_prompt=after is not None)
        shared = (a == b for a, b in zip(reversed(whole), reversed(other), strict=False))
        same = sum(1 for _ in itertools.takewhile(bool, shared))
        tail = whole[len(whole) - same :]
        if not whole.removesuffix(tail).endswith(content) or not other.removesuffix(tail).endswith(probe):
            raise self._no_prefix()
        return tail

    def _no_prefix(self) -> CumaError:
        return CumaError(
            f"the chat template of {self.name} does not write an assistant turn after its own generation prompt, so "
            "the tokens to train on cannot be told; use another model, or the tokenizer of one (--model.tokenizer)"
        )

    def letter_ids(self, n: int, prompt: str | None = None) -> list[int]:
        """Ids of the first `n` option letters A, B, ... as the first token of an answer.

        `prompt` is the rendered text before the letter; None: a short question with the generation prompt.

        Raises:
            CumaError: a letter that is not one token of its own after the prompt.
        """
        if not 1 <= n <= len(string.ascii_uppercase):
            raise CumaError(f"a question has {n} options; there are 26 letters to name them")
        if prompt is None:
            prompt = self.render([{"role": "user", "content": "A or B?"}], add_generation_prompt=True)
        # What stands before the last special token has no say in how the letter is tokenised.
        last = max((prompt.rfind(token) for token in self._added), default=-1)
        prompt = prompt[max(last, 0) :]
        if (n, prompt) in self._letter_ids:
            return list(self._letter_ids[n, prompt])
        prompt_ids, ids = self.encode(prompt), list[int]()
        for letter in string.ascii_uppercase[:n]:
            found = self.encode(prompt + letter)
            if found[:-1] != prompt_ids or found[-1] in ids or self.decode(found[-1:]) != letter:
                raise CumaError(
                    f"tokenizer {self.name} does not write the option letter {letter!r} as one token after the prompt "
                    f"{prompt[-40:]!r}; use another model or --model.tokenizer"
                )
            ids.append(found[-1])
        self._letter_ids[n, prompt] = ids
        return list(ids)

    def _find_end_of_turn(self) -> int:
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
        tail = self.render(turns).rpartition(_PROBE)[2]
        special = {i for i, token in self._backend.added_tokens_decoder.items() if token.special}
        special |= set(self._backend.all_special_ids)
        for token in self.encode(tail):
            if token in special:
                return token
        raise CumaError(
            f"the chat template of {self.name} ends an assistant turn with {tail!r}, which has no special token; "
            "use an instruction-tuned model, or give the tokenizer of one with --model.tokenizer"
        )


def load_tokenizer(files: ModelFiles, chat: bool = True) -> Tokenizer:
    """The tokenizer of a model; `chat` False accepts one without a chat template (for text encoders).

    Raises:
        CumaError: tokenizer files missing or unreadable, an unknown GGUF pre-tokenizer, or no chat template.
    """
    return Tokenizer(load_backend(files), files.source, chat)
