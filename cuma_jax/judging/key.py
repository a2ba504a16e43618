"""The key of an endpoint: read from the environment, sent, and shown nowhere, in whatever form a server repeats it."""

import base64
import html
import json
import os
import re
import unicodedata
from urllib.parse import unquote_plus

from cuma_jax.runtime.errors import CumaError

HIDDEN = "(not shown: it repeats the key)"
_READ, _SHOWN = 4000, 200
"""Characters of a server's text that are looked at, and shown."""
_SECRET, _LONG, _PIECE = 8, 12, 6
"""Letters and digits of a key that is looked for in disguise, as a whole and in pieces, and of such a piece. A shorter
one (EMPTY, ollama) is no secret."""
_ESCAPE = re.compile(r"\\(?:U0000([0-9a-fA-F]{4})|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")
_TAG = re.compile(r"<[^<>]*>")


class Key:
    """The key in the environment variable `name`; of no name, an empty one.

    Raises:
        CumaError: the variable is empty, or holds what cannot be a key.
    """

    def __init__(self, name: str):
        self.value = _read(name)
        plain = _letters(self.value)
        self._plain = plain if len(plain) >= _SECRET else ""
        self._width = _PIECE if len(plain) >= _LONG else len(plain)
        forms = [plain, _letters(self.value.encode().hex())]
        # Where a text begins within a group of three bytes decides its base64; what its neighbours change is cut off.
        forms += [_letters(base64.b64encode(b"\0" * n + self.value.encode()).decode()[4:-4]) for n in range(3)]
        forms += [form[::-1] for form in forms]
        self._pieces = frozenset(piece for form in forms for piece in self._cut(form)) if self._plain else frozenset()

    def is_in(self, text: str) -> bool:
        """Whether the whole key is in a text, in whatever capitals."""
        return bool(self._plain) and self._plain in _letters(text)

    def replaced(self, text: str) -> str:
        """`text` with [key] for the key, where it stands as it is."""
        if len(self.value) < 4:
            return text
        return text.replace(self.value, "[key]").replace(json.dumps(self.value)[1:-1], "[key]")

    def hidden(self, text: str) -> str:
        """A few lines of text without the key; `HIDDEN` where a piece of it is left in them, however disguised.

        Pieces are found backwards, in other capitals, with other characters between, as base64, hexadecimal, and in
        the escapes of URLs, HTML and JSON.
        """
        text = self.replaced(text)
        return HIDDEN if self._pieces and any(map(self._has_piece, _unescaped(text))) else text

    def line(self, text: str, tail: bool = False) -> str:
        """One line of a server's text, without the key, cut at its end (or at its start, for `tail`)."""
        text = self.replaced(text)  # before it is cut: a cut key is not found
        flat = " ".join((text[-_READ:] if tail else text[:_READ]).split())
        flat = "".join(char if char.isprintable() else "?" for char in flat)
        if len(flat) > _SHOWN:
            flat = f"... {flat[-_SHOWN:]}" if tail else f"{flat[:_SHOWN]} ..."
        return self.hidden(flat)

    def _has_piece(self, text: str) -> bool:
        return not self._pieces.isdisjoint(self._cut(_letters(text)))

    def _cut(self, letters: str) -> list[str]:
        return [letters[i : i + self._width] for i in range(len(letters) - self._width + 1)]


def _read(name: str) -> str:
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise CumaError(
            f"the judge needs a key: put it into the environment variable {name} (judge.key_env names the variable; "
            "empty: the endpoint needs none)"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CumaError(
            f"the environment variable {name} (judge.key_env) holds no key: it has spaces or odd characters"
        )
    return key


def _letters(text: str) -> str:
    """Letters and digits of ASCII in small letters, whatever stands between them."""
    return re.sub("[^0-9a-z]", "", unicodedata.normalize("NFKC", text).casefold())


def _unescaped(text: str) -> list[str]:
    """The text as it is, without the escapes of URLs, HTML and JSON, and without tags."""
    found = [text]
    for _ in range(3):
        text = html.unescape(unquote_plus(text))
        text = _ESCAPE.sub(lambda match: chr(int(match[match.lastindex or 1], 16)), text)
        found += [text, _TAG.sub("", text)]
    return list(dict.fromkeys(found))
