"""The statistics of a comparison against slow twins, and against what is known of simple cases."""

import numpy as np
import pytest

from cuma_jax.comparison.statistics import Estimate, difference, mean_of_questions, over_seeds, seed_draws


def test_a_mean_of_questions_leaves_out_what_is_not_defined():
    rng = np.random.default_rng(0)
    point_Q, resampled_QB = rng.normal(size=5), rng.normal(size=(5, 9))
    point_Q[1] = np.nan
    resampled_QB[2, 3] = np.nan
    resampled_QB[:, 4] = np.nan
    value, drawn_B, count = mean_of_questions(point_Q, resampled_QB)
    rows = [0, 2, 3, 4]
    assert value == pytest.approx(np.mean([point_Q[q] for q in rows]))
    assert count == 4
    for b in range(9):
        known = [resampled_QB[q, b] for q in rows if not np.isnan(resampled_QB[q, b])]
        assert np.isnan(drawn_B[b]) if not known else drawn_B[b] == pytest.approx(sum(known) / len(known))


def test_seeds_are_drawn_anew_in_every_resample_as_a_loop_does():
    rng = np.random.default_rng(1)
    point_S, resampled_SB = rng.normal(size=3), rng.normal(size=(3, 40)) + 0.5
    pick_BS = seed_draws("cuma", 3, 40)
    got = over_seeds(point_S, resampled_SB, pick_BS, 1)
    slow = []
    for b in range(40):
        centred = [resampled_SB[s, b] - resampled_SB[s].mean() + point_S[s] for s in range(3)]
        mean = sum(centred) / 3
        drawn = sum(centred[s] for s in pick_BS[b]) / 3
        slow.append(mean + np.sqrt(3 / 2) * (drawn - mean))
    np.testing.assert_allclose(got.drawn_B, slow)
    assert got.value == pytest.approx(point_S.mean())


def test_the_interval_has_the_variance_of_people_and_of_training():
    """Var(mean over S seeds) = var(people) + var(seeds, unbiased) / S."""
    rng = np.random.default_rng(2)
    point_S = np.array([0.0, 0.3, 0.9])
    people_B = rng.normal(scale=0.2, size=200_000)
    got = over_seeds(point_S, point_S[:, None] + people_B, seed_draws("x", 3, 200_000), 1)
    assert got.drawn_B.var() == pytest.approx(0.2**2 + point_S.var(ddof=1) / 3, rel=0.02)
    alone = over_seeds(point_S[:1], point_S[:1, None] + people_B[None], seed_draws("x", 1, 200_000), 1)
    assert alone.drawn_B.var() == pytest.approx(0.2**2, rel=0.02)


def test_pairs_cancel_what_both_share():
    rng = np.random.default_rng(3)
    people_B = rng.normal(size=4000)
    one = over_seeds(np.array([1.0]), people_B[None], seed_draws("a", 1, 4000), 1)
    other = over_seeds(np.array([1.1]), (people_B + rng.normal(scale=0.01, size=4000))[None],
                       seed_draws("b", 1, 4000), 1)  # fmt: skip
    gap, smaller = difference(one, other)
    assert gap.value == pytest.approx(-0.1)
    assert gap.values()["high"] < -0.07
    assert one.values()["high"] > 2
    assert smaller == 1.0
    assert difference(other, one)[1] == 0.0
    assert difference(one, one)[1] == 0.5


def test_superiority_is_a_share_of_resamples():
    one, other = Estimate(0.0, np.array([-1.0, 1.0, 0.0, 2.0, -2.0]), 1), Estimate(0.0, np.zeros(5), 1)
    slow = [1.0 if a < b else 0.5 if a == b else 0.0 for a, b in zip(one.drawn_B, other.drawn_B, strict=True)]
    assert difference(one, other)[1] == pytest.approx(np.mean(slow))


def test_without_a_bootstrap_there_are_values_only():
    got = over_seeds(np.array([0.2, 0.4]), np.zeros((2, 0)), seed_draws("a", 2, 0), 3)
    assert got.value == pytest.approx(0.3)
    assert got.values()["low"] is got.values()["high"] is None
    gap, smaller = difference(got, got)
    assert gap.value == 0.0
    assert np.isnan(smaller)


def test_a_metric_that_one_seed_lacks_is_not_defined():
    assert np.isnan(over_seeds(np.array([0.2, np.nan]), np.ones((2, 4)), seed_draws("a", 2, 4), 0).value)


def test_the_draws_of_a_variant_do_not_depend_on_the_others():
    np.testing.assert_array_equal(seed_draws("lora", 3, 5), seed_draws("lora", 3, 5))
    assert (seed_draws("lora", 3, 50) != seed_draws("cuma", 3, 50)).any()
