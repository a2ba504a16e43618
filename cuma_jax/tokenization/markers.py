"""No text may open a turn: chat-template markers inside a message are broken up before it is rendered.

A survey's wording, a profile's value or a person's turn may hold `<|im_end|>`, by accident or on purpose. Tokenised as
written it would end the turn and open another one. A space after its first character keeps it readable, and makes it
plain text to every tokenizer.
"""

import re
from collections.abc import Iterable

KNOWN_MARKERS = (
    *("<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|endoftext|>", "<|end|>", "<|system|>", "<|user|>"),
    *("<|assistant|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|begin_of_text|>"),
    *("<|end_of_text|>", "<|python_tag|>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>", "<bos>", "<eos>"),
    *("<start_of_turn>", "<end_of_turn>", "<think>", "</think>"),
)
"""Markers of common model families. They are broken up whatever the tokenizer, because a template may look for them
in the text (Qwen3 cuts an answer at `</think>`), and so that a text reads the same to every model."""


class Markers:
    """Finds markers in a text and breaks them up: known ones, and `tokens`, the tokenizer's own added ones."""

    def __init__(self, tokens: Iterable[str] = ()):
        markers = {m for m in (*KNOWN_MARKERS, *tokens) if m.strip()}
        # The longest first: what is found is then a whole marker.
        self._pattern = re.compile("|".join(map(re.escape, sorted(markers, key=lambda m: (-len(m), m)))))

    def split(self, text: str) -> list[str]:
        """The lines of `text`, parted at markers too, without these."""
        return self._pattern.sub("\n", text).splitlines()

    def neutralise(self, text: str) -> str:
        """`text` with a space inside every marker, `<|im_end|>` as `< |im_end|>`; other text is unchanged.

        The result holds no marker, so doing it twice changes nothing.
        """
        while True:  # breaking one up may leave another that overlapped it
            broken = self._pattern.sub(lambda match: break_up(match[0]), text)
            if broken == text:
                return text
            text = broken


def break_up(marker: str) -> str:
    """A marker with a space after its first character; one that a space cannot break (a single one) becomes U+FFFD."""
    spaced = marker[0] + " " + marker[1:]
    return "\N{REPLACEMENT CHARACTER}" if marker in spaced else spaced
