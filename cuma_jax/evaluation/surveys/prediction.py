"""Distributions over the options for any (profile, question) pairs, from a trained run.

Shapes: N pairs, O options, B rows of a batch, L layers, E experts.
"""

import dataclasses
from typing import Any

import numpy as np

from cuma_jax.data.batches import Rows
from cuma_jax.evaluation.surveys.option_orders import in_listed_order, option_orders, reordered_layout, sensitivity
from cuma_jax.run.forward import predict
from cuma_jax.run.inference import ask_rows, row_step
from cuma_jax.run.layouts import SurveyLayout
from cuma_jax.run.run import Run


@dataclasses.dataclass
class Predictor:
    """Callable as `predictor(profile_N, question_N) -> probs_NO`.

    Attributes:
        run: a config made real.
        adapters: its trained adapters, on the devices.
        what: title of the progress bar.
        gate_NLE: mean gate of each expert for the pairs of the last call, [N,0,0] without a router.
        sensitivity: how much the order of the options matters (`option_orders.sensitivity`); empty where
            `evaluation.option_orders` is 1.
    """

    run: Run
    adapters: Any
    what: str = "predicting"
    gate_NLE: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))
    sensitivity: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._step = row_step(self.run, predict)

    def __call__(self, profile_N: np.ndarray, question_N: np.ndarray) -> np.ndarray:
        """Predicts every pair, once for each order of the options; the mean over orders.

        Args:
            profile_N: int32, rows of the run's profiles.
            question_N: int32, the survey's questions.

        Returns:
            float32 [N,O], zero past each question's options.
        """
        a, config = self.run, self.run.config.evaluation
        assert a.prediction is not None, "conversations have no options to predict"
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for order_QO in option_orders(a.prediction.sizes_Q, config.option_orders, config.seed):
            listed = not parts  # the first order is the one that the survey lists
            layout = a.prediction if listed else reordered_layout(a, order_QO)
            probs_NO, gate_NLE = self._predict(layout, profile_N, question_N)
            parts.append((probs_NO if listed else in_listed_order(probs_NO, order_QO[question_N]), gate_NLE))
        if len(parts) > 1:
            self.sensitivity = sensitivity([probs_NO for probs_NO, _ in parts])
            parts = [(_mean([probs_NO for probs_NO, _ in parts]), _mean([gate_NLE for _, gate_NLE in parts]))]
        probs_NO, self.gate_NLE = parts[0]
        return probs_NO

    def _predict(
        self, layout: SurveyLayout, profile_N: np.ndarray, question_N: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distributions [N,O] over the options as `layout` lists them, and mean gates [N,L,E]."""
        rows = Rows(profile_N, question_N, np.zeros(len(profile_N), np.int32), None, np.ones(len(profile_N)))
        probs_NO = np.zeros((len(rows), max(layout.sizes_Q)), np.float32)
        gates: np.ndarray | None = None
        asked = ask_rows(self.run, self._step, self.adapters, layout.batcher(rows), layout.tables, self.what)
        for index_B, (probs_BO, gate_BLE) in asked:
            if gates is None:
                gates = np.zeros((len(rows), *gate_BLE.shape[1:]), np.float32)
            probs_NO[index_B], gates[index_B] = probs_BO, gate_BLE
        return probs_NO, np.zeros((0, 0, 0), np.float32) if gates is None else gates


def _mean(arrays: list[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean(arrays, axis=0, dtype=np.float64), np.float32)
