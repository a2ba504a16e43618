"""Groups of people as filters: one way to write them, for Python, command lines, addresses and model names.

`country=Japan,Peru; age>=60` is everybody from Japan or Peru who is 60 or older. The same as a mapping is
`{"country": ["Japan", "Peru"], "age": ">=60"}`. No condition at all is everybody. Nothing here imports JAX.

Legend: K kinds of people (distinct combinations of all fields).
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cuma_jax.config.fields import shown
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.near_matches import near
from cuma_jax.surveys.fields.countries import COUNTRY_FIELDS, same_country

EVERYONE = "everyone"
"""Label of the group without a condition."""
MOST_TEXT = 20_000
"""Characters that the text of one group may have."""
MOST_GROUPS = 2000
"""Groups that may be asked at once."""
MOST_NAME = 200
"""Characters that a country's name may have."""
_SIGN = re.compile(r">=|<=|=|>|<|:")
_COMPARISON = re.compile(r"(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?)$")
_NUMBER, _UNIT = r"(-?\d+(?:\.\d+)?)", r"(?:\s*(?:years?|yrs?|%|child(?:ren)?|people|persons?))?(?:\s+old)?"
_RANGE = re.compile(rf"{_NUMBER}{_UNIT}\s*(?:-|\u2013|\u2014|to(?:\s+(?:under|below))?)\s*{_NUMBER}{_UNIT}", re.I)
_ALONE = re.compile(_NUMBER + _UNIT, re.I)
_FROM = re.compile(
    rf"{_NUMBER}{_UNIT}\s*(?:\+|(?:and|or)\s+(?:over|older|above|more))|(?:>=|\u2265)\s*{_NUMBER}{_UNIT}", re.I
)
_ABOVE = re.compile(rf"(?:over|above|more than|older than|>)\s*{_NUMBER}{_UNIT}", re.I)
_UP_TO = re.compile(
    rf"{_NUMBER}{_UNIT}\s*(?:and|or)\s+(?:under|younger|below|less|fewer)|(?:up to|<=|\u2264)\s*{_NUMBER}{_UNIT}", re.I
)
_BELOW = re.compile(rf"(?:under|below|less than|younger than|fewer than|<)\s*{_NUMBER}{_UNIT}", re.I)


@dataclasses.dataclass(frozen=True)
class Field:
    """What is known of one field of a run's people.

    Attributes:
        name: as profiles have it.
        values: its values in the data with their numbers of people; numeric fields by size, others by name.
        numeric: whether values are numbers or ranges of numbers, so that `age>=60` can be asked.
        told: whether the model is told of it; the others can be filtered by, and the model does not see them.
    """

    name: str
    values: dict[str, int]
    numeric: bool = False
    told: bool = True

    def bounds(self, value: str) -> tuple[float, float]:
        """Lowest and highest number of a value of a numeric field: "30-39" is (30, 39), "60+" (60, inf)."""
        return number_bounds(value) or (float("nan"), float("nan"))


Fields = Mapping[str, Field]


@dataclasses.dataclass(frozen=True)
class Condition:
    """One field's part of a group.

    Attributes:
        field: its name.
        values: the values that match, as the data write them, in the data's order.
        comparison: as asked, such as `>=60`; empty where values were named.
    """

    field: str
    values: tuple[str, ...]
    comparison: str = ""

    @property
    def text(self) -> str:
        """As `parse_group` reads it."""
        return f"{self.field}{self.comparison}" if self.comparison else f"{self.field}={','.join(self.values)}"


@dataclasses.dataclass(frozen=True)
class Group:
    """People who meet all of some conditions.

    Attributes:
        conditions: at most one a field, in the order of the fields.
    """

    conditions: tuple[Condition, ...] = ()

    @property
    def text(self) -> str:
        """The group as one line that `parse_group` reads back; empty for everybody."""
        return "; ".join(condition.text for condition in self.conditions)

    @property
    def label(self) -> str:
        """For people to read, and what tables call the group: `text`, or `EVERYONE`."""
        return self.text or EVERYONE

    @property
    def profile(self) -> dict[str, str] | None:
        """The one profile that the group describes; None where a condition has several values (or none)."""
        if any(len(condition.values) != 1 for condition in self.conditions):
            return None
        return {condition.field: condition.values[0] for condition in self.conditions}

    def mask(self, fields: Sequence[str], vocab: Mapping[str, Sequence[str]], codes_KF: np.ndarray) -> np.ndarray:
        """Bool [K]: which kinds of people are in it. `codes_KF` are positions in `vocab`, -1 where missing."""
        keep_K = np.ones(len(codes_KF), bool)
        for condition in self.conditions:
            wanted = [i for i, value in enumerate(vocab[condition.field]) if value in condition.values]
            keep_K &= np.isin(codes_KF[:, list(fields).index(condition.field)], wanted)
        return keep_K


def parse_group(where: "str | Mapping[str, Any] | Group | None", fields: Fields, unknown: bool = False) -> Group:
    """The group that a text or a mapping describes.

    Names and values are found whatever their capitals, and a country however it is spelled: a group has the people of
    all its spellings. A value may hold commas. A text separates fields by `;`, or by `,` before a known field's name;
    `=` and `:` mean the same.

    Args:
        where: see the top of this file; None: everybody.
        fields: of the run (`Model.fields`).
        unknown: whether values that nobody in the data has are taken as they are (for one profile).

    Raises:
        CumaError: not a group; an unknown field or value, with those that are near; a comparison of a field that is no
            number; a field named twice.
    """
    if isinstance(where, Group):
        # Once more: it may be another run's.
        where = {c.field: [*_compared(c.comparison)] if c.comparison else list(c.values) for c in where.conditions}
    if where is None:
        return Group()
    if isinstance(where, str):
        parts = _split(where, fields)
    elif isinstance(where, Mapping):
        parts = [_part(name, value) for name, value in where.items()]
    else:
        raise CumaError(
            f'a group is {shown(where)}; write it as "country=Japan,Peru; age>=60" or {{"country": ["Japan", "Peru"]}}'
        )
    found: dict[str, _Wanted] = {}
    for given, wanted in parts:
        name = _field(given, fields)
        if name in found:
            both = found[name].texts + wanted.texts
            if not all(map(_COMPARISON.match, both)):
                raise CumaError(f"a group names the field {name} twice; give its values as one list: {name}=A,B")
            wanted = _Wanted(both)
        found[name] = wanted
    order = list(fields)
    return Group(tuple(_condition(fields[name], found[name], unknown) for name in sorted(found, key=order.index)))


def parse_groups(where: Any, fields: Fields, unknown: bool = False) -> list[Group]:
    """One group, or a list of them; see `parse_group`. A `CumaError` for none, or more than `MOST_GROUPS`."""
    one = where is None or isinstance(where, (str, Mapping, Group))
    several: Iterable[Any] = [where] if one else where
    if not isinstance(several, Iterable):
        return [parse_group(where, fields, unknown)]
    several = list(several)
    if not several:
        raise CumaError("no group is asked for; give at least one (an empty text is everybody)")
    if len(several) > MOST_GROUPS:
        raise CumaError(f"{len(several):,} groups are asked for at once; at most {MOST_GROUPS:,} may be")
    return [parse_group(part, fields, unknown) for part in several]


def number_bounds(value: str) -> tuple[float, float] | None:
    """Lowest and highest number of a value: "30-39", "60 and over", "under 18", "45"; None where it is none."""
    text = value.strip()
    if found := _RANGE.fullmatch(text):
        return float(found[1]), float(found[2])
    if found := _ALONE.fullmatch(text):
        return float(found[1]), float(found[1])
    for pattern, above in ((_FROM, True), (_ABOVE, True), (_UP_TO, False), (_BELOW, False)):
        if found := pattern.fullmatch(text):
            number = float(next(part for part in found.groups() if part))
            if above:
                return number + (pattern is _ABOVE), math.inf
            return -math.inf, number - (pattern is _BELOW)
    return None


def make_field(name: str, counts: Mapping[str, int], told: bool = True) -> Field:
    """A field from its values and their numbers of people: sorted by size where all are numbers, else by name."""
    bounds = {value: number_bounds(value) for value in counts}
    numeric = len(counts) > 1 and all(bounds.values())
    order = sorted(counts, key=lambda value: (bounds[value], value) if numeric else value)
    return Field(name, {value: int(counts[value]) for value in order}, numeric, told)


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What is asked of a field; `listed`: a text may be several values with commas between."""

    texts: list[str]
    listed: bool = False


def _split(text: str, fields: Fields) -> list[tuple[str, _Wanted]]:
    """(name as given, what is wanted of it) of each part of a text."""
    if len(text) > MOST_TEXT:
        raise CumaError(f"a group's text has {len(text):,} characters; at most {MOST_TEXT:,} may be")
    names = "|".join(re.escape(label) for name in fields for label in {name, name.replace("_", " ")})
    stops = r";\s*(?=[^;=<>:]+(?:[=<>:]))" + (rf"|,\s*(?=(?:{names})\s*[=<>:])" if names else "")
    parts = []
    for part in re.split(stops, text.strip().removesuffix(";"), flags=re.I):
        if not part.strip():
            continue
        sign = _SIGN.search(part)
        if not sign or not part[: sign.start()].strip() or not part[sign.end() :].strip():
            raise CumaError(f'the group {shown(text)}: cannot read {shown(part)}; write "country=Japan,Peru; age>=60"')
        rest = part[sign.end() :].strip()
        parts.append((part[: sign.start()].strip(), _Wanted([rest if sign[0] in "=:" else sign[0] + rest], True)))
    return parts


def _part(name: Any, value: Any) -> tuple[str, _Wanted]:
    """The same of one entry of a mapping."""
    if not isinstance(name, str):
        raise CumaError(f"a group's field is {shown(name)}; it must be a text")
    if isinstance(value, str):
        return name, _Wanted([value.strip()], True)
    texts = list(value) if isinstance(value, Iterable) and not isinstance(value, Mapping) else [value]
    for one in texts:
        if isinstance(one, (bool, Mapping)) or not isinstance(one, (str, int, float, np.integer, np.floating)):
            raise CumaError(f"a group asks for {name} {shown(one)}; a value is a text, or a list of texts")
    if not texts:
        raise CumaError(f"a group asks for no value of {name}; name one, or leave the field out")
    return name, _Wanted([str(one).strip() for one in texts])


def _field(given: str, fields: Fields) -> str:
    plain = given.casefold().replace(" ", "_")
    for name in fields:
        if name.casefold() in (plain, given.casefold()):
            return name
    raise CumaError(f"unknown field {shown(given)}; this run knows its people by {near(given, list(fields), 40)}")


def _condition(field: Field, wanted: _Wanted, unknown: bool) -> Condition:
    texts = wanted.texts
    if not all(texts):
        raise CumaError(f"a group asks for an empty value of {field.name}; name one, or leave the field out")
    known = {" ".join(value.split()).casefold(): value for value in field.values}
    comparisons = [match for text in texts if (match := _COMPARISON.match(text)) and text.casefold() not in known]
    if comparisons and len(comparisons) == len(texts):
        return _comparing(field, comparisons)
    values: list[str] = []
    for text in texts:
        values += _listed(field, text, known, unknown) if wanted.listed else [_value(field, text, known, unknown)]
    if field.name in COUNTRY_FIELDS and not unknown:  # a group of a country has whoever is of it
        same = {same_country(value) for value in values}
        values += [value for value in field.values if same_country(value) in same]
    there = [value for value in field.values if value in values]
    return Condition(field.name, tuple(dict.fromkeys([*there, *values])))


def _comparing(field: Field, comparisons: list[re.Match[str]]) -> Condition:
    signs = [match[1] + match[2] for match in comparisons]
    if not field.numeric:
        raise CumaError(
            f"a group asks for {field.name}{signs[0]}, but {field.name} is no number; its values are "
            f"{near('', list(field.values))}"
        )
    meets = {">=": float.__ge__, "<=": float.__le__, ">": float.__gt__, "<": float.__lt__}
    values = tuple(
        value for value in field.values
        if all(meets[match[1]](field.bounds(value)[0], float(match[2])) for match in comparisons)
    )  # fmt: skip
    if not values:
        raise CumaError(
            f"nobody in the data has {field.name}{' and '.join(signs)}; its values are {near('', list(field.values))}"
        )
    return Condition(field.name, values, f"; {field.name}".join(signs))


def _compared(comparison: str) -> list[str]:
    """The parts of `Condition.comparison`."""
    return [match[0] for match in re.finditer(r"(?:>=|<=|>|<)-?\d+(?:\.\d+)?", comparison)]


def _listed(field: Field, text: str, known: Mapping[str, str], unknown: bool) -> list[str]:
    """The values of `A,B`; one that holds commas itself is found as the longest that is known."""
    pieces, values, at = text.split(","), [], 0
    while at < len(pieces):
        ends = range(len(pieces), at, -1) if len(pieces) < 200 else (at + 1,)
        for end in ends:
            joined = " ".join(",".join(pieces[at:end]).split()).casefold()
            if joined in known:
                values.append(known[joined])
                break
        else:
            if unknown:  # a value that nobody has is one text, whatever is in it
                return [*values, _value(field, ",".join(pieces[at:]).strip(), known, unknown)]
            end = at + 1
            values.append(_value(field, pieces[at].strip(), known, unknown))
        at = end
    return values


def _value(field: Field, text: str, known: Mapping[str, str], unknown: bool) -> str:
    if found := known.get(" ".join(text.split()).casefold()):
        return found
    if field.name in COUNTRY_FIELDS and 0 < len(text) <= MOST_NAME:
        spellings = [value for value in field.values if same_country(value) == same_country(text)]
        if spellings:
            return spellings[0]
    if unknown and text:
        return text
    raise CumaError(
        f"nobody in the data has {field.name} {shown(text)}; its values are {near(text, list(field.values))}"
    )
