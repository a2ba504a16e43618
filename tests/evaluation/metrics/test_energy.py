"""The energy score against its definition, and that the true distribution wins."""

import numpy as np

from cuma_jax.evaluation.metrics.distances import energy_scores


def by_definition(p_O, answer, ordered):
    def distance(a, b):
        return abs(a - b) / (len(p_O) - 1) if ordered else float(a != b)

    options = range(len(p_O))
    to_answer = sum(p_O[a] * distance(a, answer) for a in options)
    between = sum(p_O[a] * p_O[b] * distance(a, b) for a in options for b in options)
    return to_answer - between / 2


def test_it_is_the_sum_over_all_pairs_of_options():
    rng = np.random.default_rng(0)
    sizes_N, ordered_N = np.array([2, 5, 10, 2, 4, 10]), np.array([True, True, True, False, False, False])
    answer_N = np.array([1, 0, 7, 0, 3, 9])
    probs_NO, expected = np.zeros((6, 10)), []
    for n, size in enumerate(sizes_N):
        probs_NO[n, :size] = rng.dirichlet(np.ones(size))
        expected.append(by_definition(probs_NO[n, :size], answer_N[n], ordered_N[n]))
    np.testing.assert_allclose(energy_scores(probs_NO, answer_N, sizes_N, ordered_N), expected, atol=1e-12)


def test_people_s_own_distribution_scores_better_than_their_mode_and_than_a_flat_guess():
    truth_O = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    for ordered in (True, False):

        def mean_score(p_O, ordered=ordered):
            scores_O = energy_scores(np.tile(p_O, (5, 1)), np.arange(5), np.full(5, 5), np.full(5, ordered))
            return float(truth_O @ scores_O)

        others = [np.eye(5)[2], np.full(5, 0.2), np.array([0.15, 0.2, 0.3, 0.2, 0.15])]
        assert all(mean_score(truth_O) < mean_score(p_O) for p_O in others)
