"""What a model's own files may say: one check of their fields.

A field is understood, or known to have no effect, or an error that names it: what is not looked at is not ignored.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cuma_jax.config.fields import shown
from cuma_jax.runtime.errors import CumaError

_LISTED = 5


class Kind(NamedTuple):
    """What a field may hold."""

    words: str
    holds: Callable[[Any], bool]


def _whole(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


COUNT = Kind("a whole number of 1 or more", _whole)
LAYERS = Kind("a whole number from 1 to 1000", lambda value: _whole(value) and value <= 1000)
NUMBER = Kind("a positive number", _number)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("a text", lambda value: isinstance(value, str))
TABLE = Kind("an object", lambda value: isinstance(value, dict))
TEXTS = Kind("a list of texts", lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value))
ID = Kind("a token id", lambda value: _whole(value, 0))
IDS = Kind("a token id or a list of them", lambda v: all(_whole(i, 0) for i in (v if isinstance(v, list) else [v])))
ANY = Kind("anything", lambda value: True)
OFF = Kind("off (false, 0 or empty): this is not supported", lambda value: value in (False, 0, "", [], {}, "none"))
ONE = Kind("1: any other value is not supported", lambda value: value == 1 and not isinstance(value, bool))


def only(*values: Any) -> Kind:
    """A field that may have these values: those that ask for nothing that is not done here."""
    allowed = " or ".join(json.dumps(value) for value in values)
    return Kind(f"{allowed}: any other value is not supported", lambda value: value in values)


def check_fields(values: Mapping[str, Any], known: Mapping[str, Kind], where: str, supported: str, remedy: str) -> None:
    """Checks every field of `values`; null is the same as absent.

    Raises:
        CumaError: fields of another kind than `known` says, or that are not in it, in one message. It ends with what is
            `supported`; where a field is not known, with the `remedy` (of KEY) if that field has no effect.
    """
    given = {name: value for name, value in values.items() if value is not None}
    unknown = [name for name in given if name not in known]
    wrong = [
        f"{name} is {shown(value)}; it must be {known[name].words}"
        for name, value in given.items()
        if name in known and not known[name].holds(value)
    ] + [f"{name} (here {shown(given[name])}) is not known" for name in unknown]
    if wrong:
        more = f"; and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        if unknown:
            remedy = remedy.replace("KEY", unknown[0])
            supported += f" If you are sure that {unknown[0]} does not change what the model computes, {remedy}"
        raise CumaError(f"{where}: {'; '.join(wrong[:_LISTED])}{more}. {supported}")
