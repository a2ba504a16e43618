"""How sure we may be that a model would serve *other* groups: the groups are resampled, not their respondents.

The bootstrap over respondents holds the groups fixed: with thousands of answers a group its intervals are narrow even
where half of the groups are served worse. docs/evaluation.md has more ("Would it serve other groups?").

Legend: G groups, Q questions, B resamples.
"""

from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.evaluation.metrics.baselines import BASELINES
from cuma_jax.evaluation.metrics.bootstrap import multinomial_counts, percentile_interval

MIN_GROUPS = 5
"""Fewer groups than these are no sample to draw from."""


def group_bootstrap(per_cell: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any] | None:
    """EMD of the model minus each baseline's, with the groups drawn anew; None for fewer than `MIN_GROUPS` groups.

    From the cells of one split (question, group, emd and emd_BASELINE): baseline -> value (mean over questions of the
    mean over cells), low and high (95%, percentiles; None without resamples), groups, and nearer: in how many of them
    the model's mean EMD is the smaller.
    """
    groups = per_cell["group"].nunique()
    if groups < MIN_GROUPS:
        return None
    count_BG = multinomial_counts(groups, resamples, (seed, 0x6120))
    found = {}
    for baseline in BASELINES:
        gaps = per_cell.assign(gap=per_cell["emd"] - per_cell[f"emd_{baseline}"])
        gap_GQ = gaps.pivot_table(index="group", columns="question", values="gap").to_numpy()
        low, high = percentile_interval(_mean_of_questions(gap_GQ, count_BG))
        found[baseline] = {
            "value": float(_mean_of_questions(gap_GQ, np.ones((1, groups)))[0]),
            "low": low,
            "high": high,
            "groups": groups,
            "nearer": int((np.nanmean(gap_GQ, axis=1) < 0).sum()),
        }
    return found


def _mean_of_questions(gap_GQ: np.ndarray, count_BG: np.ndarray) -> np.ndarray:
    """Mean over questions of the mean over groups, each group as often as it was drawn, [B]; absent cells are NaN."""
    there_GQ = ~np.isnan(gap_GQ)
    total_BQ, number_BQ = count_BG @ np.nan_to_num(gap_GQ), count_BG @ there_GQ.astype(float)
    mean_BQ = np.divide(total_BQ, number_BQ, out=np.full(total_BQ.shape, np.nan), where=number_BQ > 0)
    return np.nanmean(mean_BQ, axis=1)
