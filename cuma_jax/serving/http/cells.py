"""Every question of the run by group, predicted once and kept beside the run: the page and cells.csv need no model.

Groups are every value of every profile field alone, and the country together with each value of each other field.
Countries come first, for the map; then the other fields; then pairs.
"""

import dataclasses
import json
import os
import pathlib
import threading
import time
from collections.abc import Generator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cuma_jax import __version__
from cuma_jax.config.saved import CONFIG_FILE, RESULTS_FILE, saved_steps
from cuma_jax.runtime.files import atomic_write, content_key
from cuma_jax.serving import Model, Request
from cuma_jax.serving.groups import Group
from cuma_jax.serving.http.answers import numbers, some
from cuma_jax.surveys.fields.countries import COUNTRY_FIELDS

FILE = "cells.parquet"
MOST_CELLS = 200_000
"""Pairs of a group and a question; where there would be more, countries are not crossed with the other fields."""
_KEY = b"cuma_key"
_KEPT_S = 60
"""Seconds between writings of a table that grows."""
_TEXTS = ("group", "question", "option", "group_status", "question_status", "error_split", "notes")
_BY_OPTION = {"predicted": "share", "real": "real", "low": "low", "high": "high", "own_average": "own_average",
              "logistic": "logistic"}  # fmt: skip
_BY_CELL = {"real_n": "real_n", "error": "error", "sensitivity": "order_sensitivity"}


def country_field(model: Model) -> str | None:
    """The field with a person's country."""
    return next((name for name in COUNTRY_FIELDS if name in model.fields), None)


def groups_of(model: Model) -> list[list[Group]]:
    """The groups of the page, in the order in which they are predicted: countries, other values, pairs."""
    country = country_field(model)
    others = [field for field in model.fields if field != country]
    stages = [model.groups_of(country)] if country is not None else []
    stages.append([group for field in others for group in model.groups_of(field)])
    if country is not None:
        crossed = [group for field in others for group in model.groups_of(country, field)]
        if (sum(map(len, stages)) + len(crossed)) * len(model.questions) <= MOST_CELLS:
            stages.append(crossed)
    return [stage for stage in stages if stage]


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """What there is of one question."""

    table: pd.DataFrame
    places: dict[str, slice]  # by a group's label, its rows


class Cells:
    """The table of `Model.predict` for all groups and questions, as far as it is there.

    Args:
        keep: whether it is read from the run's folder, and written there.
    """

    def __init__(self, model: Model, keep: bool = True):
        self._stages = groups_of(model) if model.can_predict else []
        self.groups = [group for stage in self._stages for group in stage]
        self._ids = [str(name) for name in model.questions["id"]] if self.groups else []
        self._path, self._keep = pathlib.Path(model.folder) / FILE, keep
        self._key = _key(model, self.groups, self._ids)
        self._parts: dict[str, _Part] = {}  # by question
        self._json: tuple[list[int], bytes] = ([], b"")
        self._lock = threading.Lock()
        if keep:
            self._parts = _read(self._path, self._key)

    @property
    def missing(self) -> int:
        """How many pairs of a group and a question are not predicted yet."""
        return len(self._ids) * len(self.groups) - sum(len(part.places) for part in self._parts.values())

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show yet, and there will be."""
        return bool(self._ids) and not self._parts

    def steps(self, model: Model) -> Generator[None, None, None]:
        """Predicts a question for some groups at each step, about a second's work; what is there is kept."""
        size, kept, before = 4, time.perf_counter(), self.missing
        try:
            for stage in self._stages:
                for name in self._ids:
                    there = self._parts[name].places if name in self._parts else {}
                    wanted, parts = [group for group in stage if group.label not in there], []
                    while wanted:
                        began = time.perf_counter()
                        parts.append(model.predict(wanted[:size], name))
                        wanted = wanted[size:]
                        spent = time.perf_counter() - began
                        size = size * 2 if spent < 0.5 else max(size // 2, 1) if spent > 1.5 else size
                        if not wanted:
                            self._grow(name, parts)
                        yield
                    if self.missing < before and time.perf_counter() > kept + _KEPT_S:
                        self._write()
                        kept, before = time.perf_counter(), self.missing
        finally:  # the server's end, too
            if self.missing < before:
                self._write()

    def _grow(self, name: str, parts: list[pd.DataFrame]) -> None:
        old = [self._parts[name].table] if name in self._parts else []
        self._parts[name] = _part(pd.concat([*old, *parts], ignore_index=True))

    def find(self, asked: Request) -> pd.DataFrame | None:
        """The table of a request that asks for nothing but what is here; None otherwise."""
        plainly = asked.option_orders is None and asked.average_over == "people" and asked.people == "all"
        if not plainly or not all(isinstance(name, str) and name in self._parts for name in asked.questions):
            return None
        parts, found = [self._parts[str(name)] for name in asked.questions], []
        for group in asked.groups:
            for part in parts:
                place = part.places.get(group.label)
                if place is None:
                    return None
                found.append(part.table.iloc[place])
        return pd.concat(found, ignore_index=True)

    def table(self) -> pd.DataFrame:
        """All of it that there is, a question after the other."""
        parts = [self._parts[name].table for name in self._ids if name in self._parts]
        return _plain(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()

    def json(self) -> bytes:
        """The page's table; made anew when something has come to it."""
        with self._lock:
            parts = {name: self._parts[name] for name in self._ids if name in self._parts}
            sizes = [len(part.table) for part in parts.values()]
            if self._json[0] != sizes or not self._json[1]:
                text = json.dumps(self._columns(parts), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
                self._json = sizes, text.encode()
            return self._json[1]

    def _columns(self, parts: dict[str, _Part]) -> dict[str, Any]:
        values: dict[str, Any] = {
            "complete": len(parts) == len(self._ids)
            and all(len(part.places) == len(self.groups) for part in parts.values()),
            "questions": list(parts),
            **{key: {} for key in (*_BY_OPTION, *_BY_CELL, "pooled")},
        }
        known: dict[str, tuple[int, str]] = {}
        for name, part in parts.items():
            table, places = part.table, part.places
            rows = [places.get(group.label) for group in self.groups]
            for key, column in _BY_OPTION.items():
                found = numbers(table[column])
                values[key][name] = [None if row is None else some(found[row]) for row in rows]
            for key, column in _BY_CELL.items():
                found = numbers(table[column])
                values[key][name] = [None if row is None else found[row.start] for row in rows]
            values["pooled"][name] = some(numbers(table["pooled"])[next(iter(places.values()))])
            people, statuses = table["n_people"].tolist(), table["group_status"].tolist()
            known |= {label: (int(people[row.start]), str(statuses[row.start])) for label, row in places.items()}
        values["groups"] = [
            {
                "where": {condition.field: list(condition.values) for condition in group.conditions},
                "label": group.label,
                "n": known.get(group.label, (None, None))[0],
                "status": known.get(group.label, (None, None))[1],
            }
            for group in self.groups
        ]
        return values

    def _write(self) -> None:
        if not self._keep or not os.access(self._path.parent, os.W_OK):  # a hub's cache may be read only
            return
        table = pa.Table.from_pandas(self.table(), preserve_index=False)
        table = table.replace_schema_metadata((table.schema.metadata or {}) | {_KEY: self._key.encode()})
        atomic_write(self._path, lambda part: pq.write_table(table, part, compression="zstd"))


def _key(model: Model, groups: list[Group], questions: list[str]) -> str:
    """What kept predictions depend on: the run's results, config and checkpoint, and what is asked."""
    files = [pathlib.Path(model.folder) / name for name in (CONFIG_FILE, RESULTS_FILE)]
    parts = [path.read_bytes() if path.is_file() else b"" for path in files]
    # Training that went on without an evaluation leaves config and results as they were.
    parts.append(str(saved_steps(model.folder)[-1:]).encode())
    about = json.dumps(model.about, sort_keys=True, default=str)
    return content_key(__version__, *parts, about, "\n".join(group.label for group in groups), "\n".join(questions))


def _read(path: pathlib.Path, key: str) -> dict[str, _Part]:
    """The kept tables by question; none where they are another's, or damaged."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return {}
    if (table.schema.metadata or {}).get(_KEY, b"").decode() != key:
        return {}
    frame = table.to_pandas()
    return {str(name): _part(part) for name, part in frame.groupby("question", sort=False, observed=True)}


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Texts as texts."""
    return table.astype({name: "str" for name in _TEXTS if name in table})


def _part(table: pd.DataFrame) -> _Part:
    """The table of one question with texts stored once."""
    labels = table["group"].astype(str).tolist()
    places: dict[str, slice] = {}
    start = 0
    for i in range(1, len(labels) + 1):
        if i == len(labels) or labels[i] != labels[start]:
            places[labels[start]] = slice(start, i)
            start = i
    table = _plain(table).astype({name: "category" for name in _TEXTS if name in table}).reset_index(drop=True)
    return _Part(table, places)
