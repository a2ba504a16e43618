import numpy as np
import pytest

from cuma_jax.evaluation.metrics.baselines import fit_marginals
from cuma_jax.evaluation.metrics.noise_floor import kish_effective_n, noise_floor, skill_score


def test_kish_n_is_the_count_under_equal_weights_and_less_under_unequal():
    weight_A, cell_A = np.array([2.0, 2, 2, 1, 3, 1]), np.array([0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(kish_effective_n(weight_A, cell_A, 3), [3, 25 / 11, 0])


def test_floor_matches_the_normal_approximation():
    """E|CDF error| at each step is sqrt(2 F (1 - F) / (pi n)) for large n."""
    rng = np.random.default_rng(1)
    p_NO = rng.dirichlet([2.0] * 5, size=20)
    n_N = np.full(20, 400.0)
    cdf_NO = np.cumsum(p_NO, -1)[:, :-1]
    expected_N = np.sqrt(2 * cdf_NO * (1 - cdf_NO) / (np.pi * n_N[:, None])).sum(-1) / 4
    found_N = noise_floor(p_NO, n_N, np.full(20, 5), np.ones(20, bool), seed=3, draws=4000)
    np.testing.assert_allclose(found_N, expected_N, rtol=0.05)


def test_floor_is_seeded_falls_with_n_and_uses_total_variation_without_order():
    p_NO, size_N = np.array([[0.5, 0.3, 0.2, 0.0]] * 2), np.array([3, 3])
    n_N, mixed_N = np.array([20.0, 2000.0]), np.array([True, True])
    found_N = noise_floor(p_NO, n_N, size_N, mixed_N, seed=0)
    assert found_N[0] > 5 * found_N[1] > 0
    np.testing.assert_array_equal(found_N, noise_floor(p_NO, n_N, size_N, mixed_N, seed=0))
    assert np.all(noise_floor(p_NO, n_N, size_N, ~mixed_N, seed=0) > found_N)


def test_skill_is_one_at_the_floor_zero_at_pooled_and_undefined_with_no_room():
    found = skill_score(np.array([0.02, 0.1, 0.06, 0.02]), np.array([0.1, 0.1, 0.1, 0.021]), np.array(0.02))
    np.testing.assert_allclose(found, [1.0, 0.0, 0.5, np.nan])


def test_marginals_are_weighted_and_fall_back_from_group_to_pooled_to_uniform():
    # Question 0: two groups; question 1: only group 0; question 2: no training answer at all.
    question_A, group_A = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 0])
    option_A, weight_A = np.array([0, 1, 1, 2, 0]), np.array([3.0, 1, 4, 1, 1])
    found = fit_marginals(np.array([2, 3, 3]), 2, question_A, group_A, option_A, weight_A)
    np.testing.assert_allclose(found.pooled_QO, [[3 / 8, 5 / 8, 0], [0.5, 0, 0.5], [1 / 3] * 3])
    np.testing.assert_allclose(found.group_QGO[0], [[0.75, 0.25, 0], [0, 1, 0]])
    np.testing.assert_allclose(found.group_QGO[1, 1], [0.5, 0, 0.5])
    np.testing.assert_allclose(found.group_QGO[2, 0], [1 / 3] * 3)
    np.testing.assert_allclose(found.uniform_QO, [[0.5, 0.5, 0], [1 / 3] * 3, [1 / 3] * 3])
    np.testing.assert_array_equal(found.n_QG, [[2, 1], [2, 0], [0, 0]])
    for name in ("uniform", "pooled", "group", "shrunken_group"):
        np.testing.assert_allclose(found.predict(name, question_A, group_A).sum(-1), 1.0)


def planted(concentration: float, groups: int = 60, n: int = 30) -> tuple[np.ndarray, tuple]:
    rng = np.random.default_rng(5)
    truth_GO = rng.dirichlet(concentration * np.array([0.4, 0.3, 0.2, 0.1]), size=groups)
    group_A = np.repeat(np.arange(groups), n)
    option_A = np.concatenate([rng.choice(4, n, p=p) for p in truth_GO])
    args = (np.array([4]), groups, np.zeros(len(group_A), int), group_A, option_A, np.ones(len(group_A)))
    return truth_GO, args


@pytest.mark.parametrize("concentration", [3.0, 30.0])
def test_shrinkage_recovers_the_planted_concentration_and_beats_both_parents(concentration):
    truth_GO, args = planted(concentration)
    found = fit_marginals(*args)
    assert concentration / 2 < found.concentration_Q[0] < 2 * concentration

    def error(p_GO):
        return float(((p_GO - truth_GO) ** 2).sum())

    assert error(found.shrunken_QGO[0]) < min(error(found.group_QGO[0]), error(found.pooled_QO))


def test_shrinkage_is_complete_where_groups_do_not_differ():
    _, args = planted(1e9)
    found = fit_marginals(*args)
    assert np.abs(found.shrunken_QGO[0] - found.pooled_QO).max() < 0.02


def test_nothing_to_fit_gives_uniform():
    empty = np.zeros(0, int)
    found = fit_marginals(np.array([2, 4]), 3, empty, empty, empty, np.zeros(0))
    np.testing.assert_allclose(found.shrunken_QGO, np.broadcast_to(found.uniform_QO[:, None], (2, 3, 4)))
