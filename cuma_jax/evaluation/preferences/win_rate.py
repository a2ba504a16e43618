"""Win-rates: how often people would prefer one side's replies to the other's, with intervals.

A comparison's score is 1 where the first side wins in both orders, 0 where it loses in both, 0.5 otherwise, and nan
where the judge failed for good: such a comparison is counted and in no metric.

Shapes: N comparisons, K resamples.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.evaluation.metrics.ratios import SHARE, Ratio, ratio_metrics
from cuma_jax.evaluation.preferences.groups import of_groups
from cuma_jax.judging import FIRST, SECOND, TIE, Judged

Metric = dict[str, float | None]


def mean_share(value_N: np.ndarray, cluster_N: np.ndarray, resamples: int, seed: int) -> Metric:
    """The mean of the values, 0 to 1, that are not nan, with a 95% interval by resampling clusters (prompts, people).

    `value`, `low` and `high` are None where they are not defined (no value; an interval of one cluster; 0 resamples).
    """
    known_N = np.isfinite(value_N)
    frame = pd.DataFrame({"cluster": cluster_N[known_N], "value": value_N[known_N], "values": 1})
    return ratio_metrics(frame, {"": Ratio({"value": 1}, "values", SHARE)}, "cluster", resamples, (seed, 17))[""]


def win_rate(score_N: np.ndarray, cluster_N: np.ndarray, resamples: int, seed: int) -> dict[str, Any]:
    """`win_rate` (ties half) with its interval; `n`: comparisons, clusters, wins, ties, losses, failed."""
    return {
        "win_rate": mean_share(score_N, cluster_N, resamples, seed),
        "n": {
            "comparisons": len(score_N),
            "clusters": len(np.unique(cluster_N[np.isfinite(score_N)])),
            "wins": int((score_N == 1).sum()),
            "ties": int((score_N == 0.5).sum()),
            "losses": int((score_N == 0).sum()),
            "failed": int(np.isnan(score_N).sum()),
        },
    }


def win_rates(frame: pd.DataFrame, group_by: Sequence[str], min_cell: int, resamples: int, seed: int) -> dict[str, Any]:
    """The win-rate of all comparisons, of each split, and of each group of at least `min_cell` of them.

    The frame has columns `score`, `cluster`, `split`, and one for each field of `group_by`.
    """

    def metrics(part: pd.DataFrame) -> dict[str, Any]:
        return win_rate(part["score"].to_numpy(np.float64), part["cluster"].to_numpy(), resamples, seed)

    return metrics(frame) | {
        "splits": {str(split): metrics(part) for split, part in frame.groupby("split", sort=False)},
        "groups": of_groups(frame, group_by, min_cell, metrics),
    }


def scores_of(judged: Sequence[Judged]) -> np.ndarray:
    """float64 [N]; nan where the judge failed for good."""
    return np.array([np.nan if j.score is None else j.score for j in judged], np.float64)


def order_metrics(judged: Sequence[Judged], cluster_N: np.ndarray, resamples: int, seed: int) -> dict[str, Any]:
    """What the two orders say of the judge.

    Returns:
        `first_position`: of the calls that preferred one reply, the share that preferred the one shown first (0.5
        without position bias), with an interval; `consistent`: of the comparisons judged twice, the share where both
        orders agree; `calls`: how many were answered, preferred the first shown, the second, neither, and failed for
        good; `equal_replies`: comparisons that needed no call.
    """
    asked = [i for i, j in enumerate(judged) if j.asked]
    places = [(place, cluster_N[i]) for i in asked for place in judged[i].positions]
    decided = [(float(place == FIRST), cluster) for place, cluster in places if place in (FIRST, SECOND)]
    first_D = np.array([first for first, _ in decided], np.float64)
    both = [j for j in judged if j.asked and j.score is not None]
    agree, calls = sum(j.verdicts[0] == j.verdicts[1] for j in both), Counter(place for place, _ in places)
    return {
        "first_position": mean_share(first_D, np.array([cluster for _, cluster in decided]), resamples, seed),
        "consistent": {"value": agree / len(both) if both else None, "low": None, "high": None},
        "calls": {
            "answered": len(places) - calls[None],
            "first_shown": calls[FIRST],
            "second_shown": calls[SECOND],
            "ties": calls[TIE],
            "failed": calls[None],
        },
        "equal_replies": len(judged) - len(asked),
    }


def respondents_judge(option_N: np.ndarray, first_N: np.ndarray, second_N: np.ndarray) -> np.ndarray:
    """Scores by people themselves, float64 [N]: 1 where the first side gave the person's own answer and the second did
    not, 0 the other way round, 0.5 where both or neither did; -1 is nothing that is an option.
    """
    return 0.5 + 0.5 * ((first_N == option_N).astype(np.float64) - (second_N == option_N))
