"""The respondents of a user's survey: ids, weights, sampling units and profile fields, from a table of texts.

Shapes: N rows of the table, R respondents, V distinct values of a column.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cuma_jax.surveys.fields.numbers import missing_codes, number_text, read_numbers
from cuma_jax.surveys.sources.own.field_values import field_texts, whole
from cuma_jax.surveys.sources.own.survey_spec import FieldSpec, Spec
from cuma_jax.surveys.survey import categorical
from cuma_jax.tables.encoding import UNREADABLE
from cuma_jax.tables.problems import Problems, count_skipped
from cuma_jax.tables.text_columns import Column, TextTable, distinct

_ROUNDED = re.compile(r"[+-]?\d+([.,]\d+)?[eE]\+?\d+")
_MOST = 3
_FEW = 10


@dataclasses.dataclass(frozen=True)
class Sink:
    """Where faults go: problems, counts of what is left out, and whether an unknown code is only counted."""

    problems: Problems
    skipped: dict[str, int]
    skip: bool

    def count(self, reason: str, number: int) -> None:
        """Adds `number` (of rows or answers) left out for `reason`."""
        count_skipped(self.skipped, reason, number)


@dataclasses.dataclass(frozen=True)
class Respondents:
    """One entry a respondent, in the order of the file; `columns` are stratum, psu (if any) and the profile fields.

    `position` has every id, and without its point one that is a whole number with a decimal point.
    """

    ids: list[str]
    position: dict[str, int]
    weight_R: np.ndarray
    columns: dict[str, pd.Categorical]


def rounded(value: str) -> str:
    """A hint, where an id is a long number that a spreadsheet has rounded."""
    return "a spreadsheet has rounded such ids: save them as texts; or " if _ROUNDED.fullmatch(value) else ""


def read_respondents(table: TextTable, spec: Spec, sink: Sink) -> Respondents | None:
    """The respondents in `table`; what is wrong with them, and counts, go to `sink`.

    In a long layout without a table of persons, a respondent's rows must agree, and the first one is taken.
    """
    shared = spec.long and spec.respondents is None
    name = str(spec.columns["respondent"])
    if name in table.columns:
        column = _one_id(table.columns[name])
        row_R, respondent_N = _persons(table, name, column, shared, sink.problems)
        ids = [column.values[code] for code in column.code_N[row_R].tolist()]
    elif shared:
        return None
    else:
        row_R = respondent_N = np.arange(len(table))
        ids = [str(n) for n in range(len(table))]
    reader = _Reader(table, row_R, respondent_N, shared, sink)
    weight_R = np.ones(len(row_R))
    if (weight := spec.columns.get("weight")) in table.columns:
        weight_R = reader.weights(str(weight))
    columns = {}
    for key in ("stratum", "psu"):
        if (column_name := spec.columns.get(key)) in table.columns:
            columns[key] = reader.field(FieldSpec(key, column_name), spec.missing)
    for field in spec.fields:
        if field.column in table.columns:
            columns[field.name] = reader.field(field, spec.missing)
            _warn(table, field, columns[field.name], sink.problems)
    position = {id_: r for r, id_ in reversed(list(enumerate(ids)))}
    return Respondents(ids, {whole(id_): r for id_, r in position.items()} | position, weight_R, columns)


def _one_id(column: Column) -> Column:
    """ "7" and "7.0" in one column are one person."""
    known = set(column.values)
    if not any(number != value and number in known for value in column.values if (number := whole(value))):
        return column
    return distinct(column.code_N, [number if (number := whole(value)) in known else value for value in column.values])


def _persons(
    table: TextTable, name: str, column: Column, shared: bool, problems: Problems
) -> tuple[np.ndarray, np.ndarray]:
    """The row of each respondent [R], and each row's respondent [N]; without an id, or twice, is a problem."""
    blank_N = np.array([value == "" for value in column.values])[column.code_N]
    if blank_N.any():
        message = f"no respondent id ({blank_N.sum()} such rows)" if blank_N.sum() > 1 else "no respondent id"
        hint = "give every row the id of its respondent"
        if blank_N[0] and blank_N.sum() == 1:
            hint = f"{hint}; if it is a further header line, delete it"
        problems.error(table.path, table.line(blank_N), name, message, hint)
    _, first_V, code_N = np.unique(column.code_N, return_index=True, return_inverse=True)
    if shared:
        order = np.argsort(first_V)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return first_V[order], rank[code_N]
    # An id with a byte that could not be read may be two ids.
    unreadable_N = np.array([UNREADABLE in value for value in column.values])[column.code_N]
    first_N = first_V[code_N]
    again = np.flatnonzero((first_N != np.arange(len(table))) & ~blank_N & ~unreadable_N)
    for n in again[:_MOST]:
        first = table.line_N[first_N[n]]
        more = f" ({len(again)} rows in all repeat an id)" if len(again) > _MOST and n == again[_MOST - 1] else ""
        value = column.values[column.code_N[n]]
        message = f"respondent {value!r} is there already in {table.unit} {first}{more}"
        hint = f"{rounded(value)}one row a person; if it has one row an answer, say `layout: long`"
        problems.error(table.path, int(table.line_N[n]), name, message, hint)
    return np.arange(len(table)), np.arange(len(table))


class _Reader:
    def __init__(self, table: TextTable, row_R: np.ndarray, respondent_N: np.ndarray, shared: bool, sink: Sink):
        self.table, self.row_R, self.respondent_N, self.shared, self.sink = table, row_R, respondent_N, shared, sink

    def codes(self, name: str) -> Column:
        """The column's values of each respondent; where a respondent has several rows, they must agree."""
        column = self.table.columns[name]
        code_R = column.code_N[self.row_R]
        if self.shared:
            differs_N = column.code_N != code_R[self.respondent_N]
            if differs_N.any():
                n = int(np.argmax(differs_N))
                row, persons = self.row_R[self.respondent_N[n]], len(np.unique(self.respondent_N[differs_N]))
                values = [column.values[column.code_N[i]] for i in (row, n)]
                more = f" ({persons} respondents have such rows)" if persons > 1 else ""
                self.sink.problems.error(
                    self.table.path, self.table.line(differs_N), name,
                    f"{values[1]!r}, but the same respondent has {values[0]!r} in line {self.table.line_N[row]}{more}",
                    "a respondent has one value; correct it, or put the persons into a table of their own",
                )  # fmt: skip
        return Column(code_R, column.values)

    def report(self, name: str, bad_R: np.ndarray, message: str, hint: str) -> None:
        if bad_R.any():
            row = self.row_R[int(np.argmax(bad_R))]
            more = f" ({bad_R.sum()} respondents)" if bad_R.sum() > 1 else ""
            self.sink.problems.error(self.table.path, int(self.table.line_N[row]), name, message + more, hint)

    def weights(self, name: str) -> np.ndarray:
        """float64 [R]; negative, missing or unreadable ones are problems, and so is a column of zeros."""
        column = self.codes(name)
        number_V = read_numbers(column.values)
        blank_V = np.array([value == "" for value in column.values])
        weight_R, blank_R = number_V[column.code_N], blank_V[column.code_N]
        # Not finite and not blank: nan and inf are no weights, even where they are written so.
        odd_R = ~np.isfinite(weight_R) & ~blank_R
        negative_R = np.isfinite(weight_R) & (weight_R < 0)
        hint = "give every respondent a weight of 0 or more (with a decimal point), or leave `weight:` out"
        what = ("the weight {!r} is not a number", odd_R), ("there is no weight", blank_R)
        for message, bad_R in (*what, ("the weight {!r} is negative", negative_R)):
            self.report(name, bad_R, message.format(column.values[column.code_N[int(np.argmax(bad_R))]]), hint)
        if not weight_R.any():
            self.sink.problems.error(self.table.path, None, name, "all weights are zero", hint)
        return weight_R

    def field(self, field: FieldSpec, missing: frozenset[str]) -> pd.Categorical:
        """A profile field as a categorical of texts; a value that it cannot have is a problem, or counted."""
        column, name = self.codes(str(field.column)), str(field.column)

        def fault(v: int, message: str, hint: str) -> None:
            bad_R = column.code_N == v
            if self.sink.skip:
                self.sink.count(f"{field.name}: unknown code", bad_R.sum())
            else:
                self.report(name, bad_R, message, hint)

        used_V = np.bincount(column.code_N, minlength=len(column.values)) > 0
        texts = field_texts(field, column.values, missing, used_V, fault)
        if field.as_number:
            plain = field_texts(dataclasses.replace(field, bins=(), numeric=True), column.values, missing)
            self.warn_codes(field, [text for text, used in zip(plain, used_V.tolist(), strict=True) if used and text])
        return categorical(column.code_N, texts)

    def warn_codes(self, field: FieldSpec, numbers: Sequence[str]) -> None:
        """Numbers that are probably none."""
        if codes := missing_codes(np.unique(read_numbers(numbers))):
            listed = ", ".join(number_text(code) for code in codes)
            message = f"profile field {field.name!r} has the number{'s' if len(codes) > 1 else ''} {listed}"
            hint = "if that means no answer, list it under `missing:` of the field"
            self.sink.problems.warning(self.table.path, None, str(field.column), message, hint)


def _warn(table: TextTable, field: FieldSpec, column: pd.Categorical, problems: Problems) -> None:
    known = int((column.codes >= 0).sum())
    distinct = len(np.unique(column.codes[column.codes >= 0]))
    if not known:
        message, hint = f"profile field {field.name!r} is empty for everybody", "leave it out, or look at `missing:`"
        problems.warning(table.path, None, str(field.column), message, hint)
    elif known >= _FEW and distinct > known / 2 and not field.numeric:
        message = f"profile field {field.name!r} has {distinct} different values for {known} respondents"
        hint = (
            "put persons into groups (`bins:` for numbers), say `numeric: true`, or leave the field out: nothing is "
            "learned from it"
        )
        problems.warning(table.path, None, str(field.column), message, hint)


def design_columns(spec: Spec) -> Mapping[str, str]:
    """The columns that the table of persons must have, and what each is for."""
    where = f"in {spec.path.name}"
    wanted = {str(spec.columns["respondent"]): f"`respondent:` {where}"}
    wanted |= {str(spec.columns[k]): f"`{k}:` {where}" for k in ("weight", "stratum", "psu") if k in spec.columns}
    return wanted | {str(field.column): f"profile field {field.name!r} {where}" for field in spec.fields}
