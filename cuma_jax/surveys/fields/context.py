"""What a table says of the values of a profile field: the income of a country is known where nobody was asked as well.

Nothing of any answer is in it. A profile that names the value, and lacks a field of the table, has the table's.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cuma_jax.surveys.fields.countries import COUNTRY_FIELDS, same_country


@dataclasses.dataclass(frozen=True)
class Context:
    """Rows of a table that are joined to profiles by one field.

    Attributes:
        by: the profile field.
        fields: profile fields that the table gives.
        rows: what it gives, by the value of `by` as the table spells it: field -> text; what is missing is not there.
    """

    by: str
    fields: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]

    def of(self, value: str) -> Mapping[str, str]:
        """What is known of a value of `by`, in this spelling or, of a country, in another; empty where it is nothing.

        Two rows of one country, neither of which is spelled so, are nothing as well: see `spellings`.
        """
        if value in self.rows:
            return self.rows[value]
        others = self.spellings(value)
        return self.rows[others[0]] if len(others) == 1 else {}

    def spellings(self, value: str) -> list[str]:
        """The rows of the same country under other names."""
        return self._by_country.get(same_country(value), []) if self.by in COUNTRY_FIELDS else []

    @functools.cached_property
    def _by_country(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.rows:
            found.setdefault(same_country(name), []).append(name)
        return found

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"by": self.by, "fields": list(self.fields), "rows": {v: dict(row) for v, row in self.rows.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Context":
        """The inverse of `as_json`."""
        return cls(values["by"], tuple(values["fields"]), values["rows"])


def contexts_json(contexts: Iterable[Context]) -> list[dict[str, Any]]:
    """`Context.as_json` of several."""
    return [context.as_json() for context in contexts]


def contexts_of(values: Iterable[Mapping[str, Any]]) -> tuple[Context, ...]:
    """The inverse of `contexts_json`."""
    return tuple(Context.from_json(one) for one in values)


def context_fields(contexts: Sequence[Context]) -> tuple[str, ...]:
    """The profile fields that they give."""
    return tuple(field for context in contexts for field in context.fields)


def fill_context(profile: Mapping[str, str], contexts: Sequence[Context], fields: Sequence[str]) -> dict[str, str]:
    """A profile with those of `fields` that it lacks and a table has."""
    filled = dict(profile)
    for context in contexts:
        known = context.of(filled[context.by]) if context.by in filled else {}
        filled |= {field: text for field, text in known.items() if field in fields and field not in filled}
    return filled
