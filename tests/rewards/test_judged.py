"""A judge's verdicts as rewards, from a real server: what failed for good has none, and an outage stops at once."""

import numpy as np
import pytest
from scripted_judge import says, serving, shown

from cuma_jax.config import JudgeConfig
from cuma_jax.judging import Judge
from cuma_jax.rewards import Sample
from cuma_jax.rewards.total import JudgeReward
from cuma_jax.runtime.errors import CumaError


def samples(*replies):
    turn = ({"role": "user", "content": "Bread?"},)
    return [Sample(n, "A person from Chile.", turn, reply, reference="the usual") for n, reply in enumerate(replies)]


def prefers_good(number, request):
    """The reply with `good` in it, in whatever place; a reply with `broken` in it breaks the judge."""
    texts = shown(request)
    if any("broken" in text for text in texts.values()):
        return 400, "no"
    good = [name[-1] for name, text in texts.items() if "good" in text and name.startswith("reply")]
    return says(good[0] if good else "tie")


def reward(url, folder, max_failed=1.0):
    config = JudgeConfig(url=url, model="m", key_env="", retries=0)
    return JudgeReward(Judge(config, folder, backoff=0.01), max_failed)


def test_verdicts_are_rewards_beside_the_reply_that_the_person_preferred(tmp_path):
    with serving(prefers_good) as (url, judge):
        scores = reward(url, tmp_path).score(samples("good bread", "no bread", "the usual"))
    np.testing.assert_array_equal(scores.values, [1.0, 0.5, 0.5])
    assert scores.metrics == {"failed": 0.0, "win": pytest.approx(2 / 3)}
    assert len(judge.requests) == 4  # both orders; equal replies are a tie without a call
    assert "Chile" in judge.requests[0]["messages"][1]["content"]


def test_a_call_that_fails_for_good_is_no_reward_and_says_why(tmp_path):
    with serving(prefers_good) as (url, _):
        judged = reward(url, tmp_path)
        judged.score(samples("good bread"))  # an endpoint that has answered nothing yet is one that cannot be used
        scores = judged.score(samples("good bread", "broken bread"))
    assert scores.values[0] == 1.0
    assert np.isnan(scores.values[1])
    assert scores.metrics["failed"] == 0.5
    assert "400" in scores.reason


def test_past_the_share_that_may_fail_it_stops(tmp_path):
    with serving(lambda number, request: (500, "down")) as (url, _), pytest.raises(CumaError, match="500"):
        reward(url, tmp_path, max_failed=0.1).score(samples("good bread", "more bread", "other bread"))
