"""Mean collapse: how much the predicted group means differ, beside how much the true ones do.

Legend: C cells (group x question), Q questions, B resamples.
"""

import dataclasses

import numpy as np
from scipy import sparse

MIN_GROUPS = 3
"""Questions with fewer groups have no spread to speak of; their metrics are NaN."""


@dataclasses.dataclass(frozen=True)
class Spread:
    """Spread of group means over the groups of each question; options at equal steps on 0 to 1.

    Attributes:
        true_QB, predicted_QB: standard deviation over groups of the true and the predicted means.
        corrected_QB: the true one with the sampling variance of the means taken off (0 where nothing is left).
        ratio_QB: predicted over true; 1 is right, 0 is collapse. The true spread holds sampling noise, so this
            errs towards collapse.
        corrected_ratio_QB: predicted over corrected.
        correlation_QB: Pearson correlation of predicted and true means.
    """

    true_QB: np.ndarray
    predicted_QB: np.ndarray
    corrected_QB: np.ndarray
    ratio_QB: np.ndarray
    corrected_ratio_QB: np.ndarray
    correlation_QB: np.ndarray


def question_matrix(question_C: np.ndarray, questions: int) -> sparse.csr_array:
    """One-hot [questions, C]: sums cells into questions."""
    cells = len(question_C)
    return sparse.csr_array((np.ones(cells), (question_C, np.arange(cells))), shape=(questions, cells))


def spread(
    true_CB: np.ndarray,
    predicted_CB: np.ndarray,
    variance_CB: np.ndarray,
    weight_C: np.ndarray,
    usable_C: np.ndarray,
    sum_QC: sparse.csr_array,
) -> Spread:
    """Spread, ratio and correlation of group means by question, groups weighted by `weight_C`.

    Args:
        true_CB, predicted_CB: means of each cell; NaN where a resample left the cell empty.
        variance_CB: sampling variance of each true mean.
        weight_C: weight of each group: its number of answers, so that small, noisy groups count less.
        usable_C: cells of ordered questions; a mean needs a scale.
    """
    known_CB = np.isfinite(true_CB) & np.isfinite(predicted_CB) & usable_C[:, None]
    weight_CB = np.where(known_CB, weight_C[:, None], 0.0)
    enough_QB = sum_QC @ known_CB.astype(np.float64) >= MIN_GROUPS
    total_QB = sum_QC @ weight_CB

    def average(x_CB: np.ndarray) -> np.ndarray:
        sum_QB = sum_QC @ (weight_CB * np.where(known_CB, x_CB, 0.0))
        return np.divide(sum_QB, total_QB, out=np.full(sum_QB.shape, np.nan), where=enough_QB & (total_QB > 0))

    def centred(x_CB: np.ndarray) -> np.ndarray:
        return np.where(known_CB, x_CB - sum_QC.T @ np.nan_to_num(average(x_CB)), 0.0)

    true_gap_CB, predicted_gap_CB = centred(true_CB), centred(predicted_CB)
    true_var_QB, predicted_var_QB = average(true_gap_CB**2), average(predicted_gap_CB**2)
    covariance_QB = average(true_gap_CB * predicted_gap_CB)
    true_QB, predicted_QB = np.sqrt(true_var_QB), np.sqrt(predicted_var_QB)
    # Expected sampling part of the weighted variance: each mean's own variance, less that of their average.
    share_CB = weight_CB / np.maximum(sum_QC.T @ total_QB, 1e-300)
    noise_QB = average(variance_CB * (1.0 - share_CB))
    corrected_QB = np.sqrt(np.maximum(true_var_QB - noise_QB, 0.0))
    return Spread(
        true_QB=true_QB,
        predicted_QB=predicted_QB,
        corrected_QB=corrected_QB,
        ratio_QB=_divide(predicted_QB, true_QB),
        corrected_ratio_QB=_divide(predicted_QB, corrected_QB),
        correlation_QB=_divide(covariance_QB, true_QB * predicted_QB),
    )


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # Below 1e-9 of the scale a spread is rounding (a constant prediction), and so would the ratio be.
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 1e-9)
