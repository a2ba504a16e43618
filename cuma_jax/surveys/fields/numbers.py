"""Profile fields that are numbers: read from texts, written as texts again, and put into bins.

Shapes: V distinct values of a column, E edges of bins.
"""

import itertools
import math
import re
from collections.abc import Sequence

import numpy as np

_COMMA = re.compile(r"[+-]?(?:0?,\d+|\d+,(?:\d{1,2}|\d{4,}))")
# Codes that surveys write for "don't know", "refused" and the like.
_NINES = tuple(float(10**digits - back) for digits in (2, 3, 4, 5, 6) for back in (1, 2, 3, 4))


def read_numbers(values: Sequence[str]) -> np.ndarray:
    """float64 [V], nan where there is none; with decimal commas where no value has a point and one tells."""
    if not any("." in value for value in values) and any(_COMMA.fullmatch(value) for value in values):
        values = [value.replace(",", ".") for value in values]
    return np.array([read_number(value) for value in values], np.float64)


def read_number(text: str) -> float:
    """The number that a text is; nan where it is none."""
    try:
        return float(text.replace("_", "x"))
    except ValueError:
        return math.nan


def number_text(number: float) -> str:
    """A number as a profile has it, without an exponent: 37.0 is "37", 0.25 is "0.25"."""
    return np.format_float_positional(number + 0.0, trim="-")


def bin_labels(edges: Sequence[float]) -> tuple[str, ...]:
    """Texts of the E + 1 bins between increasing edges: (18, 30, 60) gives "under 18", "18-29", "30-59",
    "60 and over".

    A bin holds its lower edge and not its upper one, and with whole edges the label names the last whole number in
    it: someone of 29.5 years is 29.
    """
    inner = []
    for low, high in itertools.pairwise(edges):
        if not (low.is_integer() and high.is_integer()):
            inner.append(f"{number_text(low)} to under {number_text(high)}")
        elif high - low == 1:
            inner.append(number_text(low))
        else:
            inner.append(f"{number_text(low)}{' to ' if low < 0 else '-'}{number_text(high - 1)}")
    return (f"under {number_text(edges[0])}", *inner, f"{number_text(edges[-1])} and over")


def bin_numbers(number_V: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """int [V], the position of each number's bin in `bin_labels(edges)`."""
    return np.searchsorted(np.asarray(edges, np.float64), number_V, side="right")


def missing_codes(number_V: np.ndarray) -> list[float]:
    """Those of distinct numbers that look like codes for "no answer": -1 to -9 where no other number is negative (and
    they are few), and 97 to 99, 997 to 999, ... far above all others.
    """
    numbers = np.sort(number_V[np.isfinite(number_V)])
    negative = numbers[numbers < 0].tolist()
    coded = all(x in range(-9, 0) for x in negative) and len(negative) <= (len(numbers) - len(negative)) / 3
    others = numbers[(numbers >= 0) & ~np.isin(numbers, _NINES)]
    if len(others) < 2:
        return []
    span = others[-1] - others[0]
    nines = [x for x in numbers.tolist() if x in _NINES and x - others[-1] > span]
    return (negative if coded else []) + nines
