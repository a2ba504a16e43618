"""The figures of one split, for the observed answers and for every bootstrap resample alike.

One function computes them from weighted sums by cell, so that the point estimates (all weights 1) and the resamples
cannot differ in anything but the weights.

Legend: A answers, C cells, O options, Q questions of the split, K clusters, B resamples, M methods.
"""

import dataclasses

import numpy as np
from scipy import sparse

from cuma_jax.evaluation.baselines import BASELINES
from cuma_jax.evaluation.distances import PROBABILITY_FLOOR, argmax_credit, distance, jensen_shannon, option_positions
from cuma_jax.evaluation.grouping import SplitCells
from cuma_jax.evaluation.spread import question_matrix, spread

METHODS = ("model", *BASELINES)
"""What is scored: the model and every baseline."""
METRICS = ("emd", "js", "nll", "accuracy", "spread_ratio", "correlation")
"""Scores of each method; see `evaluation.scores`."""


@dataclasses.dataclass(frozen=True)
class Ingredients:
    """What the figures of a split are made of.

    Attributes:
        sums: sparse [C * (2 O + 2), K]: by cell, the weighted true counts (O), the weighted predicted distributions
            (O), the weighted NLL (1) and accuracy credit (1) of the model, from each cluster of respondents.
        baseline_MCO: distribution each baseline predicts for each cell (without the model).
        question_C: row of each cell's question among the split's questions.
        size_C, ordered_C, count_C: options, whether they are a scale, and answers of each cell.
        n_effective_C: Kish effective number of answers.
        num_questions: Q.
    """

    sums: sparse.csr_array
    baseline_MCO: np.ndarray
    question_C: np.ndarray
    size_C: np.ndarray
    ordered_C: np.ndarray
    count_C: np.ndarray
    n_effective_C: np.ndarray
    num_questions: int


def cluster_sums(
    cells: SplitCells, cluster_A: np.ndarray, predicted_AO: np.ndarray, nll_A: np.ndarray, accuracy_A: np.ndarray
) -> sparse.csr_array:
    """The matrix `Ingredients.sums`, float32; an answer is added to its cell's rows, in its cluster's column."""
    num_answers, options = predicted_AO.shape
    width, num_cells = 2 * options + 2, len(cells.question_C)
    base_A = cells.cell_A * width
    predicted_rows_AO = base_A[:, None] + options + np.arange(options)
    rows = (base_A + cells.option_A, predicted_rows_AO.ravel(), base_A + 2 * options, base_A + 2 * options + 1)
    columns = (cluster_A, np.repeat(cluster_A, options), cluster_A, cluster_A)
    weight_A = cells.weight_A
    values = (weight_A, (weight_A[:, None] * predicted_AO).ravel(), weight_A * nll_A, weight_A * accuracy_A)
    shape = (num_cells * width, int(cluster_A.max()) + 1 if num_answers else 0)
    index = (np.concatenate(rows), np.concatenate(columns))
    matrix = sparse.coo_array((np.concatenate(values).astype(np.float32), index), shape=shape).tocsr()
    matrix.eliminate_zeros()
    return matrix


def figures(parts: Ingredients, weight_KB: np.ndarray) -> dict[str, np.ndarray]:
    """All figures by question, float64 [Q, B], under `weight_KB` copies of each cluster.

    Keys are `METHOD.METRIC`, and `true_spread`, `true_spread_corrected`, `predicted_spread`, `spread_ratio_corrected`.
    EMD and JS are means over the question's cells, NLL and accuracy over its answers. A cell that a resample leaves
    empty is left out of that resample.
    """
    num_cells, options = len(parts.question_C), parts.baseline_MCO.shape[-1]
    sums_CBX = (parts.sums @ weight_KB).reshape(num_cells, 2 * options + 2, -1).transpose(0, 2, 1).astype(np.float64)
    count_CBO, predicted_CBO = sums_CBX[..., :options], sums_CBX[..., options : 2 * options]
    total_CB = count_CBO.sum(-1)
    empty_CB = total_CB <= 0
    scale_CB1 = 1.0 / np.where(empty_CB, np.nan, total_CB)[..., None]
    # float32 sums leave the predictions 1e-7 off one; a drifting total would show in the CDFs.
    true_CBO = count_CBO * scale_CB1
    model_CBO = predicted_CBO / np.where(empty_CB, np.nan, predicted_CBO.sum(-1))[..., None]
    size_C1, ordered_C1 = parts.size_C[:, None], parts.ordered_C[:, None]

    sum_QC = question_matrix(parts.question_C, parts.num_questions)
    filled_QB = sum_QC @ (~empty_CB).astype(np.float64)
    total_QB = sum_QC @ total_CB

    def cell_mean(x_CB: np.ndarray) -> np.ndarray:
        return _ratio(sum_QC @ np.where(empty_CB, 0.0, x_CB), filled_QB)

    def answer_mean(sum_CB: np.ndarray) -> np.ndarray:
        return _ratio(sum_QC @ sum_CB, total_QB)

    position_CO = option_positions(parts.size_C, options)
    true_mean_CB = np.einsum("cbo,co->cb", true_CBO, position_CO)
    variance_CB = np.einsum("cbo,co->cb", true_CBO, position_CO**2) - true_mean_CB**2
    variance_CB = variance_CB / np.maximum(parts.n_effective_C - 1.0, 1.0)[:, None]

    out: dict[str, np.ndarray] = {}
    for m, method in enumerate(METHODS):
        if method == "model":
            method_CBO = model_CBO
            out["model.nll"] = answer_mean(sums_CBX[..., 2 * options])
            out["model.accuracy"] = answer_mean(sums_CBX[..., 2 * options + 1])
        else:
            baseline_CO = parts.baseline_MCO[m - 1]
            method_CBO = baseline_CO[:, None]
            cost_CO = -np.log(np.maximum(baseline_CO, PROBABILITY_FLOOR))
            credit_CO = argmax_credit(baseline_CO, parts.size_C)
            out[f"{method}.nll"] = answer_mean(np.einsum("cbo,co->cb", count_CBO, cost_CO))
            out[f"{method}.accuracy"] = answer_mean(np.einsum("cbo,co->cb", count_CBO, credit_CO))
        out[f"{method}.emd"] = cell_mean(distance(true_CBO, method_CBO, size_C1, ordered_C1))
        out[f"{method}.js"] = cell_mean(jensen_shannon(true_CBO, method_CBO))
        mean_CB = np.broadcast_to((method_CBO * position_CO[:, None]).sum(-1), true_mean_CB.shape)
        result = spread(true_mean_CB, mean_CB, variance_CB, parts.count_C, parts.ordered_C, sum_QC)
        out[f"{method}.spread_ratio"], out[f"{method}.correlation"] = result.ratio_QB, result.correlation_QB
        if method == "model":
            out["true_spread"], out["predicted_spread"] = result.true_QB, result.predicted_QB
            out["true_spread_corrected"] = result.corrected_QB
            out["spread_ratio_corrected"] = result.corrected_ratio_QB
    return out


def cell_distributions(parts: Ingredients) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted distributions [C, O] of the observed answers."""
    num_cells, options = len(parts.question_C), parts.baseline_MCO.shape[-1]
    sums_CX = np.asarray(parts.sums.sum(axis=1), np.float64).reshape(num_cells, 2 * options + 2)
    true_CO, predicted_CO = sums_CX[:, :options], sums_CX[:, options : 2 * options]
    return true_CO / true_CO.sum(-1, keepdims=True), predicted_CO / predicted_CO.sum(-1, keepdims=True)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)
