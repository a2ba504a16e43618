"""Which countries (or values of another profile field) are held out: by name, or by the lowest hashes.

Shapes: N rows, I items, V values of a field, U units, M (value, item) pairs that occur.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.near_matches import near_hint
from cuma_jax.surveys.units import Units

MAX_COUNTRY_SHARE = 0.1
"""A country with a larger share of all answers (or twice an even share, in a survey of fewer than 20 countries) is
not held out by share; it may be by name."""


def hash_shares(values: Iterable[str], seed: int, kind: str) -> np.ndarray:
    """A number in [0, 1) for each value, float64 [U]: blake2b of (seed, kind, value), so no order matters."""
    salt = f"{seed}:{kind}:".encode()
    digests = b"".join([hashlib.blake2b(salt + value.encode(), digest_size=8).digest() for value in values])
    # 53 bits: what a float64 holds exactly, so that the result is below 1.
    return (np.frombuffer(digests, ">u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53


def held_out_values(units: Units, data: DataConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The values held out from training for good, and those held out for validation; no value is both.

    For good: those named in `data.held_out_countries`, or the share `data.unseen_countries`. For validation: the share
    `data.validation_countries` of what there is, by hashes of their own. By share: round(share x number of values), at
    least one, in the order of their hashes. Left in training: a value with too many of the rows (`MAX_COUNTRY_SHARE`),
    and one whose loss would leave an item of several rows without any value. A `CumaError` for an unknown name (with
    near matches), or a share with no value that can be held out.
    """
    field, names = data.held_out_field, units.values(data.held_out_field)[1]
    named = tuple(units.value_named(field, name) for name in data.held_out_countries)
    for name in named:
        if name not in names:
            raise CumaError(
                f"data.held_out_countries: survey {units.name!r} has no {field} {name!r}; {near_hint(name, names)}"
            )
    unseen = tuple(dict.fromkeys(named))
    if not (data.validation_countries > 0 or (data.unseen_countries > 0 and not unseen)):
        return unseen, ()
    choice = _Choice(units, field)
    for name in unseen:
        choice.take(names.index(name))
    if not unseen and data.unseen_countries > 0:
        unseen = choice.draw("unseen_countries", data.unseen_countries, hash_shares(names, data.split_seed, field))
    validation: tuple[str, ...] = ()
    if data.validation_countries > 0:
        # Another salt: which are validated on does not follow from which are unseen.
        draw_V = hash_shares(names, data.split_seed, f"validation {field}")
        validation = choice.draw("validation_countries", data.validation_countries, draw_V)
    return unseen, validation


class _Choice:
    """Takes values out of training, as long as every item keeps one."""

    def __init__(self, units: Units, field: str):
        self._units, self._field = units, field
        value_R, self._names = units.values(field)
        self._value_M, self._item_M, self._rows_V = _pairs(value_R[units.person_N], units, self._names)
        self._answered = np.flatnonzero(self._rows_V > 0)
        self._left_I = np.bincount(self._item_M, minlength=len(units.item_ids))
        # An opening prompt that one person wrote has one country by nature; questions are put to many.
        self._shared_I = np.ones(len(units.item_ids), bool)
        if units.conversation_ids is not None:
            self._shared_I = np.bincount(units.item_N, minlength=len(units.item_ids)) > 1
        self._taken: set[int] = set()

    def take(self, value: int) -> None:
        self._left_I[self._item_M[self._value_M == value]] -= 1
        self._taken.add(value)

    def draw(self, name: str, share: float, draw_V: np.ndarray) -> tuple[str, ...]:
        """Takes out `share` of the values, the lowest numbers first; `name` is the config field, for the error."""
        wanted = max(1, round(share * len(self._answered)))
        limit = max(MAX_COUNTRY_SHARE, 2 / max(1, len(self._answered))) * len(self._units)
        order = np.argsort(draw_V, kind="stable")
        held: list[str] = []
        for v in order[np.isin(order, self._answered)].tolist():
            items = self._item_M[self._value_M == v]
            alone = (self._left_I[items[self._shared_I[items]]] == 1).any()
            if len(held) == wanted or v in self._taken or self._rows_V[v] > limit or alone:
                continue
            self.take(v)
            held.append(self._names[v])
        if not held:
            raise CumaError(
                f"data.{name} is {share:g}, but no {self._field} of survey {self._units.name!r} can be held "
                f"out ({len(self._answered)} values of {self._field}; each is the only one of some "
                f"{self._units.item}, or too large, or held out already); set data.{name} to 0, name "
                "data.held_out_countries, or choose another data.held_out_field"
            )
        return tuple(held)


def _pairs(value_N: np.ndarray, units: Units, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value and item of each pair of them that occurs, both [M], and the number of rows of each value, [V]."""
    item_N, known_N = units.item_N, value_N >= 0
    if not known_N.all():
        value_N, item_N = value_N[known_N], item_N[known_N]
    key_N = value_N * np.int64(len(units.item_ids)) + item_N
    # Counting is faster than sorting, where the table is small.
    if (size := len(names) * len(units.item_ids)) <= len(units):
        count = np.bincount(key_N, minlength=size)
        pair_M = np.flatnonzero(count)
        count_M = count[pair_M]
    else:
        pair_M, count_M = np.unique(key_N, return_counts=True)
    value_M, item_M = np.divmod(pair_M, max(len(units.item_ids), 1))
    return value_M, item_M, np.bincount(value_M, weights=count_M, minlength=len(names))
