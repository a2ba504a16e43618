"""`Model`: what was trained, ready to be asked. Command, server, page and notebooks call it and nothing else."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from cuma_jax.config.checks import SPLITS
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.near_matches import near
from cuma_jax.serving.about import about_of, keeps
from cuma_jax.serving.asking.cells import Cell, cell_rows, gate_rows, table_of
from cuma_jax.serving.asking.known import Known
from cuma_jax.serving.asking.plans import Planner
from cuma_jax.serving.asking.wordings import Wording, Wordings
from cuma_jax.serving.bundle.contents import Contents
from cuma_jax.serving.groups import Condition, Field, Group, parse_group, parse_groups
from cuma_jax.serving.questions import Ask
from cuma_jax.serving.replies import ChatReply, ChatStream, checked_turns
from cuma_jax.serving.requests import Question, Request, Where

if TYPE_CHECKING:
    from cuma_jax.serving.asking.engine import Engine
    from cuma_jax.serving.chat import Writers, Writing

MOST_ORDERS = 10


class Model:
    """A trained run that can be asked; `cuma_jax.load` makes it. One thread at a time.

    Attributes:
        folder: of the run or bundle.
        name: of the run.
        about: facts for page and model card: run, base, data, n, errors by split, warnings; plain JSON values.
        fields: the fields of its people with their values (`groups.Field`); told fields first.
        can_predict: whether it knows questions with options; False for runs on conversations.
    """

    def __init__(self, contents: Contents, folder: pathlib.Path, checkpoint: str):
        """Of what was read; see `load`."""
        self._contents, self.folder, self._checkpoint = contents, folder, checkpoint
        self.name: str = contents.facts["run"]
        self.fields: dict[str, Field] = contents.people.by_field
        self.can_predict = bool(contents.questions)
        self.about: dict[str, Any] = about_of(contents, checkpoint)
        self._planner, self._known = Planner(contents), Known(contents)
        self._numbers = {question.id: number for number, question in enumerate(contents.questions)}
        self._wordings = Wordings(contents, keeps(contents, folder, checkpoint))
        self._engine: Engine | None = None
        self._writers: Writers | None = None

    @property
    def questions(self) -> pd.DataFrame:
        """The questions it knows: id, text, options (list), ordered, status (`in training` or `held out`), n (answers).

        Empty for conversations.
        """
        facts, rows = self._contents.facts, []
        for number, question in enumerate(self._contents.questions):
            rows.append({
                "id": question.id,
                "text": question.text,
                "options": list(question.options),
                "ordered": question.ordered,
                "status": self._known.question_status(number),
                "n": sum(facts["question_splits"][number].values()),
                "source": question.source,
            })  # fmt: skip
        return pd.DataFrame(rows, columns=["id", "text", "options", "ordered", "status", "n", "source"])

    def start(self) -> "Model":
        """Loads base and adapters now, not at the first question that needs them. Takes seconds; JAX is imported.

        Raises:
            CumaError: no checkpoint, another base than the run's, or files that cannot be had.
        """
        self._running()
        return self

    @property
    def started(self) -> bool:
        """Whether base and adapters are loaded."""
        return self._engine is not None

    def groups_of(self, *fields: str) -> list[Group]:
        """One group for each value of a field (or each combination of several fields that somebody has)."""
        people = self._contents.people
        for field in fields:
            if field not in people.fields:
                raise CumaError(
                    f"unknown field {field!r}; this run knows its people by {near(field, people.fields, 40)}"
                )
        order = [list(self.fields[field].values) for field in fields]
        codes = people.codes_KF[:, [people.fields.index(field) for field in fields]]
        there = {tuple(row) for row in codes[people.n_K > 0].tolist() if min(row, default=-1) >= 0}
        return [
            Group(tuple(Condition(f, (v,)) for f, v in zip(fields, values, strict=True)))
            for values in itertools.product(*order)
            if tuple(people.vocab[f].index(v) for f, v in zip(fields, values, strict=True)) in there
        ]

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
        if average_over not in ("people", "profile"):
            raise CumaError(f"average_over is {average_over!r}; it is people or profile")
        splits = self._contents.facts["splits"]
        if people != "all" and people not in splits:
            raise CumaError(f"people is {people!r}; it is all, or one of this run's splits: {', '.join(splits)}")
        if option_orders is not None and (isinstance(option_orders, bool) or not 1 <= option_orders <= MOST_ORDERS):
            raise CumaError(f"option_orders is {option_orders!r}; it is a number from 1 to {MOST_ORDERS}")
        found = parse_groups(groups, self.fields, average_over == "profile")
        for group in found:
            self._planner.check(group, average_over)
        asked: Sequence[Question]
        if questions is None:
            asked = list(self._numbers)
        else:
            several = isinstance(questions, Iterable) and not isinstance(questions, str)
            asked = list(questions) if several else [questions]  # type: ignore[arg-type,list-item]
        if not asked:
            raise CumaError(
                "no question is asked"
                + ("" if self.can_predict else "; this run was trained on conversations, which have none of their own")
            )
        for question in asked:
            self._check_question(question, people)
        return Request(tuple(found), tuple(asked), option_orders, average_over, people)

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
        return self.predict_many([self.request(groups, questions, option_orders, average_over, people)])[0]

    def predict_many(self, requests: Sequence[Request]) -> list[pd.DataFrame]:
        """`predict` of several requests, whose rows are put to the model in shared batches; a table each.

        The tables are those of single calls: rows do not depend on each other.
        """
        asked = [self._cells(request) for request in requests]
        every = [cell for cells in asked for cell in cells]
        try:
            self._fill(every)
            return [
                table_of([self._rows(cell, request.people) for cell in cells])
                for cells, request in zip(asked, requests, strict=True)
            ]
        finally:
            self._forget(every)

    def predict_gates(
        self, groups: "Where | Sequence[Where]", questions: "Question | Sequence[Question] | None" = None
    ) -> pd.DataFrame:
        """Mean gates of the experts: columns group, layer, expert (from 1), gate. Empty for a run without a router."""
        cells = self._cells(dataclasses.replace(self.request(groups, questions), option_orders=1))
        if not self.about["has_router"]:
            return pd.DataFrame(columns=["group", "layer", "expert", "gate"])
        try:
            self._fill(cells, gates=True)
            return gate_rows(cells, self._running().run.decoder.n_frozen)
        finally:
            self._forget(cells)

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
        writing = self._write(profile, prompt, base, max_new_tokens, temperature, seed)
        if stream:
            return ChatStream(writing.pieces())
        return writing.whole().text

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
        return self._write(profile, prompt, base, max_new_tokens, temperature, seed).whole()

    def _running(self) -> "Engine":
        if self._engine is None:
            from cuma_jax.serving.asking.engine import Engine

            self._engine = Engine(self._contents, self.folder, self._checkpoint)
        return self._engine

    def _check_question(self, question: Question, people: str) -> None:
        if isinstance(question, Ask):
            if people != "all":
                raise CumaError(f"nobody of {people} was asked a new question; leave people at all")
            return
        if not isinstance(question, str):
            raise CumaError(f"a question is an id or an Ask, not {type(question).__name__}")
        if not self.can_predict:
            raise CumaError(
                "this run was trained on conversations, and has no questions of its own; ask a new one "
                "(Ask, --ask), or chat"
            )
        if question not in self._numbers:
            shown = near(question, list(self._numbers))
            raise CumaError(f"this run has no question {question[:80]!r}; it has {shown}. A new one is an Ask (--ask)")

    def _cells(self, request: Request) -> list[Cell]:
        split = None if request.people == "all" else SPLITS.index(request.people)
        usual = self._contents.config.evaluation.option_orders
        cells = []
        for group in request.groups:
            shared = None
            for question in request.questions:
                if isinstance(question, Ask):
                    number, orders = -1, request.option_orders or max(usual, 2)
                    wordings, of = self._wordings.of_new(question, orders), question.question
                else:
                    number, orders = self._numbers[question], request.option_orders or usual
                    wordings, of = self._wordings.of(number, orders), self._contents.questions[number]
                rows = self._known.rows(number) if split is not None else None
                plan = self._planner.plan(group, request.average_over, rows, split) if split is not None else shared
                plan = shared = plan or self._planner.plan(group, request.average_over, None, None)
                cells.append(Cell(group, of, number, wordings, plan))
        return cells

    def _fill(self, cells: Sequence[Cell], gates: bool = False) -> None:
        """Has everything predicted that is not yet."""
        wanted: dict[int, tuple[Wording, dict[int, None]]] = {}
        persons: dict[int, int] = {}  # by plan, which the questions of a group share: a profile is encoded once
        for cell in cells:
            if cell.plan.values is not None and cell.person is None:
                if (key := id(cell.plan)) not in persons:
                    persons[key] = self._running().person(cell.plan.values)
                cell.person = persons[key]
            for wording in cell.wordings:
                wanted.setdefault(id(wording), (wording, {}))[1].update(dict.fromkeys(cell.profiles))
        lacking = [
            (wording, [p for p in some if p not in (wording.gates if gates else wording.probs)])
            for wording, some in wanted.values()
        ]
        if any(some for _, some in lacking):
            self._running().ask([(wording, some) for wording, some in lacking if some], gates)

    def _forget(self, cells: Sequence[Cell]) -> None:
        """Lets go of profiles that are not of the data: there is no end of them."""
        for cell in cells:
            if self._engine is not None and cell.person is not None and cell.person >= len(self._engine.profiles):
                self._engine.forget(cell.person)
                for wording in cell.wordings:
                    wording.probs.pop(cell.person, None)
                    wording.gates.pop(cell.person, None)

    def _rows(self, cell: Cell, people: str) -> dict[str, Any]:
        split = None if people == "all" else SPLITS.index(people)
        return cell_rows(cell, self._known, self._planner, split, not self.can_predict)

    def _write(
        self,
        profile: Where,
        prompt: "str | Sequence[Mapping[str, str]]",
        base: bool,
        max_new_tokens: int | None,
        temperature: float | None,
        seed: int | None,
    ) -> "Writing":
        group = parse_group(profile, self.fields, unknown=True)
        self._planner.check(group, "profile")
        turns = checked_turns(prompt)
        if self._writers is None:
            from cuma_jax.serving.chat import Writers

            self._writers = Writers(self._running())
        return self._writers.writing(group.profile or {}, turns, base, max_new_tokens, temperature, seed)
