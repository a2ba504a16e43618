"""What is known of a cell besides the prediction: real shares, averages, regression, and the run's measured error.

Legend: K kinds of people, N rows of a question, O options, V inputs of the regression.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from cuma_jax.serving.asking.plans import HELD_OUT, IN_TRAINING, Plan
from cuma_jax.serving.bundle.answers import TRAIN, Rows, interval
from cuma_jax.serving.bundle.contents import Contents, held_out

NEW = "new"
KINDS = ("unseen_question", "unseen_country", "unseen_respondent")


@dataclasses.dataclass(frozen=True)
class Real:
    """Real shares [O] of a group with their 95% interval; None where fewer than `min_cell` answers are held out."""

    share_O: np.ndarray | None
    low_O: np.ndarray | None
    high_O: np.ndarray | None
    n: int


class Known:
    """The answers of a run, summed as they are asked for."""

    def __init__(self, contents: Contents):
        """Reads nothing yet."""
        self._contents = contents

    def rows(self, number: int) -> Rows | None:
        """The answers to a question; None where the bundle has none."""
        return None if self._contents.answers is None else self._contents.answers(number)

    def question_status(self, number: int) -> str:
        """In training or held out."""
        return IN_TRAINING if "train" in self._contents.facts["question_splits"][number] else HELD_OUT

    def real(self, number: int, mask_K: np.ndarray, split: int | None, unseen_K: np.ndarray) -> Real:
        """The real shares of a group: of held-out answers, or of those of a split as `evaluate` scores them.

        Everybody of an unseen country is held out, and of others a few: so that a group of both is itself, the held-out
        answers weigh as much as those of all its people who were asked.
        """
        rows, size = self.rows(number), self._size(number)
        if rows is None:
            return Real(None, None, None, 0)
        if split is not None:
            mine = rows.where((rows.split_N == split) & rows.scored_N & mask_K[rows.kind_N])
        else:
            every = rows.where(mask_K[rows.kind_N])
            mine = held_out(every)
            for unseen in (False, True):
                of_all, of_mine = (part.weight_N[unseen_K[part.kind_N] == unseen].sum() for part in (every, mine))
                mine = mine.scaled(unseen_K[mine.kind_N] == unseen, of_all / of_mine if of_mine > 0 else 1.0)
        share_O, n, effective = mine.shares(size)
        if share_O is None or n < self._contents.config.evaluation.min_cell:
            return Real(None, None, None, n)
        return Real(share_O, *interval(share_O, effective), n)

    def asked_note(self, number: int, mask_K: np.ndarray, n_people: int) -> list[str]:
        """What to say where only some of a group were asked a question."""
        rows = self.rows(number)
        asked = 0 if rows is None else int(rows.n_N[mask_K[rows.kind_N]].sum())
        if rows is None or asked >= 0.9 * n_people:
            return []
        return [f"{asked:,} of the group's {n_people:,} people were asked this; averaged over all of them"]

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - as long as the model
    def pooled(self, number: int) -> np.ndarray | None:
        """Share of each option in all training answers to a question."""
        rows = self.rows(number)
        return None if rows is None else rows.where(rows.split_N == TRAIN).shares(self._size(number))[0]

    def own_average(self, number: int, mask_K: np.ndarray) -> np.ndarray | None:
        """The same of a group's own."""
        rows = self.rows(number)
        if rows is None:
            return None
        mine = rows.where((rows.split_N == TRAIN) & mask_K[rows.kind_N])
        return mine.shares(self._size(number))[0]

    def logistic(self, number: int, weight_K: np.ndarray) -> np.ndarray | None:
        """The mean of the logistic regression's predictions over kinds of people."""
        if self._contents.logistic is None or not weight_K.any() or self.question_status(number) != IN_TRAINING:
            return None
        people, logits_VO = self._contents.people, self._contents.logistic(number)[:, : self._size(number)]
        chosen, first = np.flatnonzero(weight_K), 1
        sum_NO = np.tile(logits_VO[0].astype(np.float64), (len(chosen), 1))
        for field in self._contents.facts["logistic_fields"]:
            codes_N = people.codes_KF[chosen, people.fields.index(field)]
            known_N = codes_N >= 0
            sum_NO[known_N] += logits_VO[first + codes_N[known_N]]
            first += len(people.vocab[field])
        p_NO = np.exp(sum_NO - sum_NO.max(1, keepdims=True))
        p_NO /= p_NO.sum(1, keepdims=True)
        return weight_K[chosen] @ p_NO / weight_K[chosen].sum()

    def error(self, plan: Plan, number: int, question_id: str, status: str) -> tuple[float | None, str]:
        """The measured error on such a group and question, and the split it was measured on; None: it was not.

        Of this question where it was scored, else the mean over questions.
        """
        if status != IN_TRAINING:
            split = "unseen_question"
        else:
            split = "unseen_respondent" if plan.status == IN_TRAINING else "unseen_country"
        scores = self._contents.results.get("splits", {}).get(split)
        if not isinstance(scores, dict) or "questions" not in scores:
            return None, split
        of = scores["questions"].get(question_id) if number >= 0 else None
        return _emd(of or scores["overall"]), split

    def _size(self, number: int) -> int:
        return len(self._contents.questions[number].options)


def _emd(block: dict[str, Any]) -> float | None:
    methods = block.get("methods", {})
    value = methods.get("model", {}).get("emd", {}).get("value")
    return None if value is None else float(value)


def errors_of(results: dict[str, Any]) -> dict[str, Any]:
    """The errors by split, beside those of the baselines, as plain values; of surveys."""
    found = {}
    for split, scores in results.get("splits", {}).items():
        overall = scores.get("overall", {})
        methods = overall.get("methods", {})
        if "emd" not in methods.get("model", {}):
            continue
        emd = methods["model"]["emd"]
        found[split] = {
            "emd": emd["value"],
            "low": emd.get("low"),
            "high": emd.get("high"),
            "answers": emd.get("answers"),
            "cells": emd.get("cells"),
            "questions": emd.get("questions"),
            "floor": overall.get("floor", {}).get("value"),
            "closed": overall.get("share_closed", {}).get("model", {}).get("value"),
        } | {
            name: methods.get(method, {}).get("emd", {}).get("value")
            for name, method in (
                ("uniform", "uniform"), ("pooled", "pooled"), ("own_average", "group"), ("logistic", "logistic")
            )
        }  # fmt: skip
    return found
