"""The fields that a survey's YAML file lists: each a column, and how its values are read."""

import itertools
import re
from typing import Protocol

from cuma_jax.surveys.fields.numbers import read_number
from cuma_jax.surveys.sources.own.survey_spec import FieldSpec
from cuma_jax.surveys.sources.own.yaml_file import Items, Mapping, Text, Value
from cuma_jax.surveys.survey import RESERVED_COLUMNS
from cuma_jax.surveys.text import clean_text
from cuma_jax.tables.encoding import spelled

FIELD_KEYS = ("column", "values", "missing", "bins", "numeric")


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


def read_fields(reader: SpecReader, value: Value | None, where: str) -> tuple[FieldSpec, ...]:
    """The fields under the key `where`: a list of columns, or `name: column` lines."""
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
            found[name] = FieldSpec(name, Text.at(spelled(entry), entry.line))
        else:
            found[name] = _field(reader, name, key, entry)
    return tuple(found.values())


def _field(reader: SpecReader, name: str, key: Text, entry: Mapping) -> FieldSpec:
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


def _entry(mapping: Mapping, key: str, default: Value | None) -> Value | None:
    return mapping.get(Text.at(key, 0), default)
