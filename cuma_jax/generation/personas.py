"""Personas: profiles written by hand, as a run knows them."""

import dataclasses
import math
from collections.abc import Mapping

from cuma_jax.generation.prompt_files import check_text
from cuma_jax.profile_encoders.profile_embedders import CategoricalEmbedder, completed
from cuma_jax.profile_encoders.profile_table import ProfileTable
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.near_matches import near
from cuma_jax.surveys.fields.countries import COUNTRY_FIELDS, same_country
from cuma_jax.surveys.fields.numbers import number_text, read_number
from cuma_jax.surveys.profiles import MOST_SHOWN, Profiles, check_field, describe, parse_profile, unknown_value

_LONGEST = 10_000
"""Characters of a profile."""


@dataclasses.dataclass(frozen=True)
class Persona:
    """One profile that asks."""

    values: dict[str, str]  # the derived ones included
    text: str  # its sentence, as prompts have it
    notes: tuple[str, ...] = ()  # what the user should know about it


def parse_persona(text: str, profiles: Profiles, table: ProfileTable | None) -> Persona:
    """The persona that a profile written by hand describes.

    Values are found whatever their capitals, and countries under other names. One that nobody in the data has is taken
    as it is, and noted, where values are read as text or a joined table (`Profiles.context`) knows it; elsewhere it
    would mean nothing.

    Raises:
        CumaError: not a profile; an unknown field; or an unknown value, where it would mean nothing.
    """
    if len(text) > _LONGEST:
        raise CumaError(f"profile {text[:40]!r}... has {len(text):,} characters; it may have {_LONGEST:,}")
    check_text(text, f"profile {text[:80]!r}")
    return persona_of(parse_profile(text, profiles.fields), f"profile {text!r}", profiles, table)


def persona_of(given: Mapping[str, str], where: str, profiles: Profiles, table: ProfileTable | None) -> Persona:
    """The same of a profile by field; `where` names it in errors."""
    given, notes = dict(given), list[str]()
    for field in given:
        check_field(field, profiles.fields, where)
    for field, value in given.items():
        known = profiles.vocab[field]
        if field in profiles.numeric:
            given[field] = _number(value, f"{where}: {field}")
            continue
        same = [one for one in known if one.casefold() == value.casefold()]
        if field in COUNTRY_FIELDS and not same:
            same = [one for one in known if same_country(one) == same_country(value)]
        if value not in known and same:
            given[field] = same[0]
        elif value not in known:
            by_table = any(context.by == field and context.of(value) for context in profiles.context)
            if table is not None and isinstance(table.embedder, CategoricalEmbedder) and not by_table:
                raise unknown_value(field, value, known, where)
            some = near(value, known, MOST_SHOWN)
            how = "a joined table knows it" if by_table else f"it is read as text (known: {some})"
            notes.append(f"nobody in the data has {field} {value!r}; {how}")
    in_order = {field: given[field] for field in profiles.fields if field in given}
    values = completed([in_order], profiles.fields, profiles.derived, profiles.context)[0]
    said = {field: value for field, value in in_order.items() if field not in profiles.derived}
    return Persona(values, describe(said, profiles.sentence), tuple(notes))


def _number(value: str, where: str) -> str:
    """A number as profiles have it."""
    if not math.isfinite(number := read_number(value)):
        raise CumaError(f"{where} is {value!r}; it must be a number")
    return number_text(number)


def known_fields(profiles: Profiles) -> str:
    """The fields of a run's profiles with some values of each, as lines."""
    return "\n".join(f"  {field}: {near('', profiles.vocab[field], 6)}" for field in profiles.fields)
