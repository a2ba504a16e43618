"""One group and one question: its prediction, and its rows of the table.

Legend: N profiles, O options.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.serving.asking.known import NEW, Known
from cuma_jax.serving.asking.plans import IN_TRAINING, Plan, Planner
from cuma_jax.serving.asking.wordings import Wording
from cuma_jax.serving.groups import Group
from cuma_jax.serving.requests import COLUMNS
from cuma_jax.surveys.survey import Question


@dataclasses.dataclass
class Cell:
    """A group and a question, and who is asked in which wordings.

    Attributes:
        number: of the run's question; -1: a new one.
        person: the number of the profile that `plan.values` is; None where people are averaged over.
    """

    group: Group
    question: Question
    number: int
    wordings: list[Wording]
    plan: Plan
    person: int | None = None

    @property
    def profiles(self) -> list[int]:
        """The numbers of those who are asked."""
        return self.plan.profiles.tolist() if self.person is None else [self.person]

    def share(self) -> tuple[np.ndarray, float]:
        """The predicted share of each option [O], and the mean total variation between orders of the options."""
        profiles, size = self.profiles, len(self.question.options)
        if not profiles:
            return np.full(size, np.nan), float("nan")
        by_order = [np.stack([wording.probs[p] for p in profiles]).astype(np.float64) for wording in self.wordings]
        # As `evaluate` has it: the mean over orders is float32.
        mean_NO = np.mean(by_order, axis=0).astype(np.float32).astype(np.float64)
        share_O = self.plan.weight_N @ mean_NO
        apart = [
            0.5 * np.abs(a - b).sum(1) @ self.plan.weight_N for a, b in itertools.combinations(by_order, 2)
        ]  # fmt: skip
        return share_O / share_O.sum(), float(np.mean(apart)) if apart else float("nan")


def cell_rows(cell: Cell, known: Known, planner: Planner, split: int | None, conversations: bool) -> dict[str, Any]:
    """A cell's part of the table, by column: a list an option, or one value for all."""
    size, plan, number = len(cell.question.options), cell.plan, cell.number
    share_O, sensitivity = cell.share()
    nothing = np.full(size, np.nan)
    columns: dict[str, Any] = dict.fromkeys(COLUMNS, nothing)
    notes = list(plan.notes)
    columns |= {
        "group": cell.group.label,
        "question": cell.question.id,
        "option": list(cell.question.options),
        "share": share_O,
        "real_n": 0,
        "order_sensitivity": sensitivity,
        "n_people": plan.n_people,
        "group_status": plan.status,
    }
    if number < 0:
        status = NEW
        if conversations:
            notes.append("trained on conversations: it was never shown a question with options")
    else:
        status = known.question_status(number)
        if plan.values is None or plan.n_people:
            mask_K = planner.mask(cell.group)
            real = known.real(number, mask_K, split, planner.unseen_K)
            of_profile = plan.values is not None  # a profile is one kind of person: everybody's weights are alike
            weight_K = np.where(mask_K, planner.people.n_K if of_profile else planner.people.weight_K, 0.0)
            notes += known.asked_note(number, mask_K, plan.n_people) if split is None else []
            columns |= {
                "real": _or(real.share_O, nothing),
                "low": _or(real.low_O, nothing),
                "high": _or(real.high_O, nothing),
                "real_n": real.n,
                "own_average": _or(known.own_average(number, mask_K), nothing),
                "logistic": _or(known.logistic(number, weight_K), nothing),
            }
        columns["pooled"] = _or(known.pooled(number), nothing)
    error, on = known.error(plan, number, cell.question.id, status)
    if error is None:
        what = {"unseen_question": "questions", "unseen_country": "groups"}.get(on, "people")
        notes.append(f"the error on {what} it never saw was not measured ({on})")
    elif plan.status != IN_TRAINING and status != IN_TRAINING:
        notes.append("neither the question nor anybody of the group was in training; the error may be larger")
    columns |= {
        "question_status": status,
        "error": float("nan") if error is None else error,
        "error_split": on,
        "notes": "; ".join(notes),
    }
    return columns


def table_of(parts: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """The rows of several cells, one below the other."""
    found = list(parts)
    sizes = [len(part["option"]) for part in found]
    columns = {}
    for name in COLUMNS:
        if found and isinstance(found[0][name], (np.ndarray, list)):
            columns[name] = np.concatenate([np.asarray(part[name]) for part in found])
        else:
            columns[name] = np.repeat([part[name] for part in found], sizes)
    return pd.DataFrame(columns, columns=list(COLUMNS)).astype({"real_n": int, "n_people": int})


def gate_rows(cells: Sequence[Cell], first: int) -> pd.DataFrame:
    """Mean gates of each group, over its people and the questions: group, layer (from `first`), expert, gate."""
    parts = []
    for group, some in itertools.groupby(cells, key=lambda cell: cell.group):
        means = []
        for cell in some:
            gates_NLE = np.stack([cell.wordings[0].gates[p] for p in cell.profiles]).astype(np.float64)
            means.append(np.einsum("n,nle->le", cell.plan.weight_N, gates_NLE))
        mean_LE = np.mean(means, axis=0)
        layer_LE, expert_LE = np.indices(mean_LE.shape)
        parts.append(
            pd.DataFrame({
                "group": group.label,
                "layer": layer_LE.ravel() + first,
                "expert": expert_LE.ravel() + 1,
                "gate": mean_LE.ravel(),
            })
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _or(share_O: np.ndarray | None, nothing: np.ndarray) -> np.ndarray:
    return nothing if share_O is None else share_O
