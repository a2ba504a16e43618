"""The metrics of a set of questions as plain JSON values: the mean over them, its interval, and what is behind it.

Legend: A answers, C cells, O options, Q questions, N bins of ECE, B resamples.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from cuma_jax.evaluation.metrics.baselines import BASELINES
from cuma_jax.evaluation.metrics.bootstrap import as_json, centre, with_interval
from cuma_jax.evaluation.metrics.distances import accuracy
from cuma_jax.evaluation.metrics.noise_floor import skill_score
from cuma_jax.evaluation.surveys.grouping import SplitCells
from cuma_jax.evaluation.surveys.sufficient_statistics import BINS, METHODS, METRICS, top_bin

_RANGE = {"emd": (0.0, 1.0), "js": (0.0, 1.0), "tv": (0.0, 1.0), "nll": (0.0, np.inf), "brier": (0.0, 2.0),
          "accuracy": (0.0, 1.0), "ece": (0.0, 1.0), "spread_ratio": (0.0, np.inf),
          "correlation": (-1.0, 1.0)}  # fmt: skip
CORRECTED = ("true_spread_corrected", "spread_ratio_corrected")
"""Metrics that take the noise of a sample off: of shares, which are none, they are not known."""
_SPREAD = ("true_spread", "true_spread_corrected", "predicted_spread", "spread_ratio_corrected")


def counter(cells: SplitCells, question_C: np.ndarray) -> Callable[[np.ndarray], dict[str, int]]:
    """What counts answers, respondents, cells and questions behind a set of the split's questions, each set once."""

    @functools.cache
    def count(rows: tuple[int, ...]) -> dict[str, int]:
        in_C = np.isin(question_C, rows)
        in_A = in_C[cells.cell_A]
        respondents = len(np.unique(cells.respondent_A[in_A]))
        return {
            "answers": int(in_A.sum()), "respondents": respondents, "cells": int(in_C.sum()), "questions": len(rows),
        }  # fmt: skip

    return lambda rows: count(tuple(rows.tolist()))


def mean_metrics(
    point: dict[str, np.ndarray],
    resampled: dict[str, np.ndarray],
    floor_Q: np.ndarray,
    count: Callable[[np.ndarray], dict[str, int]],
) -> dict[str, Any]:
    """Metrics of the mean over some questions, as plain JSON values.

    Every metric [Q] of these questions (see `sufficient_statistics.question_metrics`) is given with what it is in every
    resample, [Q, B]; `floor_Q` is NaN where none is known; `count` says what is behind the questions where a mask [Q]
    is true.
    """
    every_Q, floor = np.ones(len(floor_Q), bool), floor_Q.mean()
    least = floor if np.isfinite(floor) else np.zeros(())  # what no model gets below; no floor is known of shares

    def mean(key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        known_Q = np.isfinite(point[key])
        if not known_Q.any():
            return known_Q, np.array(np.nan), np.full(resampled[key].shape[1], np.nan)
        part_QB = resampled[key][known_Q]
        some_B = np.isfinite(part_QB).any(0)
        mean_B = np.full(part_QB.shape[1], np.nan)
        mean_B[some_B] = np.nanmean(part_QB[:, some_B], axis=0)
        return known_Q, point[key][known_Q].mean(), mean_B

    def calibration(method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ECE: bins are averaged over questions before the absolute value, else noise would add up as error."""
        gap_QN, gap_QNB = point[f"{method}.gap"], resampled[f"{method}.gap"]
        known_QB = np.isfinite(gap_QNB).all(1)
        sum_NB = np.where(known_QB[:, None], gap_QNB, 0.0).sum(0, dtype=np.float64)
        count_B = np.where(known_QB.any(0), known_QB.sum(0), np.nan)
        return every_Q, np.abs(gap_QN.mean(0, dtype=np.float64)).sum(), np.abs(sum_NB / count_B).sum(0)

    def metric(known_Q: np.ndarray, value: np.ndarray, drawn_B: np.ndarray, low: float, high: float) -> dict[str, Any]:
        return with_interval(value, drawn_B, low, high) | count(known_Q)

    def score(method: str, name: str) -> dict[str, Any]:
        return metric(*(calibration(method) if name == "ece" else mean(f"{method}.{name}")), *_RANGE[name])

    def gain(baseline: str) -> dict[str, Any]:
        (known_Q, a, a_B), (_, b, b_B) = mean("model.emd"), mean(f"{baseline}.emd")
        return metric(known_Q, a - b, a_B - b_B, -1.0, 1.0)

    def skill(method: str) -> dict[str, Any]:
        (_, a, a_B), (_, b, b_B) = mean(f"{method}.emd"), mean("pooled.emd")
        share = skill_score(a, b, least)
        # Centred before the division: the bootstrap's bias would otherwise count as distance not closed.
        share_B = skill_score(centre(a[None], a_B[None])[0], centre(b[None], b_B[None])[0], least)
        return metric(every_Q, share, share_B, -np.inf, np.inf)

    return {
        "methods": {method: {name: score(method, name) for name in METRICS} for method in METHODS},
        "floor": {"value": as_json(floor), **count(every_Q)},
        "share_closed": {method: skill(method) for method in METHODS if method not in ("uniform", "pooled")},
        "difference": {baseline: gain(baseline) for baseline in BASELINES},
        "spread": {key: metric(*mean(key), 0.0, np.inf) for key in _SPREAD},
    }


def reliability(cells: SplitCells, predicted_AO: np.ndarray, size_A: np.ndarray) -> list[dict[str, Any]]:
    """The bins of the expected calibration error that have answers, from low to high; `size_A`: options of each answer.

    Every question has the same weight, as in the overall ECE, which is the sum over bins of
    `share * abs(confidence - accuracy)`: `confidence` is the mean probability of the likeliest option, `accuracy` how
    often it was the answer.
    """
    top_A, hit_A = predicted_AO.max(-1).astype(np.float64), accuracy(predicted_AO, size_A, cells.option_A)
    total_Q = np.bincount(cells.question_A, cells.weight_A)
    weight_A = cells.weight_A / total_Q[cells.question_A] / (total_Q > 0).sum()
    bin_A = top_bin(top_A)
    count_N, share_N, top_N, hit_N = (
        np.bincount(bin_A, x, BINS) for x in (None, weight_A, weight_A * top_A, weight_A * hit_A)
    )
    return [
        {
            "low": n / BINS,
            "high": (n + 1) / BINS,
            "answers": int(count_N[n]),
            "share": float(share_N[n]),
            "confidence": float(top_N[n] / share_N[n]),
            "accuracy": float(hit_N[n] / share_N[n]),
        }
        for n in np.flatnonzero(count_N).tolist()
    ]
