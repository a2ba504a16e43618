import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from cuma_jax.evaluation.metrics.distances import (
    PROBABILITY_FLOOR,
    accuracy,
    distance,
    emd,
    jensen_shannon,
    nll,
    option_positions,
    total_variation,
)


def random_rows(rows: int = 60, options: int = 11, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two distributions a row, and how many options it has; the columns behind them are padding."""
    rng = np.random.default_rng(seed)
    size_N = rng.integers(2, options + 1, rows)
    inside_NO = np.arange(options) < size_N[:, None]
    p_NO, q_NO = (rng.gamma(0.4, size=(rows, options)) * inside_NO for _ in range(2))
    p_NO[::7] = np.eye(options)[size_N[::7] - 1]  # all mass on the last option: zeros meet zeros
    return p_NO / p_NO.sum(-1, keepdims=True), q_NO / q_NO.sum(-1, keepdims=True), size_N


def test_emd_equals_scipys_wasserstein_distance_on_the_unit_scale():
    p_NO, q_NO, size_N = random_rows()
    for p, q, size, found in zip(p_NO, q_NO, size_N, emd(p_NO, q_NO, size_N), strict=True):
        scale = np.linspace(0, 1, size)
        assert found == pytest.approx(wasserstein_distance(scale, scale, p[:size], q[:size]), abs=1e-12)


def test_jensen_shannon_is_the_square_of_scipys():
    p_NO, q_NO, size_N = random_rows()
    expected_N = [jensenshannon(p[:n], q[:n], base=2) ** 2 for p, q, n in zip(p_NO, q_NO, size_N, strict=True)]
    np.testing.assert_allclose(jensen_shannon(p_NO, q_NO), expected_N, atol=1e-12)


def test_distances_are_zero_on_equals_one_on_opposites_and_symmetric():
    p_NO, q_NO, size_N = random_rows()
    first_O, last_NO = np.eye(11)[0], np.eye(11)[size_N - 1]
    for metric in (lambda a, b: emd(a, b, size_N), jensen_shannon, total_variation):
        np.testing.assert_allclose(metric(p_NO, p_NO), 0.0, atol=1e-12)
        np.testing.assert_allclose(metric(first_O[None], last_NO), 1.0, atol=1e-12)
        np.testing.assert_allclose(metric(p_NO, q_NO), metric(q_NO, p_NO), atol=1e-12)
        assert np.all(metric(p_NO, q_NO) <= 1 + 1e-12)


def test_unordered_rows_get_total_variation_and_binary_rows_agree_either_way():
    p_NO, q_NO, size_N = random_rows()
    ordered_N = np.arange(len(size_N)) % 2 == 0
    found_N = distance(p_NO, q_NO, size_N, ordered_N)
    np.testing.assert_array_equal(found_N[ordered_N], emd(p_NO, q_NO, size_N)[ordered_N])
    np.testing.assert_array_equal(found_N[~ordered_N], total_variation(p_NO, q_NO)[~ordered_N])
    binary_N = size_N == 2
    np.testing.assert_allclose(emd(p_NO, q_NO, size_N)[binary_N], total_variation(p_NO, q_NO)[binary_N], atol=1e-12)


def test_nll_is_floored_and_accuracy_shares_credit_among_ties():
    p_NO = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    size_N = np.array([2, 3, 3])
    np.testing.assert_allclose(nll(p_NO, np.array([0, 2, 1])), -np.log([0.5, 0.5, PROBABILITY_FLOOR]))
    np.testing.assert_allclose(accuracy(p_NO, size_N, np.array([1, 2, 1])), [0.5, 1.0, 0.0])


def test_positions_run_from_zero_to_one():
    np.testing.assert_allclose(option_positions(np.array([2, 3]), 4), [[0, 1, 0, 0], [0, 0.5, 1, 0]])
