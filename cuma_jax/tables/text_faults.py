"""What is wrong with a text table, as far as its bytes and its header tell: shared by the readers of such files."""

from collections.abc import Collection, Iterable, Sequence

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
"""What columns may be separated by, and what that is called."""


def first_not_utf8(lines: Iterable[bytes]) -> tuple[int, str] | None:
    """Number (from 1) of the first line that is not UTF-8, and what is wrong with it; None: all are."""
    for number, line in enumerate(lines, 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            guess = "it looks like UTF-16" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else "it may be Latin-1"
            return number, f"byte 0x{line[error.start]:02x} at column {error.start + 1} is not UTF-8 ({guess})"
    return None


def other_delimiter(header: Sequence[str], delimiter: str, wanted: Collection[str] | None = None) -> str:
    """The delimiter that the columns seem to be separated by, where `delimiter` leaves the header in one piece.

    Args:
        header: the columns' names.
        delimiter: what they were split by.
        wanted: columns that should be there: one must come out; None: any other delimiter will do.

    Returns:
        One of `DELIMITERS`, or "".
    """
    if len(header) != 1:
        return ""
    others = [d for d in DELIMITERS if d != delimiter and d in header[0]]
    return next((d for d in others if wanted is None or set(header[0].split(d)) & set(wanted)), "")
