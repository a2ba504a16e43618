"""The metrics of one split, for the observed answers and for every bootstrap resample.

One function computes them from weighted sums by cell, so that the point estimates (all weights 1) and the resamples
cannot differ in anything but the weights.

Legend: A answers, C cells, O options, Q questions of the split, K clusters, B resamples, M marginals, N bins of ECE.
"""

import dataclasses

import numpy as np
from scipy import sparse

from cuma_jax.evaluation.metrics.baselines import BASELINES, MARGINALS
from cuma_jax.evaluation.metrics.distances import (
    PROBABILITY_FLOOR,
    accuracy,
    argmax_credit,
    brier,
    distance,
    jensen_shannon,
    nll,
    option_positions,
    total_variation,
)
from cuma_jax.evaluation.metrics.spread import question_matrix, spread
from cuma_jax.evaluation.surveys.grouping import SplitCells

METHODS = ("model", *BASELINES)
"""What is scored: the model and every baseline."""
PERSONAL = tuple(method for method in METHODS if method not in MARGINALS)
"""Methods that predict by profile; the others predict one distribution a cell."""
METRICS = ("emd", "js", "tv", "nll", "brier", "accuracy", "ece", "spread_ratio", "correlation")
"""Scores of each method; docs/evaluation.md says what they are."""
BINS = 10
"""Bins of equal width, of the likeliest option's probability, of the expected calibration error."""
_SCORES = ("nll", "accuracy", "brier")  # of single answers


@dataclasses.dataclass(frozen=True)
class PersonalSums:
    """What each cluster of respondents adds to the metrics of a method that predicts by profile.

    Attributes:
        cells: sparse [C * (O + 3), K]: by cell, the weighted predicted distributions (O), NLL, accuracy credit and
            Brier score.
        bins: sparse [Q * N, K]: by question and bin, the weighted probability of the likeliest option less the credit
            for it.
    """

    cells: sparse.csr_array
    bins: sparse.csr_array


@dataclasses.dataclass(frozen=True)
class SufficientStatistics:
    """What the metrics of a split are made of.

    Attributes:
        true: sparse [C * O, K]: by cell, the weighted true counts from each cluster of respondents.
        personal: what the methods of `PERSONAL` add, by method.
        marginal_MCO: distribution that each of `MARGINALS` predicts for each cell.
        question_C: row of each cell's question among the split's questions.
        size_C, ordered_C, count_C: options, whether they are a scale, and answers of each cell.
        n_effective_C: Kish effective number of answers.
        num_questions: Q.
    """

    true: sparse.csr_array
    personal: dict[str, PersonalSums]
    marginal_MCO: np.ndarray
    question_C: np.ndarray
    size_C: np.ndarray
    ordered_C: np.ndarray
    count_C: np.ndarray
    n_effective_C: np.ndarray
    num_questions: int


def true_sums(cells: SplitCells, cluster_A: np.ndarray, options: int) -> sparse.csr_array:
    """The matrix `SufficientStatistics.true`, float32."""
    rows_A = cells.cell_A * options + cells.option_A
    return _sum_matrix(rows_A, cluster_A, cells.weight_A, len(cells.question_C) * options)


def personal_sums(
    cells: SplitCells, cluster_A: np.ndarray, predicted_AO: np.ndarray, question_C: np.ndarray, size_C: np.ndarray
) -> PersonalSums:
    """The sums of one method; an answer is added to its cell's rows, in its cluster's column."""
    options, weight_A, base_A = predicted_AO.shape[1], cells.weight_A, cells.cell_A * (predicted_AO.shape[1] + 3)
    credit_A = accuracy(predicted_AO, size_C[cells.cell_A], cells.option_A)
    scores = (nll(predicted_AO, cells.option_A), credit_A, brier(predicted_AO, cells.option_A))
    rows = [(base_A[:, None] + np.arange(options)).ravel(), *(base_A + options + i for i in range(len(scores)))]
    values = [(weight_A[:, None] * predicted_AO).ravel(), *(weight_A * score_A for score_A in scores)]
    columns = [np.repeat(cluster_A, options), *[cluster_A] * len(scores)]
    height = len(cells.question_C) * (options + len(scores))
    top_A = predicted_AO.max(-1).astype(np.float64)
    bin_A = question_C[cells.cell_A] * BINS + top_bin(top_A)
    return PersonalSums(
        _sum_matrix(np.concatenate(rows), np.concatenate(columns), np.concatenate(values), height),
        _sum_matrix(bin_A, cluster_A, weight_A * (top_A - credit_A), (int(question_C.max()) + 1) * BINS),
    )


def top_bin(top_N: np.ndarray) -> np.ndarray:
    """Bin of each probability of the likeliest option, 0 to `BINS` - 1."""
    return np.clip((np.asarray(top_N) * BINS).astype(np.int64), 0, BINS - 1)


def _sum_matrix(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, height: int) -> sparse.csr_array:
    shape = (height, int(columns.max()) + 1 if len(columns) else 0)
    matrix = sparse.coo_array((values.astype(np.float32), (rows, columns)), shape=shape).tocsr()
    matrix.eliminate_zeros()
    return matrix


def question_metrics(statistics: SufficientStatistics, weight_KB: np.ndarray) -> dict[str, np.ndarray]:
    """All metrics by question, float64 [Q, B], under `weight_KB` copies of each cluster.

    Keys are `METHOD.METRIC`, and `true_spread`, `true_spread_corrected`, `predicted_spread`, `spread_ratio_corrected`.
    Distances between distributions (EMD, JS, TV) are means over the question's cells; NLL, Brier score and accuracy
    over its answers. A cell that a resample leaves empty is left out of that resample. Instead of `METHOD.ece` there is
    `METHOD.gap`, float32 [Q, N, B]: by bin, the question's share of answers times (probability of the likeliest option
    less accuracy); over any questions, ECE is the sum over bins of the absolute mean.
    """
    num_cells, options = len(statistics.question_C), statistics.marginal_MCO.shape[-1]
    count_CBO = _by_cell(statistics.true @ weight_KB, num_cells)
    total_CB = count_CBO.sum(-1)
    empty_CB = total_CB <= 0
    true_CBO = count_CBO / np.where(empty_CB, np.nan, total_CB)[..., None]
    size_C1, ordered_C1 = statistics.size_C[:, None], statistics.ordered_C[:, None]

    sum_QC = question_matrix(statistics.question_C, statistics.num_questions)
    filled_QB = sum_QC @ (~empty_CB).astype(np.float64)
    total_QB = sum_QC @ total_CB

    def cell_mean(x_CB: np.ndarray) -> np.ndarray:
        return _ratio(sum_QC @ np.where(empty_CB, 0.0, x_CB), filled_QB)

    position_CO = option_positions(statistics.size_C, options)
    true_mean_CB = np.einsum("cbo,co->cb", true_CBO, position_CO)
    variance_CB = np.einsum("cbo,co->cb", true_CBO, position_CO**2) - true_mean_CB**2
    variance_CB = variance_CB / np.maximum(statistics.n_effective_C - 1.0, 1.0)[:, None]

    out: dict[str, np.ndarray] = {}
    for method in METHODS:
        if method in PERSONAL:
            sums = statistics.personal[method]
            sums_CBX = _by_cell(sums.cells @ weight_KB, num_cells)
            method_CBO = sums_CBX[..., :options]
            # float32 sums leave the predictions 1e-7 off one; a drifting total would show in the CDFs.
            method_CBO = method_CBO / np.where(empty_CB, np.nan, method_CBO.sum(-1))[..., None]
            scores = [sums_CBX[..., options + i] for i in range(len(_SCORES))]
            gap_XB = (sums.bins @ weight_KB).astype(np.float64)
        else:
            marginal_CO = statistics.marginal_MCO[MARGINALS.index(method)]
            method_CBO, top_C = marginal_CO[:, None], marginal_CO.max(-1)
            by_option = _option_scores(marginal_CO, statistics.size_C)
            scores = [np.einsum("cbo,co->cb", count_CBO, by_option[score]) for score in _SCORES]
            bin_C = statistics.question_C * BINS + top_bin(top_C)
            gap_CB = top_C[:, None] * total_CB - scores[_SCORES.index("accuracy")]
            gap_XB = question_matrix(bin_C, statistics.num_questions * BINS) @ gap_CB
        for name, score_CB in zip(_SCORES, scores, strict=True):
            out[f"{method}.{name}"] = _ratio(sum_QC @ score_CB, total_QB)
        gap_QNB = gap_XB.reshape(statistics.num_questions, BINS, -1)
        share_QNB = _ratio(gap_QNB, np.broadcast_to(total_QB[:, None], gap_QNB.shape))
        out[f"{method}.gap"] = share_QNB.astype(np.float32)
        out[f"{method}.emd"] = cell_mean(distance(true_CBO, method_CBO, size_C1, ordered_C1))
        out[f"{method}.js"] = cell_mean(jensen_shannon(true_CBO, method_CBO))
        out[f"{method}.tv"] = cell_mean(total_variation(true_CBO, method_CBO))
        mean_CB = np.broadcast_to((method_CBO * position_CO[:, None]).sum(-1), true_mean_CB.shape)
        result = spread(true_mean_CB, mean_CB, variance_CB, statistics.count_C, statistics.ordered_C, sum_QC)
        out[f"{method}.spread_ratio"], out[f"{method}.correlation"] = result.ratio_QB, result.correlation_QB
        if method == "model":
            out["true_spread"], out["predicted_spread"] = result.true_QB, result.predicted_QB
            out["true_spread_corrected"] = result.corrected_QB
            out["spread_ratio_corrected"] = result.corrected_ratio_QB
    return out


def _option_scores(p_CO: np.ndarray, size_C: np.ndarray) -> dict[str, np.ndarray]:
    """Scores [C, O] that each option would get as the answer, of one prediction for the whole cell."""
    return {
        "nll": -np.log(np.maximum(p_CO, PROBABILITY_FLOOR)),
        "accuracy": argmax_credit(p_CO, size_C),
        "brier": (p_CO**2).sum(-1, keepdims=True) + 1.0 - 2.0 * p_CO,
    }


def cell_distributions(statistics: SufficientStatistics, method: str = "model") -> tuple[np.ndarray, np.ndarray]:
    """True distribution [C, O] of the observed answers, and the one that a method predicts."""
    num_cells, options = len(statistics.question_C), statistics.marginal_MCO.shape[-1]

    def distribution(sums: sparse.csr_array) -> np.ndarray:
        sums_CX = np.asarray(sums.sum(axis=1), np.float64).reshape(num_cells, -1)[:, :options]
        return sums_CX / sums_CX.sum(-1, keepdims=True)

    true_CO = distribution(statistics.true)
    if method in PERSONAL:
        return true_CO, distribution(statistics.personal[method].cells)
    return true_CO, statistics.marginal_MCO[MARGINALS.index(method)]


def _by_cell(sums_XB: np.ndarray, num_cells: int) -> np.ndarray:
    """[C * X, B] as float64 [C, B, X]."""
    return sums_XB.reshape(num_cells, -1, sums_XB.shape[-1]).transpose(0, 2, 1).astype(np.float64)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)
