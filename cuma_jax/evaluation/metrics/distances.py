"""Distances between answer distributions, and scores of single answers.

Every function is vectorised over leading axes. Distributions are rows [..., O] that sum to 1 and are zero past the
question's own number of options, so questions with different scales share one array.

Legend: N anything listed, O options.
"""

import numpy as np

PROBABILITY_FLOOR = 1e-6
"""Probabilities are raised to this before a logarithm, so that an option a baseline never saw costs 13.8 nats."""


def emd(p_NO: np.ndarray, q_NO: np.ndarray, size_N: np.ndarray) -> np.ndarray:
    """Earth mover's (1-Wasserstein) distance with the options at equal steps on 0 to 1.

    `sum |CDF_p - CDF_q| / (size - 1)`: 0 is equal, 1 is all mass at opposite ends. The two broadcast.
    """
    cdf_gap_NO = np.cumsum(np.asarray(p_NO, np.float64) - q_NO, axis=-1)
    return np.abs(cdf_gap_NO).sum(-1) / (np.asarray(size_N) - 1)


def total_variation(p_NO: np.ndarray, q_NO: np.ndarray) -> np.ndarray:
    """Half the summed absolute difference, in 0 to 1: the EMD when all options are equally far apart."""
    return 0.5 * np.abs(np.asarray(p_NO, np.float64) - q_NO).sum(-1)


def distance(p_NO: np.ndarray, q_NO: np.ndarray, size_N: np.ndarray, ordered_N: np.ndarray) -> np.ndarray:
    """EMD where the options are a scale, total variation where they have no order."""
    if np.all(ordered_N):
        return emd(p_NO, q_NO, size_N)
    return np.where(ordered_N, emd(p_NO, q_NO, size_N), total_variation(p_NO, q_NO))


def jensen_shannon(p_NO: np.ndarray, q_NO: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in bits, in 0 to 1 (the square of scipy's `jensenshannon(p, q, base=2)`)."""
    p_NO, q_NO = np.broadcast_arrays(np.asarray(p_NO, np.float64), np.asarray(q_NO, np.float64))
    middle_NO = 0.5 * (p_NO + q_NO)
    divergence_N = 0.5 * (_relative_entropy(p_NO, middle_NO) + _relative_entropy(q_NO, middle_NO))
    return np.maximum(divergence_N, 0.0)  # rounding may leave -1e-17 where p equals q


def _relative_entropy(p_NO: np.ndarray, middle_NO: np.ndarray) -> np.ndarray:
    ratio_NO = np.divide(p_NO, middle_NO, out=np.ones_like(p_NO), where=p_NO > 0)
    return (p_NO * np.log2(ratio_NO)).sum(-1)


def nll(p_NO: np.ndarray, option_N: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of the chosen options, in nats, with probabilities floored at `PROBABILITY_FLOOR`."""
    chosen_N = np.take_along_axis(p_NO, np.asarray(option_N)[..., None], axis=-1)[..., 0]
    return -np.log(np.maximum(chosen_N, PROBABILITY_FLOOR))


def brier(p_NO: np.ndarray, option_N: np.ndarray) -> np.ndarray:
    """Brier score: summed squared difference of the distribution and the answer as a one-hot, 0 to 2."""
    chosen_N = np.take_along_axis(p_NO, np.asarray(option_N)[..., None], axis=-1)[..., 0]
    return (p_NO**2).sum(-1) + 1.0 - 2.0 * chosen_N


def accuracy(p_NO: np.ndarray, size_N: np.ndarray, option_N: np.ndarray) -> np.ndarray:
    """Credit of guessing the likeliest option: 1 when it was chosen, shared equally among tied options."""
    return np.take_along_axis(argmax_credit(p_NO, size_N), np.asarray(option_N)[..., None], axis=-1)[..., 0]


def argmax_credit(p_NO: np.ndarray, size_N: np.ndarray) -> np.ndarray:
    """Credit [..., O] each option would earn as the answer: 1 over the number of tied likeliest options, else 0."""
    p_NO = np.asarray(p_NO)
    inside_NO = np.arange(p_NO.shape[-1]) < np.asarray(size_N)[..., None]
    best_NO = (p_NO >= p_NO.max(-1, keepdims=True)) & inside_NO
    return best_NO / np.maximum(best_NO.sum(-1, keepdims=True), 1)


def option_positions(size_N: np.ndarray, options: int) -> np.ndarray:
    """Positions [N, O] of the options on 0 to 1; zero past each row's size."""
    column_O = np.arange(options)
    size_N1 = np.asarray(size_N)[..., None]
    return np.where(column_O < size_N1, column_O / (size_N1 - 1), 0.0)


def energy_scores(p_NO: np.ndarray, option_N: np.ndarray, size_N: np.ndarray, ordered_N: np.ndarray) -> np.ndarray:
    """Energy score of each answer, float64 [N], between 0 and 1: how far a prediction is from single answers.

    `E d(X, y) - E d(X, X') / 2` for X, X' drawn from the prediction and y what a person answered (Gneiting and Raftery,
    2007, section 4.3); d is |a - b| / (O - 1) on ordered options, 1 where two answers differ on others. It is proper:
    its mean over people is smallest where the prediction is their distribution, so neither the likeliest answer nor a
    flat guess wins. It is what a survey reward raises (`rewards`), on people that training has not seen.
    """
    p_NO = np.asarray(p_NO, np.float64)
    place_O = np.arange(p_NO.shape[1])
    # Ordered: both expectations are sums over the steps of cumulative distributions, F (1 - F) and |F - 1[y <= o]|.
    below_NO = np.cumsum(p_NO, axis=1)
    step_NO = place_O < size_N[:, None] - 1
    to_answer_N = np.sum(np.where(option_N[:, None] <= place_O, 1 - below_NO, below_NO) * step_NO, axis=1)
    between_N = np.sum(2 * below_NO * (1 - below_NO) * step_NO, axis=1)
    ordered = (to_answer_N - between_N / 2) / np.maximum(size_N - 1, 1)
    chosen_N = p_NO[np.arange(len(p_NO)), option_N]
    return np.where(ordered_N, ordered, (1 - chosen_N) - (1 - np.sum(p_NO**2, axis=1)) / 2)
