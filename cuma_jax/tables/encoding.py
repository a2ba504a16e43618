"""Text that is not in the encoding it should be: the first line that is not, and how many there are."""

import pathlib
from collections.abc import Iterable

from cuma_jax.tables.problems import Problems

UNREADABLE = "\ufffd"
"""In a value: a byte that is not of the file's encoding. It has been reported; the value counts as missing."""
UNREADABLE_LINES = "lines that cannot be read"
"""What readers count lines under that they leave out."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def report_not_utf8(path: pathlib.Path, lines: Iterable[bytes], problems: Problems) -> bool:
    """Whether there is a line that is not UTF-8, which is then a problem."""
    first, count = (0, ""), 0
    for number, line in enumerate(lines, 1):
        if number == 1 and line[:2] in _UTF16:
            problems.error(path, 1, None, "the file is UTF-16, not UTF-8", problems.advice.encoding.format("utf-16"))
            return True
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            count += 1
            if count == 1:
                first = number, f"byte 0x{line[error.start]:02x} at position {error.start + 1} of the line"
    if count:
        more = f" ({count} lines have such bytes)" if count > 1 else ""
        hint = problems.advice.encoding.format("latin-1")
        problems.error(path, first[0], None, f"{first[1]} is not UTF-8{more}", hint)
    return count > 0


def decode(path: pathlib.Path, data: bytes, encoding: str, problems: Problems) -> bytes:
    """The file as UTF-8 with `\\n` line ends; bytes that are not of its encoding become `UNREADABLE`, and a problem."""
    if data[:2] in _UTF16 and not encoding.startswith("utf-16"):
        report_not_utf8(path, [data[:2]], problems)
        encoding = "utf-16"
    hint = problems.advice.encoding.format("the encoding the file was saved in")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8":
            report_not_utf8(path, data.split(b"\n"), problems)
        else:
            line = data.count(b"\n", 0, error.start) + 1
            problems.error(path, line, None, f"byte 0x{data[error.start]:02x} is not {encoding.upper()}", hint)
        text = data.decode(encoding, errors="replace")
    except UnicodeError as error:
        problems.error(path, None, None, f"is not {encoding} ({error})", hint)
        text = data.decode("latin-1")
    # A text that is already UTF-8 is not copied.
    clean = data if encoding == "utf-8" and UNREADABLE not in text else text.encode("utf-8", errors="replace")
    clean = clean.removeprefix(b"\xef\xbb\xbf")
    if not clean.strip():
        problems.error(path, None, None, "the file is empty", problems.advice.again)
    return clean.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in clean else clean


def guess_encoding(data: bytes) -> str:
    """utf-8 where the bytes are that, utf-16 where they say so, else latin-1."""
    if data[:2] in _UTF16:
        return "utf-16"
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        return "latin-1"
