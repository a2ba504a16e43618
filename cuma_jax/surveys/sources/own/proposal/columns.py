"""What a column of a table holds: its wording, its codes and what they mean, and which of them are no answer.

Shapes: N rows of the table, V distinct values of a column.
"""

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cuma_jax.surveys.scales import means_no_answer
from cuma_jax.surveys.sources.own.field_values import whole
from cuma_jax.surveys.text import clean_text
from cuma_jax.tables.encoding import UNREADABLE
from cuma_jax.tables.statistical_files import NOTHING_SAID, Variable
from cuma_jax.tables.text_columns import TextTable

MISSING_CODES = (
    *("NA", "N/A", "na", "nan", "NaN", "NULL", ".", "-", "#N/A"),
    *("-1", "-2", "-3", "-4", "-5", "-8", "-9", "99", "999"),
)
"""Codes without a label that are taken to mean no answer where they stand outside the others."""

_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")
_WHOLE = re.compile(r"[+-]?\d{1,15}")
_CODE_AND_TEXT = re.compile(r"([\w\-]{1,40}(?:\[[^\]]{1,40}\])*)[.:]\s+(\S.*)")
_NUMBERED = re.compile(r"[A-Za-z]{1,3}\d+[A-Za-z]?\d*")
_FEW_WORDS = 2  # a header of more is a wording
_PREFIX = re.compile(r"^\s*([\w.\-]{1,16}?)\s*[.:)\]\-]\s+(?=\S)")


@dataclasses.dataclass(frozen=True)
class ColumnFacts:
    """A column.

    Attributes:
        id: what a question of it is called: the name, without the wording where the header has both.
        label: the wording, or what the column is, without the column's own name before it; empty: the file says none.
        counts: rows of each distinct value that is not empty; whole numbers without a point.
        num_rows: N.
        said: what the file says of it.
    """

    name: str
    id: str
    label: str
    counts: Mapping[str, int]
    num_rows: int
    said: Variable = NOTHING_SAID

    @property
    def labels(self) -> Mapping[str, str]:
        """The text of each code that has one, in the order of the codes."""
        return self.said.values

    @functools.cached_property
    def no_answer(self) -> dict[str, str]:
        """Codes that mean no answer, with the reason: what the file says of them."""
        found = {}
        texts = [self.labels.get(code, code) for code in self.counts] + list(self.labels.values())
        for code in [*self.labels, *(code for code in self.counts if code not in self.labels)]:
            text = self.labels.get(code, "")
            if self.said.declares_missing(code):
                found[code] = text or "declared missing"
            elif means_no_answer(text or code, texts):
                found[code] = text or code
            elif not text and code in MISSING_CODES and self._is_beside(code):
                found[code] = "a usual code for no answer"
        return found

    @functools.cached_property
    def codes(self) -> list[str]:
        """The codes that may be options: those with a label in its order, and then others that somebody has."""
        labelled = [code for code in self.labels if code not in self.no_answer]
        others = [c for c in self.counts if c not in self.labels and c not in self.no_answer and UNREADABLE not in c]
        return labelled + sort_codes(others)

    @functools.cached_property
    def used(self) -> int:
        """Rows that have an answer."""
        return sum(count for code, count in self.counts.items() if code not in self.no_answer)

    @property
    def are_numbers(self) -> bool:
        """Whether all values that are an answer are numbers."""
        return bool(self.codes) and all(_NUMBER.fullmatch(code) for code in self.codes)

    @property
    def is_unique(self) -> bool:
        """Whether every row has another value."""
        return len(self.counts) == self.num_rows == sum(self.counts.values())

    def _is_beside(self, code: str) -> bool:
        """Whether a number is apart from the others, as 99 is from 1 to 5, but not from 18 to 98."""
        if not _WHOLE.fullmatch(code):
            return True
        known = [c for c in (*self.labels, *self.counts) if c not in MISSING_CODES]
        others = [int(c) for c in known if _WHOLE.fullmatch(c) and not means_no_answer(self.labels.get(c, ""))]
        if len(others) < len([c for c in known if _NUMBER.fullmatch(c)]):
            return int(code) < 0  # fractions are no codes
        return not others or int(code) < min(0, *others) or int(code) > max(others) + max(10, max(others) - min(others))


def column_facts(table: TextTable) -> dict[str, ColumnFacts]:
    """Facts of every column of a table."""
    found = {}
    split = _split_headers(list(table.columns))
    for name, column in table.columns.items():
        count_V = np.bincount(column.code_N, minlength=len(column.values))
        counts: dict[str, int] = {}
        for value, count in zip(column.values, count_V.tolist(), strict=True):
            if count and value:
                counts[whole(value)] = counts.get(whole(value), 0) + count
        said = table.variables.get(name, NOTHING_SAID)
        id_, label = split.get(name, (name, ""))
        label = wording(id_, said.label) or label or (name if len(name.split()) > _FEW_WORDS else "")
        found[name] = ColumnFacts(name, id_, label, counts, len(table), said)
    return found


def _split_headers(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(id, wording) of headers that have both, as LimeSurvey writes them: "Q1. How old are you?"."""
    found = {name: match for name in names if (match := _CODE_AND_TEXT.fullmatch(name))}
    return (
        {name: (match[1], clean_text(match[2])) for name, match in found.items()} if 2 * len(found) > len(names) else {}
    )


def wording(name: str, label: str) -> str:
    """A label as a wording: without markup, and without the column's own name or number before it."""
    label = clean_text(label)
    match = _PREFIX.match(label)
    if match and (_NUMBERED.fullmatch(match[1]) or plain(match[1]).replace(" ", "") == plain(name).replace(" ", "")):
        label = label[match.end() :]
    return "" if plain(label) == plain(name) else label


def sort_codes(codes: Iterable[str]) -> list[str]:
    """Whole numbers in their order, and then texts in the alphabet's."""
    return sorted(codes, key=lambda code: (0, int(code), code) if _WHOLE.fullmatch(code) else (1, 0, code))


def are_whole(codes: Iterable[str]) -> bool:
    """Whether all are whole numbers."""
    return all(_WHOLE.fullmatch(code) for code in codes)


@functools.lru_cache(1 << 16)
def plain(text: str) -> str:
    """Words of letters and digits alone, without accents and capitals: "R\u00e9gion_1" is "region 1"."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", text)
    text = unicodedata.normalize("NFKD", text.casefold())
    return " ".join(re.findall(r"[^\W_]+", "".join(c for c in text if not unicodedata.combining(c))))
