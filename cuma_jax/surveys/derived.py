"""Fields derived from the name of a person's country: where it lies, and what is spoken there.

A country that no training row has is a value the router never saw; its region and its language it has seen. Facts come
from two libraries: the UN's M49 subregions from `country_converter`, official languages and how many speak them from
`babel` (Unicode CLDR's territory information).

Shapes: R respondents.
"""

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import TypeVar

import pandas as pd

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.fields.countries import COUNTRY_FIELDS, converter, known_as
from cuma_jax.surveys.survey import RESERVED_COLUMNS, HasRespondents, categorical

DERIVED_FIELDS = {"region": "world_region", "language": "official_language"}
"""The profile field of each value of `profile.derived`. Not `region` and `language`: sources have fields of those names
that say something else (open_values: a part of a country)."""
_NAMED = 5
_Source = TypeVar("_Source", bound=HasRespondents)


def derived_fields(derived: Sequence[str]) -> tuple[str, ...]:
    """The profile fields that `profile.derived` adds."""
    return tuple(DERIVED_FIELDS[name] for name in derived)


def add_derived(source: _Source, derived: Sequence[str]) -> _Source:
    """The same source, with the derived fields as further columns of `respondents` (categoricals of strings).

    Fields of a name that no library knows stay missing; which these are is said once, on stderr. A `CumaError` where
    the source has no country to derive from, or has a field of that name already.
    """
    if not derived:
        return source
    frame = source.respondents
    country = next((field for field in COUNTRY_FIELDS if field in frame), None)
    if country is None:
        known = ", ".join(c for c in frame.columns if c not in RESERVED_COLUMNS) or "none"
        raise CumaError(
            f"profile.derived is {', '.join(derived)}, which comes from the field country, but {source.name!r} has no "
            f"such field (it has: {known}); leave profile.derived empty, or name that column country"
        )
    # Categories that nobody has say nothing of these respondents.
    column = frame[country].astype("category").cat.remove_unused_categories()
    facts = {str(name): place_facts(str(name)) for name in column.cat.categories}
    columns: dict[str, pd.Categorical] = {}
    for field in derived_fields(derived):
        if field in frame:
            raise CumaError(
                f"{source.name!r} has a field {field!r} of its own; rename it, or leave it out of profile.derived"
            )
        texts = [facts[str(name)].get(field) for name in column.cat.categories]
        columns[field] = categorical(column.cat.codes.to_numpy(), texts)
    if unknown := [name for name, fact in facts.items() if any(field not in fact for field in columns)]:
        more = ", ..." if len(unknown) > _NAMED else ""
        print(
            f"profile.derived: {len(unknown)} of {len(facts)} values of {country} lack {' or '.join(columns)} "
            f"({', '.join(unknown[:_NAMED])}{more}); their profiles go without",
            file=sys.stderr,
        )
    # The protocol does not say so, but every source is a frozen dataclass.
    return dataclasses.replace(source, respondents=frame.assign(**columns))  # type: ignore[type-var]


def fill_derived(profile: Mapping[str, str], fields: Sequence[str]) -> dict[str, str]:
    """A profile with those of the derived `fields` that it lacks, where its country's name is known."""
    country = next((profile[field] for field in COUNTRY_FIELDS if field in profile), None)
    facts = place_facts(country) if country is not None else {}
    return {**{field: facts[field] for field in fields if field in facts}, **profile}


@functools.cache
def place_facts(country: str) -> dict[str, str]:
    """Every derived field of a country's name; those that are not known are left out.

    `place_facts("Chile")` is {"world_region": "South America", "official_language": "Spanish"}. The language is the
    official (or de facto official) one with the largest share of the population, by its English name, whatever its
    script.
    """
    library, places = converter()
    found = library.convert(known_as(country), src="regex", to="name_short", not_found=None)
    # What is not found comes back as it was; a text with several countries, as a list.
    if not isinstance(found, str) or found not in places:
        return {}
    territory, region = places[found]
    facts = {DERIVED_FIELDS["region"]: region, DERIVED_FIELDS["language"]: _language(territory)}
    return {field: value for field, value in facts.items() if value}


def _language(territory: str) -> str | None:
    from babel import Locale
    from babel.core import get_global

    spoken = get_global("territory_languages").get(territory, {})
    official = ("official", "de_facto_official")
    share = {c: about["population_percent"] for c, about in spoken.items() if about["official_status"] in official}
    if not share:
        return None
    # Of equal shares the first code, so that nothing depends on the order of the library's table.
    code = min(share, key=lambda c: (-share[c], c))
    return Locale("en").languages.get(code.split("_")[0])
