"""A judge's verdict as a reward: is the reply better for this person than the one that the person preferred?"""

import collections
from collections.abc import Sequence

import numpy as np

from cuma_jax.judging import Judge, ReplyPair
from cuma_jax.rewards.sample import Sample, Scores


class JudgeReward:
    """Scores replies by a judge who sees the profile: 1 where the reply is better than the reference in both orders,
    0 where it is worse, 0.5 for a tie or where the verdict depends on the order.

    Metrics: `win`, mean score; `failed`, the share of replies that the judge failed to compare for good. Past
    `max_failed` it is not asked any further.
    """

    def __init__(self, judge: Judge, max_failed: float):
        self._judge, self._max_failed = judge, max_failed

    def score(self, samples: Sequence[Sample]) -> Scores:
        """Compares every reply with its reference; nan where that failed for good.

        Raises:
            CumaError: the judge cannot be used at all, or failed too often.
        """
        comparisons = [
            ReplyPair(sample.profile, list(sample.messages), sample.reply, sample.reference) for sample in samples
        ]
        judged = self._judge.compare(comparisons, max_failed=self._max_failed)
        values_N = np.array([np.nan if one.score is None else float(one.score) for one in judged])
        failed = [one.reason for one in judged if one.score is None]
        metrics = {"failed": len(failed) / max(len(samples), 1)}
        if len(failed) < len(samples):
            metrics["win"] = float(np.nanmean(values_N))
        return Scores(values_N, metrics, collections.Counter(failed).most_common(1)[0][0] if failed else "")
