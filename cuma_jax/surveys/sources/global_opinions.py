"""GlobalOpinionQA (Anthropic/llm_global_opinions): by country, the share of people that chose each option.

Durmus et al. 2023, arXiv 2306.16388; CC-BY-NC-SA-4.0. There are no persons in it, and no counts: each share becomes
one respondent with that share as weight, so that a weighted cell of country and question has exactly the source's
distribution. docs/global_opinions.md says what is read and what is dropped.

Shapes: O options of a question, A answers.
"""

import ast
import hashlib
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key
from cuma_jax.surveys import scales
from cuma_jax.surveys.survey import Question, Survey, categorical
from cuma_jax.surveys.text import clean_text
from cuma_jax.tables.hub import hub_table, newest_revision
from cuma_jax.tables.problems import count_skipped
from cuma_jax.tables.read import read_table, table_key

VERSION = "3"
"""Raised whenever the reader's result changes: part of the cache key."""

HUB_NAME = "Anthropic/llm_global_opinions"
COLUMNS = ("question", "selections", "options", "source")
TOLERANCE = 0.05
"""How far from 1 the shares of a country may add up to: they are rounded, some to two digits."""

UNREADABLE = "questions whose options or selections cannot be parsed"
NO_TEXT = "questions without a text"
TOO_FEW = "questions with fewer than two options once missing answers are left out"
MISSING = "options that mean no answer (left out; the others are scaled to add up to 1)"
REPEATED_OPTION = "options that repeat another of their question (their shares are added)"
LENGTH = "country distributions of another length than the options"
NOT_SHARES = "country distributions with shares that are negative or no numbers"
SUM = f"country distributions that do not add up to 1 (within {TOLERANCE:g})"
ONLY_MISSING = "country distributions of nothing but missing answers"
REPEATED_COUNTRY = "country distributions that repeat another of the same question"

_SOURCES = {"GAS": "Pew Global Attitudes Survey", "WVS": "World Values Survey"}
_DEFAULTDICT = re.compile(r"\s*defaultdict\(<class 'list'>,\s*(\{.*\})\s*\)\s*", re.DOTALL)
_SAMPLE = re.compile(r"^(.*\S)\s*\(([^()]*\bsample)\)$", re.IGNORECASE)
# "Don't -9:-2", of the World Values Survey.
_BELOW_ZERO = re.compile(r".*(^|\s)-\d+(:-\d+)?$|don.?t$", re.IGNORECASE)
_TOTAL = re.compile(r"(total\W*)?(\(?n\W*=.*|n)|total", re.IGNORECASE)
_SUM = -2
_NUMBERS = re.compile(r"-?\d+(\.\d+)?")
_CONSTANTS = {"nan": math.nan, "inf": math.inf}


def prepare(data: DataConfig) -> tuple[str, Callable[[], Survey]]:
    """A source of `surveys.load.SOURCES`; `path` and `revision` of `data` are used."""
    content = (table_key(data.path),) if data.path else (HUB_NAME, data.revision or newest_revision(HUB_NAME))
    return content_key(VERSION, *content), lambda: read_global_opinions(data.path, data.revision)


def read_global_opinions(path: str = "", revision: str = "") -> Survey:
    """Reads the table.

    Args:
        path: a file or folder with the columns `COLUMNS`; empty: from the hub.
        revision: the hub's commit; empty: the newest, which is then named on stderr.

    Returns:
        Respondents are (country, question, option), with the share as weight; they are no persons, so only countries
        and questions can be held out. Profile: `country`. Other fields: `sample` (what the source says in brackets,
        such as "Non-national sample") and `survey`. A country keeps the spelling of its survey; splits and groups take
        several as one. A question is ordered only if its options are numbers, perhaps with words at the ends: the
        source does not say which others are scales.

    Raises:
        CumaError: the table cannot be read, lacks columns, or nothing in it can be used.
    """
    if path:
        where, table = path, read_table(path, COLUMNS)
    else:
        commit = revision or newest_revision(HUB_NAME)
        where, table = f"{HUB_NAME} at {commit}", hub_table(HUB_NAME, None, commit)
    texts = {name: _texts(table, name, where) for name in COLUMNS}
    rows = _Rows()
    for question, selections, options, source in zip(*texts.values(), strict=True):
        rows.add(question, selections, options, source or "")
    if not rows.weights:
        raise CumaError(f"{where}: no question can be used: {rows.skipped}")
    return rows.survey()


def parse_literal(text: str) -> Any:
    """A Python literal, possibly inside `defaultdict(<class 'list'>, ...)`, with `nan` and `inf`; nothing is run.

    A ValueError where it is no literal.
    """
    inner = _DEFAULTDICT.fullmatch(text)
    try:
        with warnings.catch_warnings():  # "\d" in a text is no reason to warn
            warnings.simplefilter("ignore")
            tree = ast.parse((inner[1] if inner else text).strip(), mode="eval")
        if any(name in text for name in _CONSTANTS):
            tree = _Constants().visit(tree)
        return ast.literal_eval(tree.body)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"no literal: {error}") from None


class _Constants(ast.NodeTransformer):
    """Names of floats that have no literal become constants; every other name stays, and is refused."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(_CONSTANTS[node.id]) if node.id in _CONSTANTS else node


def is_no_answer(option: str, beside: Sequence[str] = ()) -> bool:
    """Whether an option means that no answer was recorded, in a survey's words or its codes, or is a total."""
    return scales.is_no_answer(option, beside) or _BELOW_ZERO.match(option.strip(" (")) is not None or is_total(option)


def is_total(option: str) -> bool:
    """Whether an option is the sum of the others, or the number of persons asked."""
    return _TOTAL.fullmatch(option.strip()) is not None


def _texts(table: pa.Table, name: str, where: object) -> list[str | None]:
    kind = table.schema.field(name).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise CumaError(f"{where}: column {name} is of type {kind}, not of texts as on the hub")
    return table[name].to_pylist()


class _Rows:
    """The answers read so far."""

    def __init__(self) -> None:
        self.skipped: dict[str, int] = {}
        self.questions: dict[str, Question] = {}
        self.seen: set[tuple[str, str]] = set()
        self.places: list[tuple[str, str, str]] = []  # country as written, question id, survey
        self.place_A: list[int] = []
        self.option_A: list[int] = []
        self.weights: list[float] = []

    def add(self, question: str | None, selections: str | None, options: str | None, source: str) -> None:
        """One row of the table."""
        text = clean_text(question or "")
        if not text:
            return self._skip(NO_TEXT)
        try:
            names, shares = parse_literal(options or ""), parse_literal(selections or "")
            if not isinstance(names, list) or not isinstance(shares, dict):
                return self._skip(UNREADABLE)
            names = [_option(name) for name in names]
        except ValueError:
            return self._skip(UNREADABLE)
        texts, column_O, ordered = self._options(names)
        if len(texts) < 2:
            return self._skip(TOO_FEW)
        key = hashlib.sha256("\0".join([source, text.casefold(), *texts]).encode("utf-8", "replace")).hexdigest()[:12]
        name = f"global_opinions.{key}"
        survey = _SOURCES.get(source, source) or "unknown"
        codes = tuple(str(np.flatnonzero(column_O == o)[0]) for o in range(len(texts)))
        self.questions.setdefault(name, Question(name, text, texts, codes, ordered, survey))
        for country, values in shares.items():
            self._country(str(country), values, name, survey, column_O)
        return None

    def _options(self, names: list[str]) -> tuple[tuple[str, ...], np.ndarray, bool]:
        """Option texts, the place of each of the source's among them (-1: no answer, _SUM: a total); are they a scale?

        Then they are in its order: some come shuffled.
        """
        texts: dict[str, str] = {}  # the first writing of each
        numbers = all(_NUMBERS.fullmatch(name) for name in names if name)  # of which -1 is one like others
        keys = [None if not name or (not numbers and is_no_answer(name, names)) else name.casefold() for name in names]
        for key, name in zip(keys, names, strict=True):
            if key is None or key in texts:
                self._skip(MISSING if key is None else REPEATED_OPTION)
            else:
                texts[key] = name
        listed = tuple(texts.values())
        scale = _scale(listed)
        place = {text.casefold(): o for o, text in enumerate(scale or listed)}
        column_O = np.array([-1 if key is None else place[key] for key in keys], int)
        column_O[[is_total(name) for name in names]] = _SUM
        return scale or listed, column_O, scale is not None

    def _country(self, country: str, values: Any, question: str, survey: str, column_O: np.ndarray) -> None:
        if not isinstance(values, list) or len(values) != len(column_O):
            return self._skip(LENGTH)
        if not all(type(v) in (int, float) and 0 <= v < math.inf for v in values):
            return self._skip(NOT_SHARES)
        # A total among them may be their sum, or one share more.
        parts = math.fsum(v for v, o in zip(values, column_O, strict=True) if o != _SUM)
        if min(abs(math.fsum(values) - 1), abs(parts - 1)) > TOLERANCE:
            return self._skip(SUM)
        shares = np.bincount(column_O[column_O >= 0], np.array(values, float)[column_O >= 0])
        if shares.sum() <= 0:
            return self._skip(ONLY_MISSING)
        if (country, question) in self.seen:
            return self._skip(REPEATED_COUNTRY)
        self.seen.add((country, question))
        options = np.flatnonzero(shares)
        self.place_A += [len(self.places)] * len(options)
        self.places.append((country, question, survey))
        self.option_A += options.tolist()
        self.weights += (shares[options] / shares.sum()).tolist()
        return None

    def _skip(self, reason: str) -> None:
        count_skipped(self.skipped, reason)

    def survey(self) -> Survey:
        """All rows as a Survey."""
        used = {question for _, question, _ in self.places}
        questions = tuple(q for q in self.questions.values() if q.id in used)
        number = {question.id: q for q, question in enumerate(questions)}
        split = [_SAMPLE.match(country) for country, _, _ in self.places]
        countries = [m[1] if m else p[0] for m, p in zip(split, self.places, strict=True)]
        fields: dict[str, list[str | None]] = {
            "country": list(countries),
            "sample": [m[2] if m else None for m in split],
            "survey": [survey for _, _, survey in self.places],
        }
        place_A, option_A = np.array(self.place_A), np.array(self.option_A, np.int32)
        ids = [f"{self.places[p][0]}/{self.places[p][1]}/{o}" for p, o in zip(self.place_A, self.option_A, strict=True)]
        respondents = pd.DataFrame({"respondent_id": pd.Series(ids, dtype="str"), "weight": self.weights})
        for field, values in fields.items():
            respondents[field] = categorical(place_A, [clean_text(value or "") for value in values])
        return Survey(
            name="global_opinions",
            questions=questions,
            respondents=respondents,
            profile_fields=("country",),
            respondent_A=np.arange(len(place_A), dtype=np.int32),
            question_A=np.array([number[q] for _, q, _ in self.places], np.int32)[place_A],
            option_A=option_A,
            skipped=self.skipped,
            persons=False,
        )


def _option(value: Any) -> str:
    """An option as text: 3.0 is "3"; nothing ("") where it is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return clean_text(str(value))


def _scale(texts: tuple[str, ...]) -> tuple[str, ...] | None:
    """The options in their order, where they are numbers, perhaps with words at the ends; else None."""
    if len(texts) >= 2 and all(_NUMBERS.fullmatch(text) for text in texts):
        return tuple(sorted(texts, key=float))
    return scales.scale_with_ends(texts)
