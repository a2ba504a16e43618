"""Groups of people as filters: one way to write them, for Python, command lines, addresses and model names.

`country=Japan,Peru; age>=60` is everybody from Japan or Peru who is 60 or older. The same as a mapping is
`{"country": ["Japan", "Peru"], "age": ">=60"}`. No condition at all is everybody. Nothing here imports JAX.

Legend: K kinds of people (distinct combinations of all fields).
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

EVERYONE = "everyone"
"""Label of the group without a condition."""
MOST_TEXT = 20_000
"""Characters that the text of one group may have."""
_LISTED = 12
_SIGNS = (">=", "<=", "=", ">", "<", ":")
_SIGN = re.compile(r">=|<=|=|>|<|:")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_OPEN_BELOW = re.compile(r"\b(under|below|less than|up to|younger)\b|^\s*[<≤]", re.IGNORECASE)
_OPEN_ABOVE = re.compile(r"\b(and over|and older|or older|or over|and above|or more|over)\b|\+\s*$|^\s*[>≥]", re.I)
    r"\b(and over|and older|or older|or over|and above|or more|over)\b|\+\s*$|^\s*[>≥]", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Field:
    """What is known of one field of a run's people.

    Attributes:
        name: as profiles have it.
        values: its values in the data with their numbers of people; numeric fields by size, others by name.
        numeric: whether values are numbers or ranges of numbers, so that `age>=60` can be asked.
        told: whether the model is told of it; the others can be filtered by, and the model does not see them.
    """

    name: str
    values: dict[str, int]
    numeric: bool = False
    told: bool = True

    def bounds(self, value: str) -> tuple[float, float]:
        """Lowest and highest number of a value of a numeric field: "30-39" is (30, 39), "60+" (60, inf)."""
        return number_bounds(value) or (float("nan"), float("nan"))


Fields = Mapping[str, Field]


@dataclasses.dataclass(frozen=True)
class Condition:
    """One field's part of a group.

    Attributes:
        field: its name.
        values: the values that match, as the data write them, in the data's order.
        comparison: as asked, such as `>=60`; empty where values were named.
    """

    field: str
    values: tuple[str, ...]
    comparison: str = ""

    @property
    def text(self) -> str:
        """As `parse_group` reads it."""
        return f"{self.field}{self.comparison}" if self.comparison else f"{self.field}={','.join(self.values)}"


@dataclasses.dataclass(frozen=True)
class Group:
    """People who meet all of some conditions.

    Attributes:
        conditions: at most one a field, in the order of the fields.
    """

    conditions: tuple[Condition, ...] = ()

    @property
    def text(self) -> str:
        """The group as one line that `parse_group` reads back; empty for everybody."""
        return "; ".join(condition.text for condition in self.conditions)

    @property
    def label(self) -> str:
        """For people to read, and what tables call the group: `text`, or `EVERYONE`."""
        return self.text or EVERYONE

    @property
    def profile(self) -> dict[str, str] | None:
        """The one profile that the group describes; None where a condition has several values (or none)."""
        if any(len(condition.values) != 1 for condition in self.conditions):
            return None
        return {condition.field: condition.values[0] for condition in self.conditions}

    def mask(self, fields: Sequence[str], vocab: Mapping[str, Sequence[str]], codes_KF: np.ndarray) -> np.ndarray:
        """Bool [K]: which kinds of people are in it. `codes_KF` are positions in `vocab`, -1 where missing."""
        keep_K = np.ones(len(codes_KF), bool)
        for condition in self.conditions:
            wanted = [i for i, value in enumerate(vocab[condition.field]) if value in condition.values]
            keep_K &= np.isin(codes_KF[:, list(fields).index(condition.field)], wanted)
        return keep_K


def parse_group(where: "str | Mapping[str, Any] | Group | None", fields: Fields, unknown: bool = False) -> Group:
    """The group that a text or a mapping describes.

    Names and values are found whatever their capitals. A value may hold commas. A text separates fields by `;`, or by
    `,` before a known field's name; `=` and `:` mean the same.

    Args:
        where: see the top of this file; None: everybody.
        fields: of the run (`Model.fields`).
        unknown: whether values that nobody in the data has are taken as they are (for one profile).

    Raises:
        CumaError: not a group; an unknown field or value, with those that are near; a comparison of a field that is no
            number; a field named twice.
    """
    raise NotImplementedError


def parse_groups(where: Any, fields: Fields, unknown: bool = False) -> list[Group]:
    """One group, or a list of them; see `parse_group`. Equal groups stay apart only by their place."""
    raise NotImplementedError


def number_bounds(value: str) -> tuple[float, float] | None:
    """Lowest and highest number of a value: "30-39", "60 and over", "under 18", "45"; None where it is none."""
    raise NotImplementedError


def near(word: str, known: Sequence[str], most: int = _LISTED) -> str:
    """Known words as a list for an error, those that look like `word` first."""
    raise NotImplementedError
