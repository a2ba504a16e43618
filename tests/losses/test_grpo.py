"""GRPO's advantages and loss against plain loops over replies and tokens, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cuma_jax.config.preferences import GrpoConfig
from cuma_jax.losses.grpo import EPSILON, group_advantages, grpo_sums

GROUPS, SAMPLES, TOKENS = 3, 4, 5


@pytest.fixture(scope="module")
def replies():
    rng = np.random.default_rng(0)
    size = GROUPS * SAMPLES
    old = -rng.random((size, TOKENS)) * 3
    return {
        "old": old,
        "logp": old + rng.normal(size=old.shape) * 0.4,
        "reference": old + rng.normal(size=old.shape) * 0.4,
        "length": rng.integers(1, TOKENS + 1, size=size),
        "reward": rng.normal(size=size),
        "valid": np.array([1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 0], bool),
    }


def slow_advantages(reward, valid, form):
    found = np.zeros(len(reward))
    for start in range(0, len(reward), SAMPLES):
        members = [i for i in range(start, start + SAMPLES) if valid[i]]
        values = [reward[i] for i in members]
        for i in members:
            found[i] = reward[i] - np.mean(values)
            if form == "normalised":
                found[i] /= np.std(values) + EPSILON
    return found


def slow_loss(logp, case, advantage, clip, clip_high, kl, form):
    """The loss, and its gradient by the log-probabilities, token by token."""
    total, slope, valid = 0.0, np.zeros(logp.shape), case["valid"]
    for i in np.flatnonzero(valid):
        length = case["length"][i]
        share = 1 / (length if form == "normalised" else TOKENS) / valid.sum()
        for t in range(length):
            ratio, a = np.exp(logp[i, t] - case["old"][i, t]), advantage[i]
            bound = min(max(ratio, 1 - clip), 1 + clip_high)
            gain, by_logp = (ratio * a, ratio * a) if ratio * a <= bound * a else (bound * a, 0.0)
            gap = case["reference"][i, t] - logp[i, t]
            k3 = np.exp(gap) - gap - 1
            total -= share * (gain - kl * ratio * k3)
            slope[i, t] = -share * (by_logp - kl * (ratio * k3 + ratio * (1 - np.exp(gap))))
    return total, slope


@pytest.mark.parametrize("form", ["normalised", "unbiased"])
def test_advantages_equal_a_loop_and_forget_replies_without_reward(replies, form):
    reward = np.where(replies["valid"], replies["reward"], np.nan)
    found = group_advantages(jnp.asarray(reward), jnp.asarray(replies["valid"]), SAMPLES, form)
    np.testing.assert_allclose(found, slow_advantages(reward, replies["valid"], form), rtol=1e-4, atol=1e-6)
    assert np.all(found[~replies["valid"]] == 0)
    assert found[10] == 0  # alone in its group


def test_a_group_of_equal_rewards_has_no_advantages():
    assert np.all(group_advantages(jnp.full(4, 0.1), jnp.ones(4, bool), 4, "normalised") == 0)


@pytest.mark.parametrize("form", ["normalised", "unbiased"])
@pytest.mark.parametrize(("clip_high", "kl"), [(0.0, 0.0), (0.5, 0.0), (0.28, 0.3)])
def test_loss_and_gradient_equal_a_loop_over_tokens(replies, form, clip_high, kl):
    advantage = slow_advantages(replies["reward"], replies["valid"], form)
    token = np.arange(TOKENS)[None, :] < replies["length"][:, None]

    def run(logp):
        return grpo_sums(
            jnp.where(token, logp, jnp.nan), jnp.asarray(np.where(token, replies["old"], 0.0)),
            jnp.asarray(replies["reference"]) if kl else None, jnp.asarray(advantage), jnp.asarray(token),
            jnp.asarray(replies["valid"], jnp.float32),
            GrpoConfig(clip=0.2, clip_high=clip_high, kl=kl, advantage=form), TOKENS,
        )  # fmt: skip

    sums = run(jnp.asarray(replies["logp"]))
    gradient = jax.grad(lambda logp: run(logp)["loss"].mean())(jnp.asarray(replies["logp"]))
    expected, slope = slow_loss(replies["logp"], replies, advantage, 0.2, clip_high or 0.2, kl, form)
    assert float(sums["loss"].mean()) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-6)
    used = token & replies["valid"][:, None]
    ratio = np.exp(replies["logp"] - replies["old"])
    a = np.broadcast_to(advantage[:, None], ratio.shape)
    clipped = ((ratio > 1 + (clip_high or 0.2)) & (a > 0)) | ((ratio < 0.8) & (a < 0))
    assert 0 < clipped[used].mean() < 1
    assert float(sums["clipped"].mean()) == pytest.approx(clipped[used].mean())
    assert float(sums["entropy"].mean()) == pytest.approx(-replies["old"][used].mean(), rel=1e-5)
    assert float(sums["length"].mean()) == pytest.approx(replies["length"][replies["valid"]].mean())
    if kl:
        gap = (replies["reference"] - replies["logp"])[used]
        assert float(sums["kl"].mean()) == pytest.approx((ratio[used] * (np.exp(gap) - gap - 1)).mean(), rel=1e-4)


def test_the_pull_to_the_reference_is_the_gradient_of_the_divergence_of_the_policy_from_it():
    """Over every reply of one token, each as often as the writer says it; also where the policy has moved since."""
    rng = np.random.default_rng(2)
    moved_V, written_V, reference_V = (jnp.asarray(rng.normal(size=6), jnp.float32) for _ in range(3))
    reference_V = jax.nn.log_softmax(reference_V)

    def divergence(logits_V):
        logp_V = jax.nn.log_softmax(logits_V)
        return jnp.sum(jnp.exp(logp_V) * (logp_V - reference_V))

    for policy_V, writer_V in ((written_V, written_V), (moved_V, written_V)):
        old_V = jax.nn.log_softmax(writer_V)

        def expected_loss(logits_V, old_V=old_V):
            sums = grpo_sums(
                jax.nn.log_softmax(logits_V)[:, None], old_V[:, None], reference_V[:, None], jnp.zeros(6),
                jnp.ones((6, 1)), jnp.exp(old_V),
                GrpoConfig(clip=0.2, clip_high=0.0, kl=1.0, advantage="unbiased"), 1,
            )  # fmt: skip
            return sums["loss"].mean()

        np.testing.assert_allclose(expected_loss(policy_V), divergence(policy_V), rtol=1e-5)
        np.testing.assert_allclose(jax.grad(expected_loss)(policy_V), jax.grad(divergence)(policy_V), atol=1e-6)
