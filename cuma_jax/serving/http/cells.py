"""Every question of the run by group, predicted once and kept beside the run: the page and cells.csv need no model.

Groups are every value of every profile field alone, and the country together with each value of each other field.
"""

import json
import os
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cuma_jax import __version__
from cuma_jax.runtime.files import atomic_write, content_key
from cuma_jax.serving import Model, Request
from cuma_jax.serving.groups import Group
from cuma_jax.serving.http.answers import plain, shares
from cuma_jax.surveys.derived import COUNTRY_FIELDS

FILE = "cells.parquet"
MOST_CELLS = 200_000
"""Pairs of a group and a question; where there would be more, countries are not crossed with the other fields."""
_KEY = b"cuma_key"
_TEXTS = ("group", "question", "option", "group_status", "question_status", "error_split", "notes")
_BY_OPTION = {"predicted": "share", "real": "real", "low": "low", "high": "high", "own_average": "own_average",
              "logistic": "logistic"}  # fmt: skip


def country_field(model: Model) -> str | None:
    """The field with a person's country."""
    return next((name for name in COUNTRY_FIELDS if name in model.fields), None)


def groups_of(model: Model) -> list[Group]:
    """The groups of the page."""
    country = country_field(model)
    found = [group for field in model.fields for group in model.groups_of(field)]
    if country is not None:
        crossed = [g for field in model.fields if field != country for g in model.groups_of(country, field)]
        if (len(found) + len(crossed)) * len(model.questions) <= MOST_CELLS:
            found += crossed
    return found


class Cells:
    """The table of `Model.predict` for all groups and questions, as far as it is there.

    Args:
        keep: whether it is read from the run's folder, and written there.
    """

    def __init__(self, model: Model, keep: bool = True):
        self.groups = groups_of(model) if model.can_predict else []
        self._ids = [str(name) for name in model.questions["id"]] if model.can_predict else []
        self._path, self._keep = pathlib.Path(model.folder) / FILE, keep
        self._key = _key(model, self.groups, self._ids)
        self._parts: dict[str, pd.DataFrame] = {}
        self._json: tuple[int, bytes] = (-1, b"")
        self._lock = threading.Lock()
        if keep:
            self._parts = _read(self._path, self._key)

    @property
    def missing(self) -> list[str]:
        """Ids of the questions that are not predicted yet."""
        return [name for name in self._ids if name not in self._parts]

    def steps(self, model: Model) -> Iterator[None]:
        """Predicts a question for some groups at each step, about a second's work, and keeps them at the end."""
        wanted, size = self.missing, 4
        for name in wanted:
            parts, first = [], 0
            while first < len(self.groups):
                began = time.perf_counter()
                parts.append(model.predict(self.groups[first : first + size], name))
                first += size
                spent = time.perf_counter() - began
                size = size * 2 if spent < 0.5 else max(size // 2, 1) if spent > 1.5 else size
                yield
            self._parts[name] = _slim(pd.concat(parts, ignore_index=True))
        if wanted and self._keep:
            self._write()

    def find(self, asked: Request) -> pd.DataFrame | None:
        """The table of a request that asks for nothing but what is here; None otherwise."""
        plainly = asked.option_orders is None and asked.average_over == "people" and asked.people == "all"
        labels = [group.label for group in asked.groups]
        if not plainly or not all(isinstance(name, str) and name in self._parts for name in asked.questions):
            return None
        found = []
        tables = {str(name): self._parts[str(name)] for name in asked.questions}
        for label in labels:
            for table in tables.values():
                place = table.attrs["places"].get(label)
                if place is None:
                    return None
                found.append(table.iloc[place])
        return pd.concat(found, ignore_index=True)

    def table(self) -> pd.DataFrame:
        """All of it that there is, a question after the other."""
        parts = [self._parts[name] for name in self._ids if name in self._parts]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def json(self) -> bytes:
        """The page's table; made anew when a question has come to it."""
        with self._lock:
            if self._json[0] != len(self._parts):
                count = len(self._parts)
                text = json.dumps(self._columns(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
                self._json = count, text.encode()
            return self._json[1]

    def _columns(self) -> dict[str, Any]:
        names = [name for name in self._ids if name in self._parts]
        values: dict[str, Any] = {
            "complete": len(names) == len(self._ids),
            "groups": [],
            "questions": names,
            **{key: {} for key in (*_BY_OPTION, "real_n", "pooled", "error", "sensitivity")},
        }
        for name in names:
            table = self._parts[name]
            rows = [table.iloc[place] for place in table.attrs["places"].values()]
            if not values["groups"]:
                values["groups"] = [_group_json(group, cell) for group, cell in zip(self.groups, rows, strict=True)]
            for key, column in _BY_OPTION.items():
                values[key][name] = [shares(cell[column]) for cell in rows]
            values["real_n"][name] = [plain(cell["real_n"].iloc[0]) for cell in rows]
            values["error"][name] = [plain(cell["error"].iloc[0]) for cell in rows]
            values["sensitivity"][name] = [plain(cell["order_sensitivity"].iloc[0]) for cell in rows]
            values["pooled"][name] = shares(rows[0]["pooled"]) if rows else None
        return values

    def _write(self) -> None:
        table = pa.Table.from_pandas(self.table(), preserve_index=False)
        table = table.replace_schema_metadata((table.schema.metadata or {}) | {_KEY: self._key.encode()})
        if os.access(self._path.parent, os.W_OK):  # a folder of the hub's cache may be read only
            atomic_write(self._path, lambda part: pq.write_table(table, part, compression="zstd"))


def _key(model: Model, groups: list[Group], questions: list[str]) -> str:
    """What kept predictions depend on: the run's results and config, and what is asked."""
    files = [model.folder / name for name in ("config.json", "results.json")]
    parts = [path.read_bytes() if path.is_file() else b"" for path in files]
    about = json.dumps(model.about, sort_keys=True, default=str)
    return content_key(__version__, *parts, about, "\n".join(group.label for group in groups), "\n".join(questions))


def _read(path: pathlib.Path, key: str) -> dict[str, pd.DataFrame]:
    """The kept tables by question; none where they are another's, or damaged."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return {}
    if (table.schema.metadata or {}).get(_KEY, b"").decode() != key:
        return {}
    frame = table.to_pandas()
    return {str(name): _slim(part) for name, part in frame.groupby("question", sort=False, observed=True)}


def _slim(table: pd.DataFrame) -> pd.DataFrame:
    """The table of one question with texts stored once; `attrs["places"]` says where each group's rows are."""
    labels = table["group"].astype(str).tolist()
    places: dict[str, slice] = {}
    start = 0
    for i in range(1, len(labels) + 1):
        if i == len(labels) or labels[i] != labels[start]:
            places[labels[start]] = slice(start, i)
            start = i
    table = table.astype({name: "category" for name in _TEXTS if name in table}).reset_index(drop=True)
    table.attrs["places"] = places
    return table


def _group_json(group: Group, cell: pd.DataFrame) -> dict[str, Any]:
    first = cell.iloc[0]
    return {
        "where": {condition.field: list(condition.values) for condition in group.conditions},
        "label": group.label,
        "n": plain(first["n_people"]),
        "status": str(first["group_status"]),
    }
