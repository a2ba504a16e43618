"""Tables for the terminal: aligned columns, headers, footnotes, and numbers as text."""

import itertools
from collections.abc import Mapping, Sequence


def text_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), notes: Sequence[str] = ()
) -> str:
    """A header, a rule and the rows, two spaces between columns; after an empty line the footnotes, a line each.

    `right`: numbers of the columns that are flush right.
    """
    first, *others = aligned([header, *rows], right)
    rule = "  ".join("-" * max(map(len, column)) for column in zip(header, *rows, strict=True))
    return "\n".join([first, rule, *others, *(["", *notes] if notes else [])])


def aligned(
    rows: Sequence[Sequence[str]], right: Sequence[int] = (), least: Sequence[int] = (), gap: str = "  "
) -> list[str]:
    """Rows of equally many texts as lines in which every column begins, or ends (those in `right`), at one place.

    `least`: smallest width of the first columns; `gap`: what stands between columns.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths = [max(pair) for pair in itertools.zip_longest(widths, least, fillvalue=0)]
    sides = [">" if i in right else "<" for i in range(len(widths))]
    return [
        gap.join(f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]


def number_text(value: float | None, style: str = "{:.4f}") -> str:
    """A value as text: a dash where it is not defined, and never a negative zero."""
    if value is None:
        return "-"
    text = style.format(value)
    return text if any(c in "123456789" for c in text) else style.format(0.0)


def interval_text(metric: Mapping[str, float | None] | None, style: str = "{:.4f}", undefined: str = "-") -> str:
    """A metric {value, low, high} as `value [low, high]`; the value alone where it has no interval."""
    if metric is None or metric["value"] is None:
        return undefined
    value = number_text(metric["value"], style)
    if metric["low"] is None:
        return value
    return f"{value} [{number_text(metric['low'], style)}, {number_text(metric['high'], style)}]"


def printable(text: str) -> str:
    """Text without what a terminal would obey: models and files may hold anything."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
