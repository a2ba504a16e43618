import numpy as np
import pytest

from cuma_jax.evaluation.metrics.bootstrap import centred_interval, multinomial_counts, poisson_weights, resampled
from cuma_jax.evaluation.metrics.distances import emd
from cuma_jax.evaluation.metrics.spread import question_matrix, spread


def test_weights_are_poisson_one_seeded_and_as_many_as_asked():
    chunks = list(poisson_weights(2000, 130, (7, 1), chunk=64))
    assert [c.shape for c in chunks] == [(2000, 64), (2000, 64), (2000, 2)]
    weight_KB = np.concatenate(chunks, axis=1)
    assert weight_KB.mean() == pytest.approx(1.0, abs=0.01)
    assert weight_KB.var() == pytest.approx(1.0, abs=0.02)
    assert (weight_KB == 0).mean() == pytest.approx(np.exp(-1), abs=0.005)
    np.testing.assert_array_equal(chunks[0], next(poisson_weights(2000, 130, (7, 1), chunk=64)))
    assert not np.array_equal(chunks[0], next(poisson_weights(2000, 130, (7, 2), chunk=64)))


def test_resamples_do_not_depend_on_how_many_fit_into_memory():
    value_K = np.arange(30.0)
    given = []

    def mean(weight_KB):
        given.append(weight_KB.shape[1])
        return {"mean": value_K @ weight_KB / weight_KB.sum(0)}

    whole = resampled(mean, 30, 130, (3,), chunk=64)["mean"]
    assert given == [64, 64, 2]
    np.testing.assert_array_equal(resampled(mean, 30, 130, (3,), chunk=64, at_once=9)["mean"], whole)
    assert max(given[3:]) == 9
    np.testing.assert_allclose(whole[:64], mean(next(poisson_weights(30, 130, (3,), 64)))["mean"])
    assert resampled(mean, 30, 0, (3,))["mean"].shape == (0,)


def test_few_groups_are_drawn_as_many_as_there_are():
    count_BG = multinomial_counts(7, 5000, (1, 2))
    assert (count_BG.sum(1) == 7).all()
    np.testing.assert_allclose(count_BG.mean(0), 1, atol=0.06)
    np.testing.assert_array_equal(count_BG, multinomial_counts(7, 5000, (1, 2)))


def test_interval_without_bias_is_the_percentile_interval_and_bias_is_taken_off():
    drawn_B = np.random.default_rng(0).normal(size=4000)
    drawn_B -= drawn_B.mean()
    plain = np.quantile(drawn_B, [0.025, 0.975])
    np.testing.assert_allclose(np.stack(centred_interval(np.zeros(1), drawn_B[None]))[:, 0], plain)
    np.testing.assert_allclose(np.stack(centred_interval(np.zeros(1), drawn_B[None] + 5))[:, 0], plain)


def test_interval_is_cut_at_the_range_and_nan_where_undefined():
    drawn_NB = np.array([[-0.1, 0.1, np.nan, 0.0], [np.nan] * 4, [1.0] * 4])
    low_N, high_N = centred_interval(np.array([0.0, 1.0, np.nan]), drawn_NB, low=0.0, high=1.0)
    assert low_N[0] == 0.0
    assert 0 < high_N[0] <= 0.1
    assert np.isnan(low_N[1:]).all()
    low_N, _ = centred_interval(np.zeros(2), np.zeros((2, 0)))
    assert np.isnan(low_N).all()


def test_interval_covers_the_expected_emd_of_small_cells():
    """300 surveys of 12 cells x 40 answers, a prediction close to the truth: where resampling bias is worst."""
    rng = np.random.default_rng(2)
    truth_CO = rng.dirichlet([3.0] * 5, size=12)
    predicted_CO = 0.9 * truth_CO + 0.1 / 5
    size = np.array(5)
    observed_SCO = np.stack([rng.multinomial(40, p, size=300) for p in truth_CO], axis=1) / 40
    estimate_S = emd(observed_SCO, predicted_CO, size).mean(-1)
    covered = contained = plain_covered = 0
    for s in range(300):
        drawn_BCO = rng.multinomial(40, observed_SCO[s], size=(200, 12)) / 40
        drawn_B = emd(drawn_BCO, predicted_CO, size).mean(-1)
        low, high = (x[0] for x in centred_interval(estimate_S[s : s + 1], drawn_B[None], low=0.0))
        covered += low <= estimate_S.mean() <= high
        contained += low <= estimate_S[s] <= high
        plain_covered += np.quantile(drawn_B, 0.025) <= estimate_S.mean() <= np.quantile(drawn_B, 0.975)
    assert contained == 300
    assert 0.9 <= covered / 300 <= 0.99
    assert plain_covered < covered, "if the plain percentile interval covered as well, centring would not be needed"


def spread_of(true_CB, predicted_CB, noise=0.0, weight_C=None, question_C=None):
    """The spread over cells, by default of one question and equal weights."""
    cells = len(true_CB)
    question_C = np.zeros(cells, int) if question_C is None else question_C
    weight_C = np.ones(cells) if weight_C is None else weight_C
    of_questions = question_matrix(question_C, question_C.max() + 1)
    return spread(true_CB, predicted_CB, np.full((cells, 1), noise), weight_C, np.ones(cells, bool), of_questions)


def test_spread_equals_a_slow_twin():
    rng = np.random.default_rng(3)
    question_C = np.repeat([0, 1, 2], [6, 4, 2])
    true_CB, predicted_CB = rng.random((12, 1)), rng.random((12, 1))
    weight_C = rng.integers(20, 90, 12).astype(float)
    result = spread_of(true_CB, predicted_CB, weight_C=weight_C, question_C=question_C)
    for q in (0, 1):
        of = question_C == q
        covariance = np.cov(true_CB[of, 0], predicted_CB[of, 0], aweights=weight_C[of], ddof=0)
        sd = np.sqrt(np.diag(covariance))
        assert result.true_QB[q, 0] == pytest.approx(sd[0])
        assert result.corrected_QB[q, 0] == pytest.approx(sd[0])
        assert result.ratio_QB[q, 0] == pytest.approx(sd[1] / sd[0])
        assert result.correlation_QB[q, 0] == pytest.approx(covariance[0, 1] / sd.prod())
    assert np.isnan(result.ratio_QB[2, 0])  # two groups are no spread


def test_a_constant_prediction_has_ratio_zero_and_no_correlation():
    result = spread_of(np.random.default_rng(0).random((8, 2)), np.full((8, 2), 0.4))
    np.testing.assert_allclose(result.ratio_QB, 0, atol=1e-7)
    assert np.isnan(result.correlation_QB).all()


def test_sampling_noise_is_taken_off_the_true_spread():
    rng = np.random.default_rng(4)
    truth_C = rng.normal(0.5, 0.1, 4000)
    observed_CB = (truth_C + rng.normal(0, 0.1, 4000))[:, None]
    result = spread_of(observed_CB, observed_CB, noise=0.01)
    assert result.true_QB[0, 0] == pytest.approx(0.1 * np.sqrt(2), rel=0.05)
    assert result.corrected_QB[0, 0] == pytest.approx(0.1, rel=0.05)
    assert result.corrected_ratio_QB[0, 0] == pytest.approx(np.sqrt(2), rel=0.05)
