"""Predictions held to the pooled answers. Legend: U pairs, O options, A answers, N rows."""

import numpy as np
import pytest

from cuma_jax.evaluation.surveys.hold import best_strength, held, strengths

SIZES = np.array([2, 4, 3, 4])


def distributions(rng, alone=1.0):
    """A distribution over each row's options [4,4], 0 past them."""
    found = np.zeros((4, 4))
    for row, size in enumerate(SIZES):
        found[row, :size] = rng.dirichlet(np.full(size, alone))
    return found


def test_a_held_prediction_is_the_logarithmic_opinion_pool():
    rng = np.random.default_rng(0)
    probs_NO, pooled_NO = distributions(rng), distributions(rng)
    strength_N = np.array([0.0, 0.3, 1.0, np.nan])
    found_NO = held(probs_NO, pooled_NO, strength_N)
    for n, size in enumerate(SIZES):
        s = strength_N[n] if np.isfinite(strength_N[n]) else 1.0
        weights = [probs_NO[n, o] ** s * pooled_NO[n, o] ** (1 - s) for o in range(size)]
        np.testing.assert_allclose(found_NO[n, :size], np.array(weights) / sum(weights), rtol=1e-6)
        assert not found_NO[n, size:].any()
    np.testing.assert_allclose(found_NO[0], pooled_NO[0], rtol=1e-6)
    np.testing.assert_allclose(found_NO[2], probs_NO[2], rtol=1e-6)


def test_questions_that_have_no_strength_or_no_pooled_answers_keep_every_bit():
    rng = np.random.default_rng(1)
    probs_NO = distributions(rng).astype(np.float32)
    nothing = np.full((4, 4), np.nan)
    np.testing.assert_array_equal(held(probs_NO, distributions(rng), np.full(4, np.nan)), probs_NO)
    np.testing.assert_array_equal(held(probs_NO, nothing, np.full(4, 0.5)), probs_NO)


def draw(rng, truth_UO, pair_A):
    return (
        (rng.random(len(pair_A))[:, None] > np.cumsum(truth_UO[pair_A], axis=1)).sum(1).clip(max=truth_UO.shape[1] - 1)
    )


@pytest.mark.parametrize("orders", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_a_useless_model_does_no_harm_and_a_true_one_is_kept(seed, orders):
    """Fitted on some answers, scored on others; of 30 groups, 20 answers each."""
    rng = np.random.default_rng(seed)
    pooled_O = np.array([0.5, 0.3, 0.15, 0.05])
    truth_UO, noise_UO = rng.dirichlet(8 * pooled_O, 30), rng.dirichlet(4 * pooled_O, 30)
    truth_UO = truth_UO.clip(0.01) / truth_UO.clip(0.01).sum(1, keepdims=True)
    noise_UO = noise_UO.clip(0.01) / noise_UO.clip(0.01).sum(1, keepdims=True)
    pair_A = np.repeat(np.arange(30), 20)
    weight_A = rng.choice([0.5, 2.0], len(pair_A))

    def fit(probs_UO, answers_UO):
        option_A = draw(rng, answers_UO, pair_A)
        return best_strength([probs_UO.astype(np.float32)] * orders, pooled_O, pair_A, option_A, weight_A)

    same_UO = np.tile(pooled_O, (30, 1))
    useless, true = fit(noise_UO, same_UO), fit(truth_UO, truth_UO)
    assert useless == 0
    assert true > 0.75
    fresh_A = draw(rng, same_UO, np.repeat(pair_A, 50))
    loss = [
        -np.log(probs_UO[np.repeat(pair_A, 50), fresh_A]).mean()
        for probs_UO in (held(noise_UO, same_UO, np.full(30, useless)), noise_UO, same_UO)
    ]
    assert loss[0] - loss[2] < 0.1 * (loss[1] - loss[2])


def test_strengths_are_read_by_the_questions_names():
    np.testing.assert_array_equal(strengths({"b": 0.25, "gone": 1.0}, ["a", "b"]), [np.nan, 0.25])
