"""Distributions over the options for any (profile, question) pairs, from a trained run.

Shapes: N pairs, O options, B rows of a batch, L layers, E experts.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cuma_jax.data.batches import Rows
from cuma_jax.evaluation.surveys.option_orders import in_listed_order, option_orders, reordered_layout, sensitivity
from cuma_jax.run import forward
from cuma_jax.run.inference import Step, ask_rows, row_step
from cuma_jax.run.layouts import SurveyLayout
from cuma_jax.run.run import Run

NO_GATES = np.zeros((0, 0, 0), np.float32)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model predicts for (profile, question) pairs.

    Attributes:
        profile_N, question_N: int32, the pairs: rows of the profiles, and of the survey's questions.
        probs_NO: float32, distributions over the options, zero past each question's.
        gate_NLE: mean gate of each expert by adapted layer; [0,0,0] without a router.
        sensitivity: how much the order of the options matters (`option_orders.sensitivity`); None where
            `evaluation.option_orders` is 1.
        by_order: the distributions [N,O] under each order of the options, over the options as listed; empty: not kept.
    """

    profile_N: np.ndarray
    question_N: np.ndarray
    probs_NO: np.ndarray
    gate_NLE: np.ndarray = dataclasses.field(default_factory=lambda: NO_GATES)
    sensitivity: dict[str, Any] | None = None
    by_order: tuple[np.ndarray, ...] = ()


def predict(
    run: Run,
    adapters: Any,
    profile_N: np.ndarray,
    question_N: np.ndarray,
    title: str = "predicting",
    step: Step | None = None,
) -> Predictions:
    """Predicts every pair, once for each order of the options; the mean over orders. All processes call this.

    `step` is from `prediction_step`, where several adapters are asked; None: compiled here.
    """
    config, listed = run.config.evaluation, run.prediction
    assert listed is not None, "conversations have no options to predict"
    step = step or prediction_step(run)
    others = option_orders(listed.sizes_Q, config.option_orders, config.seed)[1:]  # the first is as listed
    parts = [predict_rows(run, step, adapters, listed, profile_N, question_N, title)]
    for order_QO in others:
        layout = reordered_layout(run, order_QO)
        probs_NO, gate_NLE = predict_rows(run, step, adapters, layout, profile_N, question_N, title)
        parts.append((in_listed_order(probs_NO, order_QO[question_N]), gate_NLE))
    if not others:
        return Predictions(profile_N, question_N, *parts[0], by_order=(parts[0][0],))
    probs, gates = zip(*parts, strict=True)
    means = mean_over_orders(probs), mean_over_orders(gates)
    return Predictions(profile_N, question_N, *means, sensitivity(probs), tuple(probs))


def prediction_step(run: Run) -> Step:
    """The jitted step that predicts a batch, under any adapters of the run."""
    return row_step(run, forward.predict)


def rows_of(profile_N: np.ndarray, question_N: np.ndarray) -> Rows:
    """Pairs to ask the model, as rows without an answer."""
    return Rows(profile_N, question_N, np.zeros(len(profile_N), np.int32), None, np.ones(len(profile_N)))


def predict_rows(
    run: Run,
    step: Step,
    adapters: Any,
    layout: SurveyLayout,
    profile_N: np.ndarray,
    question_N: np.ndarray,
    title: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """Distributions [N,O] over the options as `layout` lists them, and mean gates [N,L,E], float32; no bar without a
    title.
    """
    rows = rows_of(profile_N, question_N)
    probs_NO, gates = np.zeros((len(rows), max(layout.sizes_Q)), np.float32), NO_GATES
    for index_B, (probs_BO, gate_BLE) in ask_rows(run, step, adapters, layout.batcher(rows), layout.tables, title):
        if not len(gates):
            gates = np.zeros((len(rows), *gate_BLE.shape[1:]), np.float32)
        probs_NO[index_B], gates[index_B] = probs_BO, gate_BLE
    return probs_NO, gates


def mean_over_orders(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of several arrays of one shape, float32."""
    return np.asarray(np.mean(arrays, axis=0, dtype=np.float64), np.float32)
