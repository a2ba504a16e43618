"""Predictions for several orders of the options, mapped back to the order that the survey lists."""

import dataclasses

import numpy as np
import pytest
from conftest import changed

from cuma_jax.evaluation.metrics.distances import total_variation
from cuma_jax.evaluation.surveys.option_orders import (
    in_listed_order,
    option_orders,
    reordered,
    reordered_layout,
    sensitivity,
)
from cuma_jax.evaluation.surveys.prediction import predict


def test_orders_are_listed_reversed_then_random_and_leave_places_past_the_size():
    orders = option_orders([4, 2, 3], 4, seed=0)
    np.testing.assert_array_equal(orders[0], [[0, 1, 2, 3]] * 3)
    np.testing.assert_array_equal(orders[1], [[3, 2, 1, 0], [1, 0, 2, 3], [2, 1, 0, 3]])
    for order_QO in orders:
        assert (np.sort(order_QO, -1) == np.arange(4)).all()
        assert (order_QO[1, 2:] == [2, 3]).all()
    np.testing.assert_array_equal(orders[3], option_orders([4, 2, 3], 4, seed=0)[3])
    many = [option_orders([10], 3, seed)[2].tolist() for seed in range(5)]
    assert len({str(order) for order in many}) == 5


def test_a_reordered_survey_has_the_same_answers(debug_run):
    survey = debug_run.survey
    order_QO = option_orders([len(q.options) for q in survey.questions], 3, seed=1)[2]
    other = reordered(survey, order_QO)
    assert [q.options for q in other.questions] != [q.options for q in survey.questions]
    for a in range(0, survey.num_answers, 37):
        for field in ("options", "codes"):
            before, after = (getattr(s.questions[s.question_A[a]], field)[s.option_A[a]] for s in (survey, other))
            assert before == after


def test_mapping_back_undoes_an_order():
    rng = np.random.default_rng(0)
    order_NO = option_orders([5] * 6, 3, seed=0)[2]
    probs_NO = rng.dirichlet(np.ones(5), 6)
    shown_NO = np.take_along_axis(probs_NO, order_NO, axis=-1)
    np.testing.assert_array_equal(in_listed_order(shown_NO, order_NO), probs_NO)


def test_sensitivity_is_over_all_pairs_of_orders():
    a, b, c = np.array([[[0.6, 0.4], [0.5, 0.5]], [[0.4, 0.6], [0.5, 0.5]], [[0.6, 0.4], [0.2, 0.8]]])
    found = sensitivity([a, b, c])
    pairs = [total_variation(x, y).mean() for x, y in ((a, b), (a, c), (b, c))]
    assert found == {"orders": 3, "rows": 2, "total_variation": pytest.approx(np.mean(pairs)),
                     "flips": pytest.approx(np.mean([0.5, 0.5, 1.0]))}  # fmt: skip


@pytest.mark.slow
def test_predictions_of_two_orders_are_the_mean_of_the_survey_and_its_mirror(debug_run, random_adapters):
    """The mirror is predicted as a survey of its own, its options turned round by hand."""
    survey, adapters = debug_run.survey, random_adapters(debug_run)
    question_N = np.repeat(np.arange(len(survey.questions), dtype=np.int32), 3)
    profile_N = np.tile(np.arange(3, dtype=np.int32), len(survey.questions))
    plain = predict(debug_run, adapters, profile_N, question_N)
    listed_NO = plain.probs_NO
    assert plain.sensitivity is None

    sizes = [len(q.options) for q in survey.questions]
    mirror = dataclasses.replace(debug_run, prediction=reordered_layout(debug_run, option_orders(sizes, 2, 0)[1]))
    mirror_NO = predict(mirror, adapters, profile_N, question_N).probs_NO
    back_NO = np.zeros_like(mirror_NO)
    for n, q in enumerate(question_N):
        back_NO[n, : sizes[q]] = mirror_NO[n, : sizes[q]][::-1]

    two_orders = dataclasses.replace(debug_run, config=changed(debug_run.config, evaluation={"option_orders": 2}))
    both = predict(two_orders, adapters, profile_N, question_N)
    np.testing.assert_allclose(both.probs_NO, (listed_NO + back_NO) / 2, atol=1e-6)
    assert both.sensitivity["total_variation"] == pytest.approx(total_variation(listed_NO, back_NO).mean(), abs=1e-6)
    assert both.sensitivity["total_variation"] > 0.01, "a model of random weights leans on letters"
    assert mirror.prediction.tokens.templates[0].tolist() != debug_run.prediction.tokens.templates[0].tolist()
