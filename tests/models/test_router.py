"""The router's gates against slow twins. Shapes: B batch, T tokens, I input width, C profile width, E experts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from slow_twins import gates_of_token, slopes, softmax

from cuma_jax.config import RouterConfig
from cuma_jax.models.router import Router, gate_weights, top_k_mask

GATES = ("softmax_topk", "double_softmax", "topk_unnormalised", "soft")


def test_top_k_mask_selects_what_a_stable_argsort_selects():
    # Few distinct values: nearly every row has ties.
    logits_NE = np.random.default_rng(0).integers(0, 3, (500, 8)).astype(np.float32)
    for k in range(1, 9):
        best_NK = np.argsort(-logits_NE, axis=-1, kind="stable")[:, :k]
        expected = np.zeros_like(logits_NE, bool)
        np.put_along_axis(expected, best_NK, True, axis=-1)
        np.testing.assert_array_equal(top_k_mask(jnp.asarray(logits_NE), k), expected)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("gate", GATES)
def test_gate_equals_the_slow_twin_and_is_exactly_zero_off_the_selection(gate, k):
    logits_NE = np.random.default_rng(1).normal(size=(40, 5)) * 2
    logits_NE[0] = 0.0  # all tied
    found, probability, mask = map(np.asarray, gate_weights(jnp.asarray(logits_NE, jnp.float32), gate, k))
    np.testing.assert_allclose(found, [gates_of_token(s, gate, k) for s in logits_NE], atol=1e-6)
    np.testing.assert_allclose(probability, [softmax(s) for s in logits_NE], atol=1e-6)
    assert (found[~mask] == 0.0).all()
    assert (mask.sum(-1) == (5 if gate == "soft" else k)).all()


@pytest.mark.parametrize("gate", GATES)
def test_gate_gradient_equals_finite_differences(gate):
    rng = np.random.default_rng(2)
    logits_E, weight_E = rng.normal(size=6), rng.normal(size=6)

    def fast(x):
        return jnp.sum(jnp.asarray(weight_E, jnp.float32) * gate_weights(x, gate, 2)[0])

    expected = slopes(lambda x: weight_E @ gates_of_token(x, gate, 2), logits_E)
    found = jax.grad(fast)(jnp.asarray(logits_E, jnp.float32))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def make(config, width=7, profile_width=5, experts=4, tokens=6):
    rng = np.random.default_rng(4)
    x_BTI = jnp.asarray(rng.normal(size=(3, tokens, width)), jnp.float32)
    profile_BC = jnp.asarray(rng.normal(size=(3, profile_width)), jnp.float32)
    valid_BT = jnp.arange(tokens)[None, :] < jnp.array([6, 2, 4])[:, None]
    router = Router(config, experts, "embed")
    shapes = jax.eval_shape(lambda key: router.init(key, x_BTI, profile_BC, valid_BT, True), jax.random.key(0))
    variables = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), jnp.float32), nn.meta.unbox(shapes))
    return router, variables, x_BTI, profile_BC, valid_BT


def apply(router, variables, x_BTI, profile_BC, valid_BT):
    return jax.jit(functools.partial(router.apply, deterministic=True))(variables, x_BTI, profile_BC, valid_BT)


def test_profile_only_routing_gives_one_gate_a_sequence_that_ignores_the_text():
    router, variables, x_BTI, profile_BC, valid_BT = make(RouterConfig(inputs="profile", hidden_dim=9))
    gate_BTE, stats = apply(router, variables, x_BTI, profile_BC, valid_BT)
    assert gate_BTE.shape == (3, 1, 4)
    np.testing.assert_array_equal(gate_BTE, apply(router, variables, 3 - x_BTI, profile_BC, valid_BT)[0])
    # The one gate stands for every valid token in the sums.
    assert float(stats.count) == 12
    np.testing.assert_allclose(stats.gate_BE, np.asarray(gate_BTE)[:, 0] * np.array([[6], [2], [4]]), rtol=1e-6)


def test_a_router_that_sees_profiles_refuses_to_run_without_them():
    router, variables, x_BTI, _, valid_BT = make(RouterConfig(hidden_dim=9))
    with pytest.raises(ValueError, match="no profile vectors"):
        apply(router, variables, x_BTI, None, valid_BT)


def test_gates_are_float32_for_a_bfloat16_model():
    router, variables, x_BTI, profile_BC, valid_BT = make(RouterConfig(hidden_dim=9))
    gate_BTE, stats = apply(router, variables, x_BTI.astype(jnp.bfloat16), profile_BC, valid_BT)
    assert gate_BTE.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((stats, variables)))


def test_temperature_divides_the_logits_of_gate_and_sums():
    router, variables, *args = make(RouterConfig(layers=1, gate="soft", temperature=0.25))
    four_times = jax.tree.map(lambda w: 4 * w, variables)
    plain = Router(RouterConfig(layers=1, gate="soft"), 4, "embed")
    found, expected = apply(router, variables, *args), apply(plain, four_times, *args)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found, expected)
    assert np.abs(found[0] - apply(plain, variables, *args)[0]).max() > 0.1


@pytest.mark.slow
def test_profile_scale_multiplies_how_loud_the_profile_starts():
    def start(scale):
        router, _, x_BTI, profile_BC, valid_BT = make(RouterConfig(hidden_dim=64, profile_scale=scale))
        return nn.meta.unbox(router.init({"adapters": jax.random.key(0)}, x_BTI, profile_BC, valid_BT, True))[
            "adapters"
        ]

    one, three, silent = start(1.0), start(3.0), start(0.0)
    np.testing.assert_allclose(np.std(one["profile_0"]), 5**-0.5, rtol=0.1)
    np.testing.assert_allclose(three["profile_0"], 3 * one["profile_0"], rtol=1e-6)
    assert (np.asarray(silent["profile_0"]) == 0).all()
    np.testing.assert_array_equal(three["hidden_0"], one["hidden_0"])
