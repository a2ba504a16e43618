"""Metrics of a variant over its seeds, and of two variants as pairs.

Every run resamples the same respondents (resamples.npz), so column b of two runs is one draw of people. A variant's
interval adds to that the luck of training: in every column its seeds are drawn anew, with replacement, and the draws'
deviations widened as docs/comparison.md says (the rescaled bootstrap of Rao and Wu 1988).

Legend: S seeds, Q questions, B resamples.
"""

import dataclasses
import zlib
from typing import Any

import numpy as np

from cuma_jax.evaluation.metrics.bootstrap import centre, with_interval


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The mean of a metric over seeds and so many questions: its value (NaN where it is not defined), and its value in
    every resample, whose mean is the value (empty without a bootstrap).
    """

    value: float
    drawn_B: np.ndarray
    questions: int

    def values(self, low: float = -np.inf, high: float = np.inf) -> dict[str, Any]:
        """Plain JSON values: `value`, its 95% interval `low` and `high`, cut at the metric's range, and `questions`."""
        return with_interval(self.value, self.drawn_B, low, high) | {"questions": self.questions}


def mean_of_questions(point_Q: np.ndarray, resampled_QB: np.ndarray) -> tuple[float, np.ndarray, int]:
    """The plain mean over the questions where the metric is defined: value, value in every resample, how many."""
    known_Q = np.isfinite(point_Q)
    part_QB = resampled_QB[known_Q]
    count_B = np.isfinite(part_QB).sum(0)
    sum_B = np.where(np.isfinite(part_QB), part_QB, 0.0).sum(0, dtype=np.float64)
    mean_B = np.divide(sum_B, count_B, out=np.full(count_B.shape, np.nan), where=count_B > 0)
    return (float(point_Q[known_Q].mean()) if known_Q.any() else np.nan), mean_B, int(known_Q.sum())


def seed_draws(name: str, seeds: int, resamples: int) -> np.ndarray:
    """Which seeds are drawn in every resample, int64 [B, S]; it depends on the variant's name, not on the others."""
    return np.random.default_rng([zlib.crc32(name.encode()), seeds]).integers(0, seeds, size=(resamples, seeds))


def over_seeds(point_S: np.ndarray, resampled_SB: np.ndarray, pick_BS: np.ndarray, questions: int) -> Estimate:
    """The mean over seeds, with both sources of doubt; where it is not defined for one it is not for the mean.

    `resampled_SB` is the metric in every resample of respondents, `pick_BS` from `seed_draws`.
    """
    seeds = len(point_S)
    value = float(np.mean(point_S))
    if not np.isfinite(value) or resampled_SB.shape[1] == 0:
        return Estimate(value, np.zeros(0), questions)
    # Sampling noise pushes a distance up in every resample; see bootstrap.centred_interval.
    centred_SB = centre(point_S, resampled_SB)
    mean_B = centred_SB.mean(0)
    if seeds == 1:
        return Estimate(value, mean_B, questions)
    picked_B = centred_SB[pick_BS, np.arange(len(pick_BS))[:, None]].mean(1)
    return Estimate(value, mean_B + np.sqrt(seeds / (seeds - 1)) * (picked_B - mean_B), questions)


def difference(one: Estimate, other: Estimate) -> tuple[Estimate, float]:
    """`one` minus `other` in paired resamples, and the share of resamples in which `one` is the smaller.

    Equal resamples count half. The share is NaN without a bootstrap.
    """
    if not len(one.drawn_B) or not len(other.drawn_B):
        return Estimate(one.value - other.value, np.zeros(0), one.questions), np.nan
    gap_B = one.drawn_B - other.drawn_B
    gap_B = centre(np.array([one.value - other.value]), gap_B[None])[0]
    known_B = gap_B[np.isfinite(gap_B)]
    smaller = float(np.mean(known_B < 0) + 0.5 * np.mean(known_B == 0)) if len(known_B) else np.nan
    return Estimate(one.value - other.value, gap_B, one.questions), smaller
