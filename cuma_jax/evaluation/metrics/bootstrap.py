"""The bootstrap: draws of clusters, what a metric is in each resample, and 95% intervals from that.

Two kinds of draws, for two sizes of sample:

- `poisson_weights`: for the hundreds of clusters of people (respondents, sampling units, annotators) or prompts that an
  evaluation has. The draws of one cluster do not depend on the others, which makes them fast and lets runs be compared
  as pairs. Their intervals are `centred_interval`.
- `multinomial_counts`: for a handful of groups, where the number drawn must be the number there is (so it is with
  training seeds, in `comparison.statistics.seed_draws`).

Legend: K clusters, G groups, B resamples, N anything listed.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Draws = Mapping[str, np.ndarray]

_TABLE_SIZE = 1 << 16


def _poisson_table() -> np.ndarray:
    """Quantiles of Poisson(1) at 65,536 equal steps: one table look-up a draw, ten times as fast as numpy's Poisson."""
    probability = np.array([math.exp(-1) / math.factorial(k) for k in range(12)])
    return np.searchsorted(np.cumsum(probability), (np.arange(_TABLE_SIZE) + 0.5) / _TABLE_SIZE).astype(np.float32)


_POISSON = _poisson_table()


def poisson_weights(clusters: int, resamples: int, seed: tuple[int, ...], chunk: int) -> Iterator[np.ndarray]:
    """Poisson bootstrap: how often each cluster is drawn, float32 [clusters, up to `chunk`], until `resamples` are out.

    The Poisson(1) counts are those of the multinomial bootstrap without its fixed total (Hanley and MacGibbon 2006);
    with the hundreds of clusters of a survey the two agree. The draws depend on `clusters`, `chunk` and `seed` only.
    """
    rng = np.random.default_rng(list(seed))
    for start in range(0, resamples, chunk):
        width = min(chunk, resamples - start)
        yield _POISSON[rng.integers(0, _TABLE_SIZE, size=(clusters, width), dtype=np.uint16)]


def multinomial_counts(groups: int, resamples: int, seed: tuple[int, ...]) -> np.ndarray:
    """How often each group is drawn, int64 [resamples, groups]; every resample has as many as there are."""
    return np.random.default_rng(list(seed)).multinomial(groups, np.full(groups, 1 / groups), resamples)


def resampled(
    metrics: Callable[[np.ndarray], Draws],
    clusters: int,
    resamples: int,
    seed: tuple[int, ...],
    chunk: int = 100,
    at_once: int | None = None,
) -> dict[str, np.ndarray]:
    """Metrics [..., B] in every resample of the Poisson bootstrap.

    `metrics` is from copies of each cluster, float32 [clusters, some resamples], to metrics [..., as many]; it is given
    `at_once` resamples at most (None: `chunk`), to bound its memory.
    """
    width = at_once or chunk
    parts = [
        metrics(weight_KB[:, start : start + width])
        for weight_KB in poisson_weights(clusters, resamples, seed, chunk)
        for start in range(0, weight_KB.shape[1], width)
    ]
    if not parts:
        return {name: value[..., :0] for name, value in metrics(np.ones((clusters, 1), np.float32)).items()}
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def centred_interval(
    point_N: np.ndarray, resampled_NB: np.ndarray, low: float = -np.inf, high: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval moved so that the resamples' mean falls on the point estimate.

    A distance between a sample and a prediction is biased upward by sampling noise, and resampling adds that noise
    a second time: the plain percentile interval then lies above the estimate, and the basic one below it. The
    expected value of the estimate at this sample size is what we report (the noise floor is reported beside it), so
    the bootstrap's bias, `mean(resampled) - point`, is subtracted from both percentiles. Where there is no bias this
    is the percentile interval. NaN estimates have NaN bounds, NaN resamples are left out, and the interval is cut at
    `low` and `high`.
    """
    if resampled_NB.shape[-1] == 0:
        return np.full(point_N.shape, np.nan), np.full(point_N.shape, np.nan)
    known_N = np.isfinite(point_N) & np.isfinite(resampled_NB).any(-1)
    bounds_2N = np.full((2, *point_N.shape), np.nan)
    tail = (1.0 - 0.95) / 2.0
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


def percentile_interval(resampled_B: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """The plain percentile interval of one metric, for draws without the bias of a distance; None without resamples."""
    if not len(resampled_B):
        return None, None
    low, high = np.nanpercentile(resampled_B, [2.5, 97.5]).tolist()
    return low, high


def with_interval(
    value: Any, resampled_B: np.ndarray, low: float = -np.inf, high: float = np.inf
) -> dict[str, float | None]:
    """A metric as plain JSON values: `value`, and `low` and `high` of its `centred_interval`."""
    bounds = centred_interval(np.asarray(value)[None], resampled_B[None], low, high)
    return {"value": as_json(value), "low": as_json(bounds[0][0]), "high": as_json(bounds[1][0])}


def as_json(value: Any) -> float | None:
    """A float for JSON; None where the metric is not defined."""
    return float(value) if np.isfinite(value) else None
