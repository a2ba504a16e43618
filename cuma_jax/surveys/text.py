"""Text from other people's files, made fit to be shown to a model: no markup, nothing invisible, one spelling."""

import functools
import html.entities
import re
import sys
import unicodedata

_INLINE = (
    "a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd label mark nobr q s samp small span strike "
    "strong sub sup time tt u var wbr"
)
_BLOCK = (
    "address article aside blockquote body br button caption center dd div dl dt fieldset figure footer form h1 h2 h3 "
    "h4 h5 h6 head header hr html img input li link main meta nav ol option p pre script section select style table "
    "tbody td textarea tfoot th thead title tr ul"
)
# An attribute has a value, or is one of those that need none: "<b and c>" is text.
_BARE = "checked disabled hidden multiple noshade nowrap open readonly required selected"
_ATTRIBUTES = (
    r"""(?:\s+(?:[a-zA-Z_:][-\w:.]*\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=`]+)|(?:"""
    + _BARE.replace(" ", "|")
    + r"""))(?![-\w=]))*\s*/?"""
)
_OPENING = re.compile(r"<!--|<(script|style)\b[^<>]*>", re.IGNORECASE)
_CLOSING = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style")} | {"": re.compile("-->")}
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE.replace(' ', '|')}){_ATTRIBUTES}>", re.IGNORECASE)
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCK.replace(' ', '|')}){_ATTRIBUTES}>", re.IGNORECASE)
_BRACKET = re.compile("[<>]")
# Only with a semicolon: "R&D", "Q&A" and "?a=1&copy=2" are text.
_AMPERSANDS = re.compile(r"&(?:amp;|AMP;|#0{0,5}38;|#[xX]0{0,4}26;)+")
_ENTITY = re.compile(r"&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,31}));")
# Controls, soft hyphen, bidi marks, zero-width characters, byte order mark, surrogates, non-characters, tag characters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"
)
# Joiners mean something only between letters of Arabic and Indic scripts, and inside an emoji.
_SCRIPT = "\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u17ff\u200d\ufb50-\ufdcf\ufe70-\ufefc"
_EMOJI = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_JOINER = re.compile(
    f"(?<![{_SCRIPT}{_EMOJI}])[\u200c\u200d]|[\u200c\u200d](?![{_SCRIPT}{_EMOJI}])|[\u200c\u200d](?=[\u200c\u200d])"
)
_LINE = re.compile("\r\n|[\n\r\v\f\x85\u2028\u2029]")
_PLAIN = re.compile(r"[ -%'-;=-~]*")
_MARKS = 30
"""Marks on one character that are kept, as in Unicode's stream-safe texts: to order more takes their square."""
_MAYBE_MARKS = re.compile(f"[\u0300-\U0010ffff]{{{_MARKS + 1}}}")
_PASSES = 20  # each takes the time of the text's length; what still changes then was made to


def clean_text(text: str, keep_lines: bool = False) -> str:
    """`text` without markup, invisible characters or runs of whitespace; cleaning twice changes nothing more.

    - HTML tags go, if they are tags of HTML: "<b>", "</p>" and "<br/>", but not "<3", "a < b" or "<|im_end|>".
      What separates blocks becomes a space (a new line with `keep_lines`); comments, scripts and styles go whole.
    - Entities become their characters, also where a program escaped them more than once ("&amp;lt;" is "<").
    - Control, zero-width, bidirectional and byte-order characters go. Joiners stay where Arabic, Indic scripts and
      emoji need them.
    - NFC, so that one text has one spelling.
    - Whitespace runs become one space; the ends are stripped.

    Markers of chat templates are text here ("&lt;|im_end|&gt;" comes out as "<|im_end|>"): the tokenizer makes sure
    that none of them can open a turn. With `keep_lines`, line ends stay, as `\\n`; each line is cleaned by itself.
    """
    if _PLAIN.fullmatch(text):
        return " ".join(text.split())
    # One step can uncover what another removes ("&lt;b&gt;"): repeat until nothing changes.
    for _ in range(_PASSES):
        if (cleaned := _pass(text, keep_lines)) == text:
            break
        text = cleaned
    return text


def visible_text(text: str) -> str:
    """`text` without control, zero-width and bidirectional characters, in NFC, its ends stripped.

    For what people and models wrote to each other: markup in it may be what they talk about, and line ends and
    indentation may be code.
    """
    # Normalising can join what stood apart, but makes nothing invisible.
    return _composed(_JOINER.sub("", _INVISIBLE.sub("", _LINE.sub("\n", text)))).strip()


def _pass(text: str, keep_lines: bool) -> str:
    if "<" in text:
        text = _without_tags(_without_hidden(text))
    if "&" in text:
        text = _ENTITY.sub(_character, _AMPERSANDS.sub("&", text))
    text = _composed(_JOINER.sub("", _INVISIBLE.sub("", text)))
    if keep_lines:
        return "\n".join(" ".join(line.split()) for line in _LINE.split(text)).strip()
    return " ".join(text.split())


def _without_hidden(text: str) -> str:
    """Without comments, scripts and styles, from the first opening to the first closing of its kind."""
    parts, done, at, never = [], 0, 0, set[str]()
    while match := _OPENING.search(text, at):
        kind = (match[1] or "").lower()
        end = None if kind in never else _CLOSING[kind].search(text, match.end())
        if end is None:
            never.add(kind)
            at = match.start() + 1
            continue
        parts += [text[done : match.start()], " "]
        done = at = end.end()
    return "".join([*parts, text[done:]])


def _without_tags(text: str) -> str:
    """Without tags, and those that are left when others are gone ("<<b>b>"); each character is looked at twice."""
    parts: list[str] = []
    opened: list[int] = []  # the parts that begin with a "<" that may open a tag
    at = 0
    for match in _BRACKET.finditer(text):
        if match[0] == "<":
            parts.append(text[at : match.start()])
            opened.append(len(parts))
            at = match.start()
        elif opened:
            parts.append(text[at : match.end()])
            at, start = match.end(), opened[-1]
            tag = "".join(parts[start:])
            if (inline := _INLINE_TAG.fullmatch(tag)) or _BLOCK_TAG.fullmatch(tag):
                opened.pop()
                parts[start:] = [] if inline else ["\n"]
            else:  # no tag has one of these within
                opened.clear()
    return "".join([*parts, text[at:]])


def _composed(text: str) -> str:
    """In NFC; of a run of marks on one character the first `_MARKS`."""
    if _MAYBE_MARKS.search(text):
        text = _too_many_marks().sub(r"\1", text)
    return unicodedata.normalize("NFC", text)


@functools.cache
def _too_many_marks() -> re.Pattern[str]:
    marks = "".join(c for c in map(chr, range(0x300, sys.maxunicode + 1)) if unicodedata.combining(c))
    return re.compile(rf"([{marks}]{{{_MARKS}}})[{marks}]+")


def _character(match: re.Match[str]) -> str:
    decimal, hexadecimal, name = match.groups()
    if name:
        return html.entities.html5.get(f"{name};", match[0])
    code = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(code) if 0 < code <= 0x10FFFF else ""
