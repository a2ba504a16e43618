"""The noise floor: how far a sample of the cell's size falls from the very distribution it was drawn from.

Legend: N cells, O options, D Monte Carlo draws.
"""

import numpy as np

from cuma_jax.evaluation.metrics.distances import distance


def kish_effective_n(weight_A: np.ndarray, cell_A: np.ndarray, cells: int) -> np.ndarray:
    """Kish's effective sample size `(sum w)^2 / sum w^2` of each cell, float64 [cells]; 0 for an empty cell."""
    weight_A = np.asarray(weight_A, np.float64)
    total_N = np.bincount(cell_A, weight_A, cells)
    square_N = np.bincount(cell_A, weight_A**2, cells)
    return np.divide(total_N**2, square_N, out=np.zeros(cells), where=square_N > 0)


def noise_floor(
    p_NO: np.ndarray,
    n_effective_N: np.ndarray,
    size_N: np.ndarray,
    ordered_N: np.ndarray,
    seed: int,
    draws: int = 200,
) -> np.ndarray:
    """Expected distance between each distribution and a multinomial sample of the cell's effective size.

    A perfect model cannot be expected to come closer than this to the observed answers. Clustering of the sample is
    not in it, so it is a lower bound where respondents were drawn in clusters.

    Args:
        n_effective_N: Kish effective sample size; rounded to a whole number of at least 1.
        size_N, ordered_N: options of each cell's question, and whether they are a scale (EMD; else total variation).
        draws: Monte Carlo draws a cell; the standard error is about 0.6/sqrt(draws) of the floor.
    """
    rng = np.random.default_rng([seed, 0xF100])
    n_N = np.maximum(np.rint(n_effective_N), 1).astype(np.int64)
    # Renormalised in float64: numpy refuses rows that sum to more than 1 by a float32's rounding.
    p_NO = np.asarray(p_NO, np.float64) / np.asarray(p_NO, np.float64).sum(-1, keepdims=True)
    floor_N = np.empty(len(p_NO))
    for start in range(0, len(p_NO), 1024):  # bounds the [1024, draws, O] counts to tens of MB
        part = slice(start, start + 1024)
        # The last column takes numpy's remainder; reversed, that is option 0, never the zero padding.
        counts_NDO = rng.multinomial(n_N[part, None], p_NO[part, None, ::-1], size=(len(p_NO[part]), draws))[..., ::-1]
        sample_NDO = counts_NDO / n_N[part, None, None]
        gap_ND = distance(sample_NDO, p_NO[part, None], size_N[part, None], ordered_N[part, None])
        floor_N[part] = gap_ND.mean(-1)
    return floor_N


def skill_score(emd: np.ndarray, emd_pooled: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Skill score: the share of the explainable distance closed.

    `1 - (EMD - floor) / (EMD of the pooled marginal - floor)`: 1 is a model at the noise floor, 0 one no better than
    the pooled marginal, below 0 worse. NaN where the pooled marginal is itself at the floor or within a tenth of it
    (nothing left to explain).
    """
    emd, emd_pooled, floor = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (emd, emd_pooled, floor)))
    room = emd_pooled - floor
    # Below a tenth of the floor, the ratio is noise over noise.
    usable = room > np.maximum(0.1 * floor, 1e-6)
    return 1.0 - np.divide(emd - floor, room, out=np.full(emd.shape, np.nan), where=usable)
