"""`Model`: what was trained, ready to be asked. Command, server, page and notebooks call it and nothing else."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from cuma_jax.serving.groups import Field, Group
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


@dataclasses.dataclass(frozen=True)
class ChatReply:
    """What came of a chat.

    Attributes:
        text: the reply.
        prompt_tokens, tokens: of the prompt as rendered, and of the reply (its end of turn included).
        stopped: whether it came to its end; otherwise it was cut at the limit.
        profile: who was asked for, the derived fields included.
        notes: what the user should know of the profile.
    """

    text: str
    prompt_tokens: int
    tokens: int
    stopped: bool
    profile: dict[str, str]
    notes: tuple[str, ...] = ()


class ChatStream(Iterator[str]):
    """The pieces of a reply as they are written; `reply` is there when they have all been taken. `close` ends it."""

    reply: ChatReply | None = None

    def __next__(self) -> str:
        raise NotImplementedError

    def close(self) -> None:
        """Stops writing."""
        raise NotImplementedError


class Model:
    """A trained run that can be asked; `cuma_jax.load` makes it. One thread at a time.

    Attributes:
        folder: of the run or bundle.
        name: of the run.
        about: facts for page and model card: run, base, data, n, errors by split, warnings; plain JSON values.
        fields: the fields of its people with their values (`groups.Field`); told fields first.
        can_predict: whether it knows questions with options; False for runs on conversations.
    """

    folder: pathlib.Path
    name: str
    about: dict[str, Any]
    fields: dict[str, Field]
    can_predict: bool

    @property
    def questions(self) -> pd.DataFrame:
        """The questions it knows: id, text, options (list), ordered, status (`in training` or `held out`), n (answers).

        Empty for conversations.
        """
        raise NotImplementedError

    def start(self) -> "Model":
        """Loads base and adapters now, not at the first question that needs them. Takes seconds; JAX is imported.

        Raises:
            CumaError: no checkpoint, another base than the run's, or files that cannot be had.
        """
        raise NotImplementedError

    @property
    def started(self) -> bool:
        """Whether base and adapters are loaded."""
        raise NotImplementedError

    def groups_of(self, *fields: str) -> list[Group]:
        """One group for each value of a field (or each combination of several fields that somebody has)."""
        raise NotImplementedError

    def request(
        self,
        groups: "Where | Sequence[Where]",
        questions: "Question | Sequence[Question] | None" = None,
        option_orders: int | None = None,
        average_over: str = "people",
        people: str = "all",
    ) -> Request:
        """Checks what `predict` is asked, without JAX and in milliseconds.

        Raises:
            CumaError: an unknown field, value, question or split, with what is near; a group that matches nobody and
                is no single profile; conversations.
        """
        raise NotImplementedError

    def predict(
        self,
        groups: "Where | Sequence[Where]",
        questions: "Question | Sequence[Question] | None" = None,
        option_orders: int | None = None,
        average_over: str = "people",
        people: str = "all",
    ) -> pd.DataFrame:
        """Predicted answers of groups, beside what is known of them.

        A group's prediction is the mean over the people that match, by their survey weights: over all of them
        (`people="all"`), or over those of one split who answered, as `evaluate` scores them (`people="unseen_country"`:
        equal to per_cell.parquet to 1e-6). Where more than the run's `evaluation.max_profiles` kinds of people match,
        that many are asked, chosen by a hash, and a note says so.

        Args:
            groups: one or several.
            questions: ids, or `Ask`s; None: all of the run's.
            option_orders: orders of the options that are averaged over; None: as the run was evaluated
                (`evaluation.option_orders`) for its own questions, at least 2 for new ones.
            average_over: people, or profile: exactly the profile that the group names (each field one value; values
                nobody has are allowed where the run reads values as text).
            people: all, or a split.

        Returns:
            One row a (group, question, option), in the order asked, with `COLUMNS`: `share` predicted; `real` the
            share of held-out answers with the 95% interval `low` to `high` and `real_n` answers, NaN below
            `evaluation.min_cell`; `pooled` of all training answers; `own_average` of the group's own, `logistic`
            regression, NaN where there is none; `group_status` and `question_status` (in training, held out, unknown;
            new); `error`, the run's measured mean error on that kind of group and question (earth mover's distance, 0
            to 1) in split `error_split`; `order_sensitivity`, the mean total variation between orders of the options
            (NaN for one order); `n_people`; `notes`, joined by "; ".

        Raises:
            CumaError: see `request` and `start`.
        """
        raise NotImplementedError

    def predict_many(self, requests: Sequence[Request]) -> list[pd.DataFrame]:
        """`predict` of several requests, whose rows are put to the model in shared batches; a table each.

        The tables are those of single calls: rows do not depend on each other.
        """
        raise NotImplementedError

    def predict_gates(
        self, groups: "Where | Sequence[Where]", questions: "Question | Sequence[Question] | None" = None
    ) -> pd.DataFrame:
        """Mean gates of the experts: columns group, layer, expert (from 1), gate. Empty for a run without a router."""
        raise NotImplementedError

    def chat(
        self,
        profile: "Where",
        prompt: "str | Sequence[Mapping[str, str]]",
        base: bool = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        stream: bool = False,
    ) -> "str | ChatStream":
        """A reply to a prompt or to turns, for one profile; greedy text equals `python -m cuma_jax.generate`'s.

        Args:
            profile: who asks: one value a field (empty: nobody in particular, where the run sees no profiles).
            prompt: a text, or turns with `role` and `content`, the user's last.
            base: without what was trained.
            max_new_tokens, temperature, seed: None: the run's `sampling`.
            stream: pieces as they are written instead of the whole.

        Raises:
            CumaError: see `request`; a prompt that is too long or empty.
        """
        raise NotImplementedError

    def reply(
        self,
        profile: "Where",
        prompt: "str | Sequence[Mapping[str, str]]",
        base: bool = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
    ) -> ChatReply:
        """`chat` with the counts of tokens."""
        raise NotImplementedError


def load(source: str | pathlib.Path, checkpoint: str = "", start: bool = True) -> Model:
    """Opens what was trained, to ask it.

    Args:
        source: a run's folder, a bundle (`python -m cuma_jax.export --format bundle`), or the hub name of one.
        checkpoint: last or best; empty: as the run's `evaluation.checkpoint` says. A bundle has one.
        start: load base and adapters now; False: at the first question that needs them.

    Raises:
        CumaError: no such run, one that is not finished, or files that cannot be had; see `Model.start`.
    """
    raise NotImplementedError
