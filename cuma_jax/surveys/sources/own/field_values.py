"""From the values of a column to the texts of a field: cleaned texts, texts of codes, numbers, or groups of numbers.

Shapes: V distinct values of a column.
"""

import re
from collections.abc import Callable, Collection, Sequence

import numpy as np

from cuma_jax.runtime.near_matches import near_hint
from cuma_jax.surveys.fields.numbers import bin_labels, bin_numbers, number_text, read_numbers
from cuma_jax.surveys.sources.own.survey_spec import FieldSpec
from cuma_jax.surveys.text import clean_text
from cuma_jax.tables.encoding import UNREADABLE, spelled

# "1.0", and "1,0" of a program with a decimal comma; "1,000" may be a thousand.
_WHOLE = re.compile(r"([+-]?\d+)(?:\.0*|,0{1,2})")


def whole(value: str) -> str:
    """A whole number without its decimals: "1.0" and "1,0" are "1"; any other text as it is."""
    match = _WHOLE.fullmatch(value)
    return match[1] if match else value


def find_code(value: str, known: Collection[str]) -> str | None:
    """The code in `known` that a value stands for: the same text, or the same whole number ("1.0" is 1)."""
    if value in known:
        return value
    if (name := spelled(value)) in known:
        return name
    return number if (number := whole(value)) in known else None


def field_texts(
    field: FieldSpec,
    values: Sequence[str],
    missing: frozenset[str],
    used_V: np.ndarray | None = None,
    fault: Callable[[int, str, str], None] = lambda v, message, hint: None,
) -> list[str | None]:
    """The text of each distinct value; None or empty where there is no answer.

    `fault(v, message, hint)` is called for each value that the field cannot have, of those in `used_V` (bool [V];
    None: all).
    """
    texts = [_text(value, field, missing) for value in values]
    used = [True] * len(values) if used_V is None else used_V.tolist()
    for v, (value, text) in enumerate(zip(values, texts, strict=True)):
        if text is None and used[v]:
            hint = near_hint(value, field.values) + " If it means no answer, list it under `missing:`"
            fault(v, f"{field.name} has no text for code {value!r}", hint)
    if not field.as_number:
        return texts
    number_V = read_numbers([text or "" for text in texts])
    known = np.isfinite(number_V).tolist()
    for v, text in enumerate(texts):
        if text and used[v] and not known[v]:
            hint = "if it means no answer, list it under `missing:`; if it stands for a number, under `values:`"
            fault(v, f"{field.name} is {text!r}, which is no number", hint)
    labels = bin_labels(field.bins) if field.bins else ()
    bins = bin_numbers(number_V, field.bins).tolist()
    return [
        None if not known[v] else labels[bins[v]] if labels else number_text(x) for v, x in enumerate(number_V.tolist())
    ]


def _text(value: str, field: FieldSpec, missing: frozenset[str]) -> str | None:
    """The text of a value; empty where there is no answer, None where the code is unknown."""
    if UNREADABLE in value or find_code(value, missing | field.missing | {""}) is not None:
        return ""
    if field.values and ((code := find_code(value, field.values)) is not None or not field.as_number):
        return None if code is None else field.values[code]
    return number if (number := whole(value)) != value else clean_text(value)
