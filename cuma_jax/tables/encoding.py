"""Text that is not in the encoding it should be: the first line that is not, and how many there are."""

import codecs
import pathlib
import re
import unicodedata
from collections.abc import Iterable

from cuma_jax.tables.problems import Problems

UNREADABLE = "\ufffd"
"""In a value: a byte that is not of the file's encoding. It has been reported; the value counts as missing."""
UNREADABLE_LINES = "lines that cannot be read"
"""What readers count lines under that they leave out."""
NOT_KNOWN = ""
"""In place of an encoding: the bytes do not tell."""

_BOMS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# Letters of Windows-1252 where Latin-1 has control characters, which no text holds.
_CONTROLS = re.compile("[\x80-\x9f]")
_LATIN = ("iso8859", "latin", "ascii")
_ASCII = re.compile(r"[ -~]*")
# Characters that are not seen. Joiners are left: Persian, Indic scripts and emoji are spelled with them.
_UNSEEN = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


# A codec is a file of Python's: read now, while files can be read.
for _name in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"):
    codecs.lookup(_name)


def spelled(text: str) -> str:
    """A name or code in the one spelling of all that look alike: `visible`, each run of spaces one space."""
    return " ".join(visible(text).split())


def visible(text: str) -> str:
    """A value in NFC, without characters that are not seen, and without blanks at its ends."""
    return text.strip() if _ASCII.fullmatch(text) else unicodedata.normalize("NFC", _UNSEEN.sub("", text)).strip()


def report_not_utf8(path: pathlib.Path, lines: Iterable[bytes], problems: Problems) -> bool:
    """Whether there is a line that is not UTF-8, which is then a problem."""
    first, count = (0, 0, b""), 0
    for number, line in enumerate(lines, 1):
        if number == 1 and _binary(line):
            problems.error(path, None, None, "this is a binary file, and no text", problems.advice.again)
            return True
        if number == 1 and (name := _wide_encoding(line)):
            problems.error(path, 1, None, f"the file is {name.upper()}, not UTF-8", _hint(problems, name))
            return True
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            count += 1
            if count == 1:
                first = number, error.start, line
    if count:
        number, place, line = first
        more = f" ({count} lines have such bytes)" if count > 1 else ""
        message = f"byte 0x{line[place]:02x} at position {place + 1} of the line is not UTF-8{more}"
        problems.error(path, number, None, message, _hint(problems, _single_byte(line), line, place))
    return count > 0


def decode(path: pathlib.Path, data: bytes, encoding: str, problems: Problems) -> bytes:
    """The file as UTF-8 with `\\n` line ends; bytes that are not of its encoding become `UNREADABLE`, and a problem."""
    if (wide := _wide_encoding(data)) and not encoding.startswith(("utf-16", "utf-32")):
        report_not_utf8(path, [data[:1024]], problems)
        encoding = wide
    elif not wide and _binary(data):
        report_not_utf8(path, [data[:1024]], problems)
        return b""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8":
            report_not_utf8(path, data.split(b"\n"), problems)
        else:
            line = data.count(b"\n", 0, error.start) + 1
            message = f"byte 0x{data[error.start]:02x} is not {encoding.upper()}"
            problems.error(path, line, None, message, _hint(problems, NOT_KNOWN))
        text = data.decode(encoding, errors="replace")
    except (UnicodeError, LookupError) as error:
        problems.error(path, None, None, f"is not {encoding} ({error})", _hint(problems, NOT_KNOWN))
        text = data.decode("latin-1")
    if encoding != "utf-8" or b"\xc2" in data:
        _report_controls(path, text, encoding, problems)
    # A text that is already UTF-8 is not copied.
    clean = data if encoding == "utf-8" and UNREADABLE not in text else text.encode("utf-8", errors="replace")
    clean = clean.removeprefix(b"\xef\xbb\xbf")
    if not clean.strip():
        problems.error(path, None, None, "the file is empty", problems.advice.again)
    return clean.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in clean else clean


def guess_encoding(data: bytes) -> str:
    """utf-8 where the bytes are that, utf-16 or -32 where they look so, cp1252 where that can be; else `NOT_KNOWN`."""
    if wide := _wide_encoding(data):
        return wide
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        return _single_byte(data)


def _wide_encoding(data: bytes) -> str:
    """The encoding of several bytes a character that a byte order mark, or zeros, tell of; "" where none does."""
    if name := next((name for mark, name in _BOMS.items() if data.startswith(mark)), ""):
        return name
    head = data[:1024]
    zeros = [head[place::2].count(0) for place in (0, 1)]
    if max(zeros) > len(head) // 5 and min(zeros) <= len(head) // 50:
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    return ""


def _binary(data: bytes) -> bool:
    """Whether so many bytes are control characters that no encoding makes a text of them."""
    head = data[:1024]
    return not _wide_encoding(head) and sum(b < 9 or 13 < b < 32 for b in head) > max(len(head) // 16, 4)


def _single_byte(data: bytes) -> str:
    """cp1252 for bytes that may be that: of them, letters of other alphabets stand beside each other."""
    high = re.findall(rb"[\x80-\xff]+", data)
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return NOT_KNOWN
    return "cp1252" if sum(len(run) == 1 for run in high) * 2 > len(high) else NOT_KNOWN


def _hint(problems: Problems, name: str, line: bytes = b"", place: int = 0) -> str:
    if name == NOT_KNOWN:
        return problems.advice.other_encoding
    hint = problems.advice.encoding.format(name)
    if not line:
        return hint
    read = line[max(place - 20, 0) : place + 20].decode(name, errors="replace").strip()
    return f"{hint}. The line then reads ...{read}...; if that is wrong, {problems.advice.other_encoding}"


def _report_controls(path: pathlib.Path, text: str, encoding: str, problems: Problems) -> None:
    """Control characters that no text holds are letters of another encoding."""
    found = _CONTROLS.search(text)
    if not found or (encoding.startswith("utf") and not _CONTROLS.search(text.replace("\x85", " "))):
        return  # a line end of Unicode
    number, start = text.count("\n", 0, found.start()) + 1, text.rfind("\n", 0, found.start()) + 1
    control = f"U+{ord(found[0]):04X} is a control character"
    if not encoding.startswith(_LATIN):
        message = f"{control}: was a Windows-1252 text taken for Latin-1 when it was saved?"
        problems.warning(path, number, None, message, "it is taken out; save the file again from where it came from")
        return
    line = text[start : found.start() + 1024].partition("\n")[0].encode(encoding, errors="replace")
    hint = _hint(problems, _single_byte(line), line, found.start() - start)
    problems.error(path, number, None, f"{control}, so the file is not {encoding.upper()}", hint)
