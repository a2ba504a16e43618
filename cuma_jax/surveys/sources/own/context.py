"""The tables that `context:` of a survey's YAML file joins to the profiles: read, checked and joined.

Shapes: R respondents, V distinct values of a column.
"""

import dataclasses

import numpy as np
import pandas as pd

from cuma_jax.surveys.fields.context import Context
from cuma_jax.surveys.fields.numbers import read_numbers
from cuma_jax.surveys.sources.own.field_values import field_texts
from cuma_jax.surveys.sources.own.survey_spec import ContextSpec, FieldSpec
from cuma_jax.surveys.sources.own.yaml_file import Text
from cuma_jax.surveys.survey import RESERVED_COLUMNS, categorical
from cuma_jax.tables.problems import Problems
from cuma_jax.tables.text_columns import TextTable, read_columns, read_header

_MOST, _NAMED = 3, 8


@dataclasses.dataclass(frozen=True)
class ContextTable:
    """A table that is joined, and which of its fields are numbers."""

    context: Context
    numeric: tuple[str, ...]


def read_context(spec: ContextSpec, problems: Problems) -> ContextTable | None:
    """The table of `spec`; None (and problems) where it cannot be used.

    A field whose values are all numbers is numeric, unless it says otherwise. A value has one row; rows without any
    are left out.
    """
    before = len(problems)
    fields, key = spec.fields, str(spec.key)
    if not fields:
        fields = _every_field(spec, problems)
    wanted = {key: f"the values of {spec.by!r} ({spec.where})"}
    wanted |= {str(field.column): f"context field {field.name!r} ({spec.where})" for field in fields}
    table = read_columns(spec.table, wanted, spec.delimiter, spec.encoding, problems)
    if table is None or any(name not in table.columns for name in wanted):
        return None
    key_V = [text or "" for text in field_texts(FieldSpec(spec.by, spec.key), table.columns[key].values, spec.missing)]
    _report_twice(table, key, key_V, problems)
    rows: dict[str, dict[str, str]] = {}
    place_N = table.columns[key].code_N
    for n in np.unique(place_N, return_index=True)[1].tolist():
        if key_V[place_N[n]]:
            rows[key_V[place_N[n]]] = {}
    numeric: list[str] = []
    for field in fields:
        texts, is_number = _texts(table, field, spec, problems)
        numeric += [field.name] if is_number else []
        for v, text in zip(place_N.tolist(), (texts[c] for c in table.columns[str(field.column)].code_N), strict=True):
            if key_V[v] and text:
                rows[key_V[v]][field.name] = text
    if any(p.severity == "error" for p in problems[before:]):
        return None
    return ContextTable(Context(spec.by, tuple(field.name for field in fields), rows), tuple(numeric))


def _every_field(spec: ContextSpec, problems: Problems) -> tuple[FieldSpec, ...]:
    """All columns but the one with the values, under names as fields have them."""
    found: dict[str, FieldSpec] = {}
    for column in read_header(spec.table, problems)[0]:
        name = "_".join("".join(c if c.isalnum() else " " for c in column.lower()).split())
        if column in (str(spec.key), ""):
            continue
        if name[:1].isdigit() or name in ("", *RESERVED_COLUMNS) or name in found:
            hint = f"name those that are wanted ({spec.where}), or rename it"
            problems.error(spec.table, None, column, "this cannot be the name of a profile field", hint)
        found[name] = FieldSpec(name, Text.at(column, 0), numeric=None)
    return tuple(found.values())


def _report_twice(table: TextTable, key: str, key_V: list[str], problems: Problems) -> None:
    text_N = np.array(key_V, object)[table.columns[key].code_N]
    first: dict[str, int] = {}
    again = []
    for n, text in enumerate(text_N.tolist()):
        if text and first.setdefault(text, n) != n:
            again.append(n)
    for n in again[:_MOST]:
        more = f" ({len(again)} rows in all repeat a value)" if len(again) > _MOST and n == again[_MOST - 1] else ""
        message = f"{text_N[n]!r} is there already in {table.unit} {table.line_N[first[text_N[n]]]}{more}"
        hint = "a value has one row: keep one, such as that of the newest year"
        problems.error(table.path, int(table.line_N[n]), key, message, hint)


def _texts(table: TextTable, field: FieldSpec, spec: ContextSpec, problems: Problems) -> tuple[list[str | None], bool]:
    """The text of each value of a field's column, and whether it is a number."""
    column, name = table.columns[str(field.column)], str(field.column)
    used_V = np.bincount(column.code_N, minlength=len(column.values)) > 0

    def fault(v: int, message: str, hint: str) -> None:
        bad_N = column.code_N == v
        more = f" ({bad_N.sum()} rows)" if bad_N.sum() > 1 else ""
        problems.error(table.path, table.line(bad_N), name, message + more, hint)

    if field.numeric is None:
        plain = field_texts(field, column.values, spec.missing)
        known = [text for text, used in zip(plain, used_V.tolist(), strict=True) if used and text]
        numbers = int(np.isfinite(read_numbers(known)).sum())
        if 2 * numbers > len(known) > numbers:
            odd = next(text for text in known if not np.isfinite(read_numbers([text]))[0])
            v = plain.index(odd)
            hint = "if it means that nothing is known, list it under `missing:`; if all are texts, say `numeric: false`"
            fault(v, f"{field.name} is {odd!r}, where most values are numbers", hint)
        field = dataclasses.replace(field, numeric=bool(known) and numbers == len(known))
    return field_texts(field, column.values, spec.missing, used_V, fault), bool(field.numeric)


def join_context(
    table: ContextTable, column: pd.Categorical, spec: ContextSpec, problems: Problems
) -> dict[str, pd.Categorical]:
    """The fields of a table for each respondent, by the respondents' `column`.

    What has no row is named in one warning; that nothing has is an error, and so is a country that two rows could mean.
    """
    context, names = table.context, [str(name) for name in column.categories]
    count_V = np.bincount(column.codes[column.codes >= 0], minlength=len(names))
    row_V = [context.of(name) for name in names]
    for name in (name for name in names if name not in context.rows):
        if len(several := context.spellings(name)) > 1:
            message = f"{spec.by} {name!r} may be {' or '.join(map(repr, several))}"
            problems.error(spec.table, None, str(spec.key), message, "keep one of the rows, or spell it as the survey")
    if lacking := [v for v, name in enumerate(names) if name not in context.rows and not context.spellings(name)]:
        lacking.sort(key=lambda v: -count_V[v])
        shown = ", ".join(f"{names[v]!r} ({count_V[v]:,} respondents)" for v in lacking[:_NAMED])
        more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
        message = f"{len(lacking)} of {len(names)} values of {spec.by} have no row: {shown}{more}"
        hint = f"the table has {', '.join(map(repr, list(context.rows)[:_NAMED]))}, ..."
        if len(lacking) == len(names):
            problems.error(spec.table, None, str(spec.key), message, hint)
        else:
            problems.warning(spec.table, None, str(spec.key), message, f"their profiles go without; {hint}")
    codes_R = np.asarray(column.codes)
    return {field: categorical(codes_R, [row.get(field) for row in row_V]) for field in context.fields}
