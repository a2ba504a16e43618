"""Bootstrap weights and intervals over respondents.

Legend: K clusters of respondents, B resamples, N anything listed.
"""

import math
from collections.abc import Iterator

import numpy as np

_TABLE_SIZE = 1 << 16


def _poisson_table() -> np.ndarray:
    """Quantiles of Poisson(1) at 65,536 equal steps: one table look-up a draw, ten times as fast as numpy's Poisson."""
    probability = np.array([math.exp(-1) / math.factorial(k) for k in range(12)])
    return np.searchsorted(np.cumsum(probability), (np.arange(_TABLE_SIZE) + 0.5) / _TABLE_SIZE).astype(np.float32)


_POISSON = _poisson_table()


def resample_weights(clusters: int, resamples: int, seed: tuple[int, ...], chunk: int) -> Iterator[np.ndarray]:
    """Poisson bootstrap: how often each cluster is drawn, float32 [clusters, up to `chunk`], until `resamples` are out.

    The Poisson(1) counts are those of the multinomial bootstrap without its fixed total (Hanley and MacGibbon 2006);
    with the hundreds of clusters of a survey the two agree. The draws depend on `clusters`, `chunk` and `seed` only.
    """
    rng = np.random.default_rng(list(seed))
    for start in range(0, resamples, chunk):
        width = min(chunk, resamples - start)
        yield _POISSON[rng.integers(0, _TABLE_SIZE, size=(clusters, width), dtype=np.uint16)]


def centred_interval(
    point_N: np.ndarray, resampled_NB: np.ndarray, low: float = -np.inf, high: float = np.inf, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval moved so that the resamples' mean falls on the point estimate.

    A distance between a sample and a prediction is biased upward by sampling noise, and resampling adds that noise
    a second time: the plain percentile interval then lies above the estimate, and the basic one below it. The
    expected value of the estimate at this sample size is what we report (the noise floor is reported beside it), so
    the bootstrap's bias, `mean(resampled) - point`, is subtracted from both percentiles. Where there is no bias this
    is the percentile interval.

    Args:
        point_N: point estimates; NaN gives NaN bounds.
        resampled_NB: the same figures in every resample; NaN entries are left out.
        low, high: bounds of the figure's range; the interval is cut there.
        level: coverage aimed at.
    """
    if resampled_NB.shape[-1] == 0:
        return np.full(point_N.shape, np.nan), np.full(point_N.shape, np.nan)
    known_N = np.isfinite(point_N) & np.isfinite(resampled_NB).any(-1)
    bounds_2N = np.full((2, *point_N.shape), np.nan)
    tail = (1.0 - level) / 2.0
    if known_N.any():
        centred_NB = centre(point_N[known_N], resampled_NB[known_N])
        bounds_2N[:, known_N] = np.nanquantile(centred_NB, [tail, 1.0 - tail], axis=-1)
    return np.clip(bounds_2N[0], low, high), np.clip(bounds_2N[1], low, high)


def centre(point_N: np.ndarray, resampled_NB: np.ndarray) -> np.ndarray:
    """The resamples, moved so that their mean is the point estimate."""
    known_NB = np.isfinite(resampled_NB)
    count_N1 = np.maximum(known_NB.sum(-1, keepdims=True), 1)
    mean_N1 = np.where(known_NB, resampled_NB, 0.0).sum(-1, keepdims=True) / count_N1
    return resampled_NB - mean_N1 + point_N[..., None]
