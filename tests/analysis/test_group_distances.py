"""Distances between groups, Mantel's test and the maps, against slow definitions and planted cases."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr, wasserstein_distance

from cuma_jax.analysis.distances import (
    answer_distances,
    classical_mds,
    complete_groups,
    mantel,
    profile_distances,
    route_distances,
    turned_to,
)

QUESTIONS = {"scale": {"distance": "emd"}, "kinds": {"distance": "total_variation"}}


def cells(seed=0):
    """Three groups; c was not asked `kinds`, and a answered `scale` in two splits."""
    rng = np.random.default_rng(seed)
    rows = [("one", "scale", "a"), ("two", "scale", "a"), ("one", "scale", "b"), ("two", "scale", "c"),
            ("one", "kinds", "a"), ("one", "kinds", "b")]  # fmt: skip
    shares = [rng.dirichlet(np.ones(4)).tolist() for _ in rows]
    table = pd.DataFrame(rows, columns=["split", "question", "group"])
    return table.assign(n=rng.integers(5, 50, len(rows)), true=shares)


def test_answer_distance_is_the_mean_over_common_questions():
    table = cells()
    found = answer_distances(table, "true", ["a", "b", "c"], QUESTIONS)

    def answers(question, group):
        rows = table[(table.question == question) & (table.group == group)]
        return np.average(np.stack(rows["true"].to_list()), axis=0, weights=rows["n"])

    def emd(one, two):
        steps = np.linspace(0, 1, 4)
        return wasserstein_distance(steps, steps, answers("scale", one), answers("scale", two))

    kinds = 0.5 * np.abs(answers("kinds", "a") - answers("kinds", "b")).sum()
    np.testing.assert_allclose(found[0, 1], (emd("a", "b") + kinds) / 2)
    np.testing.assert_allclose(found[1, 2], emd("b", "c"))
    np.testing.assert_array_equal(found, found.T)
    apart = answer_distances(table[table.question == "kinds"], "true", ["a", "b", "c"], QUESTIONS)
    assert np.isnan(apart[0, 2])
    assert complete_groups({"answers": apart, "other": np.zeros((3, 3))}).tolist() == [0, 1]


def test_route_distance_is_the_mean_over_common_questions_and_layers():
    gate = np.random.default_rng(0).dirichlet(np.ones(3), (4, 2))
    question, group = np.array([0, 0, 1, 1]), np.array([5, 7, 5, 7])
    found = route_distances(question, group, gate, np.array([7, 5]))
    by_hand = [0.5 * np.abs(gate[i, layer] - gate[i + 1, layer]).sum() for i in (0, 2) for layer in (0, 1)]
    np.testing.assert_allclose(found[0, 1], np.mean(by_hand))
    assert found[0, 0] == 0


def test_profile_distance_counts_a_profile_once_however_many_questions_it_was_asked():
    vectors = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 3.0]])
    found = profile_distances(vectors, np.array([0, 1, 1, 2]), np.array([0, 0, 0, 1]), np.array([0, 1]))
    np.testing.assert_allclose(found[0, 1], np.hypot(3, 3))


def test_mantel_is_the_spearman_correlation_and_its_p_value_is_of_permuted_groups():
    """Five groups have 120 orders: all of them by hand, against many drawn ones."""
    rng = np.random.default_rng(3)
    points = rng.normal(size=(5, 2))
    one, other = (squareform(pdist(points + rng.normal(size=(5, 2)) * 0.4)) for _ in range(2))
    upper = np.triu_indices(5, 1)
    found = mantel(one, other, seed=0, permutations=4000)
    assert found["rho"] == pytest.approx(spearmanr(one[upper], other[upper]).statistic)
    every = [
        spearmanr(one[upper], other[np.ix_(order, order)][upper]).statistic
        for order in map(list, itertools.permutations(range(5)))
    ]
    assert found["p"] == pytest.approx(np.mean(np.array(every) >= found["rho"] - 1e-9), abs=0.02)
    assert (found["groups"], found["pairs"]) == (5, 10)
    assert mantel(one, other, seed=0, permutations=50) == mantel(one, other, seed=0, permutations=50)


def test_mantel_says_nothing_of_few_groups_or_of_equal_distances():
    three = squareform([1.0, 2.0, 3.0])
    assert mantel(three, three, 0, 9)["rho"] is None
    same = np.ones((5, 5)) - np.eye(5)
    assert mantel(same, squareform(np.arange(10.0)), 0, 9)["p"] is None


def test_classical_scaling_finds_points_again_up_to_a_turn():
    points = np.random.default_rng(0).normal(size=(7, 2)) * [3.0, 1.0]
    distances = squareform(pdist(points))
    found, share = classical_mds(distances)
    np.testing.assert_allclose(squareform(pdist(found)), distances, atol=1e-9)
    assert share == pytest.approx(1.0)
    np.testing.assert_allclose(turned_to(found, points - points.mean(0)), points - points.mean(0), atol=1e-9)
    assert np.array_equal(found, classical_mds(distances)[0])
    assert classical_mds(np.zeros((4, 4)))[1] == 0.0
