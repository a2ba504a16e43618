"""What `Model.predict` is asked, and the columns of what it answers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from cuma_jax.serving.groups import Group
from cuma_jax.serving.questions import Ask

Where = str | Mapping[str, Any] | Group
"""A group: a text, a mapping, or a parsed one; see `groups`."""
Question = str | Ask
"""The id of a question of the run, or a new one."""

COLUMNS = (
    "group", "question", "option", "share", "low", "high", "real", "real_n", "pooled", "own_average", "logistic",
    "group_status", "question_status", "error", "error_split", "order_sensitivity", "n_people", "notes",
)  # fmt: skip
"""Columns of `Model.predict`'s table."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What one call of `predict` asks, checked (`Model.request` makes it)."""

    groups: tuple[Group, ...]
    questions: tuple[Question, ...]
    option_orders: int | None = None
    average_over: str = "people"
    people: str = "all"

    @property
    def rows(self) -> int:
        """Pairs of a group and a question."""
        return len(self.groups) * len(self.questions)
