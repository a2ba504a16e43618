"""The questions of a `Model` in the orders that their options are put in, with what was found for each.

Those of the run are kept for good, new ones as long as there is room.
"""

import collections
import dataclasses
from typing import Any

import numpy as np

from cuma_jax.serving.bundle.contents import Contents
from cuma_jax.serving.questions import Ask
from cuma_jax.surveys.survey import Question

MOST_NEW = 64
"""New questions that are kept with their predictions and hidden states, some hundred kB each of a small base."""


@dataclasses.dataclass
class Wording:
    """A question with its options in one order, and all that was found for it.

    Attributes:
        question: as it is put, in this order.
        number: of the run's question; -1: a new one.
        order_O: the listed option at each place.
        probs: by profile, the distribution over the options as listed, float32 [O].
        gates: by profile, mean gates [L,E].
        read: what the engine keeps of its text.
    """

    question: Question
    number: int
    order_O: np.ndarray
    probs: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    gates: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    read: dict[str, Any] = dataclasses.field(default_factory=dict)


class Wordings:
    """Every wording that was asked for."""

    def __init__(self, contents: Contents, kept: bool):
        """`kept`: whether what `evaluate` predicted holds for the checkpoint that is asked."""
        self._contents, self._kept = contents, kept
        self._known: dict[tuple[int, int], Wording] = {}
        self._new: collections.OrderedDict[tuple[object, ...], dict[int, Wording]] = collections.OrderedDict()
        self._sizes = [len(question.options) for question in contents.questions]

    def of(self, number: int, orders: int) -> list[Wording]:
        """Those of a question of the run."""
        if self._kept:
            self._kept = False
            self._take_kept()
        return [self._one(number, order) for order in range(orders)]

    def of_new(self, ask: Ask, orders: int) -> list[Wording]:
        """Those of a new question; it stands after the run's."""
        found = self._new.setdefault(ask.key, {})
        self._new.move_to_end(ask.key)
        while len(self._new) > MOST_NEW:
            self._new.popitem(last=False)
        for order in range(orders):
            if order not in found:
                found[order] = self._worded(ask.question, -1, order, [*self._sizes, len(ask.options)])
        return [found[order] for order in range(orders)]

    def _one(self, number: int, order: int) -> Wording:
        key = (number, order)
        if key not in self._known:
            self._known[key] = self._worded(self._contents.questions[number], number, order, self._sizes)
        return self._known[key]

    def _worded(self, question: Question, number: int, order: int, sizes: list[int]) -> Wording:
        size = len(question.options)
        order_O = np.arange(size)
        if order:  # that needs jax, which kept predictions need not
            from cuma_jax.evaluation.surveys.option_orders import option_orders

            seed = self._contents.config.evaluation.seed
            order_O = option_orders(sizes, order + 1, seed)[order][number][:size]
            put = tuple(question.options[o] for o in order_O)
            question = dataclasses.replace(question, options=put)
        return Wording(question, number, order_O)

    def _take_kept(self) -> None:
        kept = self._contents.predictions()
        if kept is None:
            return
        for order, number, profile, share in zip(
            kept["order"].tolist(), kept["question"].tolist(), kept["profile"].tolist(), kept["share"], strict=True
        ):
            self._one(number, order).probs[profile] = np.asarray(share, np.float32)
