"""The learning rate follows the run's real number of steps; clipping is on the global norm."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cuma_jax.config import OptimizerConfig
from cuma_jax.training.optimizer import make_optimizer, make_schedule


@pytest.mark.parametrize("steps", [40, 10_000])
@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_the_learning_rate_peaks_after_warmup_and_ends_near_zero(kind, steps):
    config = OptimizerConfig(learning_rate=0.1, schedule=kind, warmup=0.05)
    warmup, schedule = round(0.05 * steps), jax.jit(make_schedule(config, steps))
    rate = np.asarray(schedule(jnp.arange(steps + 1)))
    assert 0 < float(schedule(0)) <= 0.1
    np.testing.assert_allclose(float(schedule(warmup)), 0.1, rtol=1e-6)
    assert rate.max() <= 0.1 + 1e-7
    assert (np.diff(rate[:warmup]) >= 0).all()
    if kind == "constant":
        np.testing.assert_allclose(float(schedule(steps - 1)), 0.1, rtol=1e-6)
    else:
        # The last update is number steps - 1: a sliver is left, at `steps` nothing.
        assert float(schedule(steps - 1)) < 0.1 * 2 / (steps - warmup)
        np.testing.assert_allclose(float(schedule(steps)), 0, atol=1e-8)


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 1), (0.0, 2), (0.0, 10), (0.1, 10)])
def test_without_warmup_or_with_one_step_of_it_the_first_step_has_the_peak(warmup, steps):
    schedule = make_schedule(OptimizerConfig(learning_rate=0.1, warmup=warmup), steps)
    np.testing.assert_allclose(float(schedule(0)), 0.1, rtol=1e-6)


def first_update(config, grad):
    optimizer = make_optimizer(config, optax.constant_schedule(1.0))
    params = {"w": jnp.ones_like(grad)}
    return optimizer.update({"w": grad}, optimizer.init(params), params)


def test_clipping_bounds_the_global_norm_before_adam():
    grad = jnp.array([30.0, 40.0])
    _, state = first_update(OptimizerConfig(clip=1.0, b1=0.9), grad)
    moments = optax.tree_utils.tree_get(state, "mu")["w"]
    np.testing.assert_allclose(moments, 0.1 * grad / 50.0, rtol=1e-5)
    _, state = first_update(OptimizerConfig(clip=0.0, b1=0.9), grad)
    np.testing.assert_allclose(optax.tree_utils.tree_get(state, "mu")["w"], 0.1 * grad, rtol=1e-5)


def test_weight_decay_is_decoupled():
    updates, _ = first_update(OptimizerConfig(weight_decay=0.5, clip=0.0), jnp.array([0.0, 0.0]))
    np.testing.assert_allclose(updates["w"], -0.5, rtol=1e-6)


ADAPTERS = {
    "adapted_layers": {"q_k_v_experts": {"q_a": 1.0, "router": {"bias_0": 1.0}, "v_router": {"hidden_0": 1.0}}},
    "projection": {"kernel_0": 1.0},
}


def test_routers_and_projection_may_learn_at_a_rate_of_their_own():
    """Decay included; the rest as before."""
    params = jax.tree.map(lambda x: jnp.full((2,), x), ADAPTERS)
    grads = jax.tree.map(lambda x: x * 0.3, params)

    def update(rate, clip):
        config = OptimizerConfig(router_rate=rate, weight_decay=0.1, clip=clip)
        optimizer = make_optimizer(config, optax.constant_schedule(0.01))
        return optimizer.update(grads, optimizer.init(params), params)[0]

    for clip in (0.0, 1.0):
        expected, found = update(1.0, clip), update(5.0, clip)
        expected["projection"] = jax.tree.map(lambda u: 5 * u, expected["projection"])
        group = expected["adapted_layers"]["q_k_v_experts"]
        group |= {name: jax.tree.map(lambda u: 5 * u, group[name]) for name in ("router", "v_router")}
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_without_a_rate_of_their_own_the_state_is_that_of_earlier_checkpoints(clip):
    params = jax.tree.map(lambda x: jnp.full((2,), x), ADAPTERS)
    adamw = optax.adamw(optax.constant_schedule(1e-3))
    before = optax.chain(optax.clip_by_global_norm(1.0), adamw) if clip else adamw
    now = make_optimizer(OptimizerConfig(clip=clip), optax.constant_schedule(1e-3))
    assert jax.tree.structure(now.init(params)) == jax.tree.structure(before.init(params))
