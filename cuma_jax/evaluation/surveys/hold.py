"""Predictions held to the pooled answers, as strongly as validation respondents say (`evaluation.hold`).

A prediction p of a question becomes pooled^(1-s) p^s, normalised: of all distributions the one with the least
(1-s) KL(q || pooled) + s KL(q || p), a logarithmic opinion pool (Genest and Zidek, 1986, "Combining probability
distributions"). The strength s of each question, 0 to 1, makes the answers of validation respondents likeliest, and is
0 where that is not by more than a standard error: where the model has learned no more than noise, the pooled answers
are what is predicted. Questions without training or without validation answers are left as they are.

Legend: A answers, U (profile, question) pairs, N rows, O options, Q questions, S strengths that are tried.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cuma_jax.evaluation.surveys.grouping import pair_keys, select_answers
from cuma_jax.evaluation.surveys.option_orders import sensitivity
from cuma_jax.evaluation.surveys.prediction import Predictions, Step, mean_over_orders, predict
from cuma_jax.run.pooled_start import check_validation, pooled_shares
from cuma_jax.run.run import Run

TRIED = np.linspace(0.0, 1.0, 101)
_LEAST = 1e-30


def held(probs_NO: np.ndarray, pooled_NO: np.ndarray, strength_N: np.ndarray) -> np.ndarray:
    """The opinion pool of each row, float32 [N,O]; a row whose strength is nan, or whose pooled one is, as it is."""
    there_NO = (probs_NO > 0) & (pooled_NO > 0)  # none past a question's options; nan is not above 0
    log_NO = np.log(np.where(there_NO, np.maximum(probs_NO, _LEAST), 1.0).astype(np.float64))
    log_pooled_NO = np.log(np.where(there_NO, pooled_NO, 1.0))
    strength_N1 = np.nan_to_num(strength_N, nan=1.0)[:, None]
    mixed_NO = np.where(there_NO, np.exp(strength_N1 * log_NO + (1 - strength_N1) * log_pooled_NO), 0.0)
    total_N1 = mixed_NO.sum(1, keepdims=True)
    alone_N1 = (total_N1 == 0) | np.isnan(strength_N)[:, None]
    return np.where(alone_N1, probs_NO, mixed_NO / np.where(alone_N1, 1.0, total_N1)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Hold:
    """What predictions are held to, and how strongly the model counts.

    Attributes:
        pooled_QO: `pooled_start.pooled_shares`.
        strength_Q: float64; nan: the question's predictions are left as they are.
    """

    pooled_QO: np.ndarray
    strength_Q: np.ndarray

    def apply(self, predictions: Predictions) -> Predictions:
        """The predictions of every order of the options, held, and their mean."""
        question_N = predictions.question_N
        pooled_NO, strength_N = self.pooled_QO[question_N], self.strength_Q[question_N]
        by_order = tuple(held(probs_NO, pooled_NO, strength_N) for probs_NO in predictions.by_order)
        return dataclasses.replace(
            predictions,
            probs_NO=mean_over_orders(by_order),
            by_order=by_order,
            sensitivity=sensitivity(by_order) if len(by_order) > 1 else None,
        )

    def values(self, names: Sequence[str]) -> dict[str, float]:
        """The strength of each question that has one, by id, for results.json."""
        strengths = zip(names, self.strength_Q.tolist(), strict=True)
        return {name: strength for name, strength in strengths if np.isfinite(strength)}


def strengths(values: dict[str, Any], names: Sequence[str]) -> np.ndarray:
    """The inverse of `Hold.values`, float64 [Q]."""
    return np.array([values.get(name, np.nan) for name in names], np.float64)


def fit_hold(run: Run, adapters: Any, step: Step) -> Hold:
    """Fits the strengths on validation respondents, sampled and weighted as an evaluation's are.

    Raises:
        CumaError: there are none.
    """
    check_validation(run.split_N)
    survey, config = run.survey, run.config.evaluation
    config = dataclasses.replace(config, splits=("validation",), min_cell=1)
    selection = select_answers(survey, run.profiles, run.split_N, config)
    found = predict(run, adapters, *selection.pairs, "predicting validation", step)
    pooled_QO = pooled_shares(survey, run.mask("train"))
    cells = selection.splits["validation"]
    key_U = found.question_N.astype(np.int64) * len(run.profiles) + found.profile_N
    pair_A = np.searchsorted(key_U, pair_keys(run.profiles, cells))
    strength_Q = np.full(len(survey.questions), np.nan)
    for question in np.unique(found.question_N):
        if np.isfinite(pooled_QO[question]).all():
            mine_U = found.question_N == question
            first, mine_A = int(np.argmax(mine_U)), cells.question_A == question
            by_order = [probs_UO[mine_U] for probs_UO in found.by_order]
            pairs_A, option_A, weight_A = pair_A[mine_A] - first, cells.option_A[mine_A], cells.weight_A[mine_A]
            strength_Q[question] = best_strength(by_order, pooled_QO[question], pairs_A, option_A, weight_A)
    return Hold(pooled_QO, strength_Q)


def best_strength(
    by_order: Sequence[np.ndarray], pooled_O: np.ndarray, pair_A: np.ndarray, option_A: np.ndarray, weight_A: np.ndarray
) -> float:
    """The strength at which answers are likeliest; 0 where they are not likelier than under the pooled answers by a
    standard error. `by_order`: each order's predictions [U,O].

    Along a family of one parameter, a log-likelihood ratio of one standard error is a parameter of about two.
    """
    pooled_UO = np.broadcast_to(pooled_O, by_order[0].shape)
    loss_SA = np.zeros((len(TRIED), len(pair_A)))
    for number, strength in enumerate(TRIED):
        strength_U = np.full(len(pooled_UO), strength)
        mean_UO = mean_over_orders([held(probs_UO, pooled_UO, strength_U) for probs_UO in by_order])
        loss_SA[number] = -np.log(np.maximum(mean_UO[pair_A, option_A], _LEAST))
    best = int(np.argmin(loss_SA @ weight_A))
    gain_A = loss_SA[0] - loss_SA[best]
    mean = weight_A @ gain_A / weight_A.sum()
    error = np.sqrt((weight_A**2) @ (gain_A - mean) ** 2) / weight_A.sum()
    return float(TRIED[best]) if mean > error else 0.0
