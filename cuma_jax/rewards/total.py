"""The reward of a run: the weighted sum of the parts that its config names, a judge's verdict among them."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from cuma_jax.config import Config
from cuma_jax.judging import Judge, ReplyPair
from cuma_jax.rewards.agreement import SurveyAgreement
from cuma_jax.rewards.function import LARGEST, Function
from cuma_jax.rewards.sample import Reward, Sample, Scores
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.cells import build_cells
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey


class JudgeReward:
    """Scores replies by a judge who sees the profile: 1 where the reply is better than the reference in both orders,
    0 where it is worse, 0.5 for a tie or where the verdict depends on the order.

    Metrics: `win`, mean score; `failed`, the share of replies that the judge failed to compare for good. Past
    `max_failed` it is not asked any further.
    """

    def __init__(self, judge: Judge, max_failed: float):
        self._judge, self._max_failed = judge, max_failed

    def score(self, samples: Sequence[Sample]) -> Scores:
        """Compares every reply with its reference; nan where that failed for good. Raises what `Judge.compare` does."""
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


class WeightedSum:
    """The sum of rewards, each times its weight; a reply that one part has no value for has none.

    Raises:
        CumaError: a weight that is no finite number, or so large that training could not reckon with the sum.

    Metrics: those of the parts and, where there are several, the mean of each as `reward_NAME`.
    """

    def __init__(self, parts: Mapping[str, tuple[float, Reward]]):
        self._parts = parts
        for name, (weight, _) in parts.items():
            if not abs(weight) <= LARGEST:
                raise CumaError(
                    f"config field reward.{name} is {weight}; it must be a finite number of at most {LARGEST:g}"
                )

    def score(self, samples: Sequence[Sample]) -> Scores:
        """Every part's scores, added up."""
        total_N, metrics, reason = np.zeros(len(samples)), dict[str, float](), ""
        for name, (weight, reward) in self._parts.items():
            scores = reward.score(samples)
            total_N = total_N + weight * scores.values  # nan stays nan
            if (np.abs(total_N) > LARGEST).any():
                raise CumaError(
                    f"a reward is {np.nanmax(np.abs(total_N)):g} with reward.{name}'s weight of {weight:g}; it must be "
                    f"at most {LARGEST:g}: training takes squares of it in float32"
                )
            metrics |= scores.metrics
            reason = reason or scores.reason
            if len(self._parts) > 1 and np.isfinite(scores.values).any():
                metrics[f"reward_{name}"] = float(np.nanmean(scores.values))
        return Scores(total_N, metrics, reason)


def make_reward(
    config: Config, source: object, profiles: Profiles, train_A: np.ndarray, cache_dir: str, processes: int = 1
) -> Reward:
    """The reward of a run.

    Args:
        train_A: bool, the training answers (surveys).
        processes: how many score replies of their own; they share the judge's limits.

    Raises:
        CumaError: a function that cannot be imported, or a judge without an address or a key.
    """
    reward, parts = config.reward, dict[str, tuple[float, Reward]]()
    if reward.survey:
        assert isinstance(source, Survey)
        parts["survey"] = reward.survey, SurveyAgreement(source.questions, build_cells(source, profiles, train_A))
    if reward.judge:
        judge = Judge(config.judge, cache_dir, processes=processes)
        parts["judge"] = reward.judge, JudgeReward(judge, reward.max_failed)
    if reward.function:
        parts["function"] = 1.0, Function(reward.function)
    return WeightedSum(parts)


def check_parts(config: Config, cache_dir: str) -> None:
    """Checks what lies outside of the config, before any long work: the function is imported, the judge asked once."""
    if config.reward.function:
        Function(config.reward.function)
    if config.reward.judge:
        Judge(config.judge, cache_dir).check()


def check_failed(failed: int, replies: int, most: float, step: int, reason: str = "") -> None:
    """Raises a `CumaError` where more than the share `most` of a step's replies, or all of them, have no reward."""
    if failed and (failed > most * replies or failed == replies):
        raise CumaError(
            f"training stopped: at step {step} {failed} of {replies} replies have no reward, more than "
            f"reward.max_failed {most:g} allows{f' ({reason})' if reason else ''}; put it right and run again: it "
            "resumes from the last checkpoint"
        )
