"""Energy score: how far a predicted distribution is from single answers, on any scale of options.

`E d(X, y) - E d(X, X') / 2` for X, X' drawn from the prediction and y what a person answered (Gneiting and Raftery,
2007, section 4.3); d is |a - b| / (O - 1) on ordered options, 1 where two answers differ on others. It is proper: its
mean over people is smallest where the prediction is their distribution, so neither the likeliest answer nor a flat
guess wins. It is what a survey reward raises (`rewards`), on people that training has not seen.

Shapes: N answers, O options.
"""

import numpy as np


def energy_scores(
    probs_NO: np.ndarray, option_N: np.ndarray, options_N: np.ndarray, ordered_N: np.ndarray
) -> np.ndarray:  # fmt: skip
    """Energy score of each answer, float64 [N], between 0 and 1; smaller is nearer.

    Args:
        probs_NO: predicted distributions, zero past each question's options.
        option_N: the answers.
        options_N: how many options the question has.
        ordered_N: bool, whether they are ordered.
    """
    probs_NO = np.asarray(probs_NO, np.float64)
    place_O = np.arange(probs_NO.shape[1])
    # Ordered: both expectations are sums over the steps of cumulative distributions, F (1 - F) and |F - 1[y <= o]|.
    below_NO = np.cumsum(probs_NO, axis=1)
    step_NO = place_O < options_N[:, None] - 1
    reached_NO = option_N[:, None] <= place_O
    to_answer_N = np.sum(np.where(reached_NO, 1 - below_NO, below_NO) * step_NO, axis=1)
    between_N = np.sum(2 * below_NO * (1 - below_NO) * step_NO, axis=1)
    scale_N = np.maximum(options_N - 1, 1)
    ordered = (to_answer_N - between_N / 2) / scale_N
    chosen_N = probs_NO[np.arange(len(probs_NO)), option_N]
    nominal = (1 - chosen_N) - (1 - np.sum(probs_NO**2, axis=1)) / 2
    return np.where(ordered_N, ordered, nominal)
