"""Reliability: how often the likeliest option is right, by how likely the model says it is.

Legend: A answers, O options, N bins.
"""

from typing import Any

import numpy as np

from cuma_jax.evaluation.metrics.distances import accuracy
from cuma_jax.evaluation.surveys.grouping import SplitCells
from cuma_jax.evaluation.surveys.sufficient_statistics import BINS, top_bin


def reliability(cells: SplitCells, predicted_AO: np.ndarray, size_A: np.ndarray) -> list[dict[str, Any]]:
    """The bins of the expected calibration error that have answers, from low to high.

    Every question has the same weight, as in the overall ECE, which is the sum over bins of
    `share * abs(confidence - accuracy)`.

    Args:
        cells: the split's scored answers.
        predicted_AO: distribution predicted for each.
        size_A: options of each answer's question.

    Returns:
        By bin: `low` and `high` bound, `answers`, `share` of all answers, `confidence` (mean probability of the
        likeliest option) and `accuracy` (how often it was the answer).
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
