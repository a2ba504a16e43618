"""The fields that a survey's YAML file lists: each a column, and how its values are read."""

import itertools
import pathlib
import re
from typing import Protocol

from cuma_jax.runtime.near_matches import near_hint
from cuma_jax.surveys.fields.numbers import read_number
from cuma_jax.surveys.sources.own.survey_spec import ContextSpec, FieldSpec
from cuma_jax.surveys.sources.own.yaml_file import Items, Mapping, Text, Value
from cuma_jax.surveys.survey import RESERVED_COLUMNS
from cuma_jax.surveys.text import clean_text
from cuma_jax.tables.encoding import spelled

FIELD_KEYS = ("column", "values", "missing", "bins", "numeric")
CONTEXT_KEYS = ("by", "key", "table", "fields", "delimiter", "encoding", "missing")


class SpecReader(Protocol):
    """What reads the parts that every entry of the file has; see `spec.py`."""

    def error(self, line: int, message: str, hint: str = "") -> None:
        """Adds a problem."""

    def known(self, mapping: Mapping, keys: tuple[str, ...], where: str) -> None:
        """Adds a problem for each other key."""

    def text(self, mapping: Mapping, key: str, default: str = "") -> Text:
        """The text of a key."""

    def flag(self, mapping: Mapping, key: str, default: bool) -> bool:
        """The true or false of a key."""

    def codes(self, value: Value | None, key: str) -> frozenset[str]:
        """A list of codes."""

    def delimiter(self, value: Text) -> str:
        """What separates columns."""

    def encoding(self, value: Text) -> str:
        """The name of an encoding."""


def read_fields(
    reader: SpecReader, value: Value | None, where: str, numeric: bool | None = False
) -> tuple[FieldSpec, ...]:
    """The fields under the key `where`: a list of columns, or `name: column` lines.

    `numeric` is that of a field that does not say.
    """
    if isinstance(value, Text) and value:
        value = Items([value])
    if isinstance(value, Items):
        pairs: list[tuple[Text, Value]] = [(item, item) for item in value if isinstance(item, Text)]
        if len(pairs) < len(value):
            reader.error(value.line, f"`{where}:` is a list, but not of column names", "write `field: column` lines")
    else:
        pairs = list(value.items()) if isinstance(value, Mapping) else []
    found: dict[str, FieldSpec] = {}
    for key, entry in pairs:
        # As names are typed on the command line (`--profile "age_group=..."`).
        name = "_".join(key.lower().split())
        if not re.fullmatch(r"[^\W\d]\w*", name) or name in RESERVED_COLUMNS or name in found:
            why = {True: "is there twice", False: "cannot be the name of a profile field"}[name in found]
            hint = f"use a word that is none of {', '.join(RESERVED_COLUMNS)}"
            reader.error(key.line, f"{where}: {str(key)!r} {why}", hint)
            continue
        entry = entry or Text.at(key, key.line)
        if isinstance(entry, Items):
            reader.error(key.line, f"{where}: {str(key)!r} is a list", "write the column's name")
        elif isinstance(entry, Text):
            found[name] = FieldSpec(name, Text.at(spelled(entry), entry.line), numeric=numeric)
        else:
            found[name] = _field(reader, name, key, entry, numeric)
    return tuple(found.values())


def _field(reader: SpecReader, name: str, key: Text, entry: Mapping, numeric: bool | None) -> FieldSpec:
    where = f"profile field {name!r}"
    reader.known(entry, FIELD_KEYS, f" in {where}")
    values = _entry(entry, "values", None) or Mapping()
    texts = {}
    if not isinstance(values, Mapping) or not all(isinstance(v, Text) and clean_text(v) for v in values.values()):
        reader.error(values.line, f"{where}: `values:` must be `code: text` lines")
    else:
        texts = {spelled(code): clean_text(str(text)) for code, text in values.items()}
    missing = reader.codes(_entry(entry, "missing", None), "missing")
    bins = bin_edges(reader, where, _entry(entry, "bins", None))
    if bins or _entry(entry, "numeric", None) is not None:
        numeric = reader.flag(entry, "numeric", False)
    if bins and numeric:
        reader.error(entry.line, f"{where} has `bins:` and `numeric: true`", "keep one: groups, or the number itself")
    return FieldSpec(name, reader.text(entry, "column", spelled(key)), texts, missing, bins, numeric)


def bin_edges(reader: SpecReader, where: str, value: Value | None) -> tuple[float, ...]:
    """Where bins start, of a profile field or a question."""
    if value is None:
        return ()
    items = value if isinstance(value, Items) else Items([value])
    edges = tuple(read_number(item) if isinstance(item, Text) else float("nan") for item in items)
    rising = all(low < high for low, high in itertools.pairwise(edges))
    if not edges or not rising or not all(abs(edge) < float("inf") for edge in edges):
        hint = "list where each group starts, from low to high, such as [18, 30, 45, 60]"
        reader.error(value.line, f"{where}: `bins:` must be rising numbers", hint)
        return ()
    return edges


def read_contexts(
    reader: SpecReader, value: Value | None, folder: pathlib.Path, profile: tuple[FieldSpec, ...]
) -> tuple[ContextSpec, ...]:
    """The tables under `context:`, one or a list of them; their paths are relative to `folder`."""
    entries = [] if value is None or value == "" else value if isinstance(value, Items) else [value]
    taken, found = {field.name: "the profile" for field in profile}, []
    for entry in entries:
        if not isinstance(entry, Mapping):
            hint = "such as `context: {by: country, table: countries.csv, fields: [gdp]}`"
            reader.error(entry.line, "`context:` is not `by:`, `table:` and `fields:` lines", hint)
            continue
        reader.known(entry, CONTEXT_KEYS, " in `context:`")
        by, table = reader.text(entry, "by"), reader.text(entry, "table")
        for key in ("by", "table", "fields"):
            if not _entry(entry, key, None):
                hint = "it needs the profile field to join by, the table's file, and the fields to take from it"
                reader.error(entry.line, f"`context:` has no `{key}:`", hint)
        name = "_".join(by.lower().split())
        if by and name not in taken:
            reader.error(
                by.line, f"`context:` is by {str(by)!r}, which is no profile field", near_hint(by, list(taken))
            )
        fields = read_fields(reader, _entry(entry, "fields", None), "context", numeric=None)
        for field in fields:
            if use := taken.get(field.name):
                hint = "give it another name: `fields: {name: column}`"
                reader.error(entry.line, f"the context field {field.name!r} is there already, in {use}", hint)
        taken |= {field.name: str(table) for field in fields}
        if by and table:
            found.append(ContextSpec(
                name,
                Text.at(spelled(reader.text(entry, "key", by)), by.line),
                folder / table,
                fields,
                reader.delimiter(reader.text(entry, "delimiter")),
                reader.encoding(reader.text(entry, "encoding", "utf-8")),
                reader.codes(_entry(entry, "missing", None), "missing"),
                "`context:`",
            ))  # fmt: skip
    return tuple(found)


def _entry(mapping: Mapping, key: str, default: Value | None) -> Value | None:
    return mapping.get(Text.at(key, 0), default)
