"""Mutual information of group and expert, and loads, against a slow definition and planted routes."""

import itertools

import numpy as np
import pytest

from cuma_jax.analysis.routing import Routes, group_means, information_metrics, load_metrics, mutual_information


def random_routes(groups=4, questions=3, rows=60, seed=0):
    rng = np.random.default_rng(seed)
    gate = rng.dirichlet(np.ones(5), (rows, 2)).astype(np.float32)
    return Routes.of(rng.integers(-1, groups, rows), rng.integers(0, questions, rows), gate)


def test_mutual_information_is_its_definition_over_the_joint_distribution():
    routes = random_routes()
    question_S, _, gate_SLE = routes.cells()
    bits_L, bound_L, questions = mutual_information(question_S, gate_SLE)
    assert questions == 3
    for layer in range(2):
        by_question, bounds = [], []
        for q in range(3):
            groups = np.unique(routes.group_N[routes.question_N == q])
            joint = np.array([
                routes.gate_NLE[(routes.question_N == q) & (routes.group_N == g), layer].mean(0) / len(groups)
                for g in groups
            ])  # fmt: skip
            expert = joint.sum(0)
            by_question.append(sum(
                joint[g, e] * np.log2(joint[g, e] * len(groups) / expert[e])
                for g, e in itertools.product(range(len(groups)), range(5))
            ))  # fmt: skip
            bounds.append(min(np.log2(len(groups)), -(expert * np.log2(expert)).sum()))
        np.testing.assert_allclose(bits_L[layer], np.mean(by_question))
        np.testing.assert_allclose(bound_L[layer], np.mean(bounds))


def planted(own: bool):
    """Four groups of 20 rows, one question; each group has its own expert, or rows have any."""
    group = np.repeat(np.arange(4), 20)
    expert = group if own else np.random.default_rng(0).integers(0, 4, 80)
    return Routes.of(group, np.zeros(80, int), np.eye(4)[expert][:, None])


def test_own_experts_tell_all_there_is_to_tell_and_chance_tells_what_chance_tells():
    own = information_metrics(planted(True), seed=0, permutations=50)
    np.testing.assert_allclose([own["bits"], own["normalised"]], [2.0, 1.0])
    assert own["null_bits"] < 0.3
    assert own["p"] == 1 / 51
    chance = information_metrics(planted(False), seed=0, permutations=50)
    assert chance["p"] > 0.05
    assert abs(chance["bits"] - chance["null_bits"]) < 0.1
    assert (own["rows"], own["groups"], own["questions"]) == (80, 4, 1)


def test_groups_that_differ_only_in_what_they_were_asked_share_no_information():
    """The gate is the question's; two groups were asked mostly the one, two mostly the other."""
    question = np.concatenate([np.repeat([0, 1], [30, 10]), np.repeat([0, 1], [10, 30])] * 2)
    routes = Routes.of(np.repeat(np.arange(4), 40), question, np.eye(2)[question][:, None])
    assert information_metrics(routes, 0, 5)["bits"] == pytest.approx(0.0, abs=1e-12)


def test_two_groups_have_no_information_metrics():
    routes = Routes.of(np.array([0, 1]), np.zeros(2, int), np.ones((2, 1, 2)))
    assert information_metrics(routes, 0, 5) is None


def test_load_weighs_groups_equally_and_rows_of_no_group_are_left_out():
    group = np.array([0, 0, 0, 1, -1])
    gate = np.eye(2)[[0, 0, 0, 1, 1]][:, None] * 3.0  # gates that do not sum to one are scaled
    routes = Routes.of(group, np.zeros(5, int), gate)
    assert len(routes.group_N) == 4
    (layer,) = load_metrics(routes)
    assert layer == {"load": [0.5, 0.5], "load_entropy": 1.0, "row_entropy": 0.0}
    groups, mean_GLE = group_means(routes)
    np.testing.assert_array_equal(groups, [0, 1])
    np.testing.assert_array_equal(mean_GLE[:, 0], np.eye(2))
