"""DPO against a slow twin in numpy; TRL's own numbers are in objectives/test_trl.py.

Shapes: B pairs, 2 replies: chosen, rejected.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_twins import slopes

from cuma_jax.config.preferences import DpoConfig
from cuma_jax.losses.dpo import dpo_sums

VARIANTS = [
    DpoConfig(),
    DpoConfig(beta=0.5, label_smoothing=0.2),
    DpoConfig(beta=0.3, nll=0.7),
    DpoConfig(beta=0.2, loss="ipo"),
    DpoConfig(beta=0.4, loss="ipo", nll=0.1),
]


def slow_loss(logp_B2, reference_B2, count_B2, weight_B, config):
    """The weighted sum of the pairs' losses, one pair at a time."""
    total = 0.0
    for b in range(len(weight_B)):
        policy, reference, tokens = logp_B2[b], reference_B2[b], count_B2[b]
        if config.loss == "ipo":
            policy, reference = policy / tokens, reference / tokens
        difference = (policy[0] - policy[1]) - (reference[0] - reference[1])
        if config.loss == "ipo":
            loss = (difference - 1 / (2 * config.beta)) ** 2
        else:
            right = 1 / (1 + np.exp(-config.beta * difference))
            loss = -(1 - config.label_smoothing) * np.log(right) - config.label_smoothing * np.log(1 - right)
        loss += config.nll * -logp_B2[b, 0] / tokens[0]
        total += weight_B[b] * loss
    return total


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    logp_B2 = -rng.uniform(1, 30, (5, 2))
    count_B2 = rng.integers(1, 9, (5, 2)).astype(np.float64)
    return logp_B2, logp_B2 + rng.normal(size=(5, 2)) * 3, count_B2, np.array([1.0, 1.0, 0.0, 1.0, 2.0])


def sums_of(pairs, config):
    return dpo_sums(*(jnp.asarray(x, jnp.float32) for x in pairs), config)


@pytest.mark.parametrize("config", VARIANTS)
def test_dpo_equals_the_slow_twin_in_values_and_gradients(pairs, config):
    logp_B2, *others = pairs

    def fast(x_B2):
        sums = sums_of((x_B2, *others), config)
        return sums["loss"].total, sums

    (total, sums), slope_B2 = jax.value_and_grad(fast, has_aux=True)(jnp.asarray(logp_B2, jnp.float32))
    np.testing.assert_allclose(total, slow_loss(*pairs, config), rtol=1e-5)
    assert float(sums["loss"].count) == 5
    reward_B2 = config.beta * (logp_B2 - others[0]) / (others[1] if config.loss == "ipo" else 1)
    margin_B, weight_B = reward_B2[:, 0] - reward_B2[:, 1], others[2]
    metrics = {"chosen_reward": reward_B2[:, 0], "rejected_reward": reward_B2[:, 1], "margin": margin_B,
               "accuracy": margin_B > 0}  # fmt: skip
    for name, value_B in metrics.items():
        np.testing.assert_allclose(sums[name].total, weight_B @ value_B, rtol=1e-5, atol=1e-5, err_msg=name)
    expected_B2 = slopes(lambda x_B2: slow_loss(x_B2, *others, config), logp_B2, step=1e-5)
    np.testing.assert_allclose(slope_B2, expected_B2, rtol=1e-3, atol=1e-5)
    assert not slope_B2[2].any()


def test_the_divergence_is_of_second_order(pairs):
    """KL(p, q) of two close categorical distributions is half the mean squared log-ratio under p."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=6)
    p, q = (x / x.sum() for x in np.exp([logits, logits + 0.02 * rng.normal(size=6)]))
    drawn = rng.choice(6, size=(20000, 2), p=p)
    sums = sums_of((np.log(p)[drawn], np.log(q)[drawn], np.ones((20000, 2)), np.ones(20000)), DpoConfig())
    np.testing.assert_allclose(sums["kl"].mean(), (p * np.log(p / q)).sum(), rtol=0.05)
    weighted = sums_of((*pairs[:3], np.zeros(5)), DpoConfig())
    assert all(float(s.total) == float(s.count) == 0 for s in weighted.values())


def test_huge_margins_stay_finite():
    logp_B2 = jnp.array([[0.0, -1e6], [-1e6, 0.0]])
    for config in (DpoConfig(beta=1.0), DpoConfig(beta=1.0, label_smoothing=0.1)):
        loss, slope = jax.value_and_grad(
            lambda x, c=config: dpo_sums(x, jnp.zeros((2, 2)), jnp.ones((2, 2)), jnp.ones(2), c)["loss"].mean()
        )(logp_B2)
        assert np.isfinite(loss)
        assert np.isfinite(slope).all()
