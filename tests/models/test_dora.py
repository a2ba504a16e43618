"""DoRA against its definition in float64, values and gradients; PEFT's numbers are in test_peft_folder.py.

Shapes: B batch, T tokens, I input width, O output width, R rank.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_twins import assert_slopes

from cuma_jax.config import AdapterConfig
from cuma_jax.models.dora import Dora, relative_norm

OUTPUTS = {"q": (6, "heads"), "v": (5, "kv_heads")}
ADAPTER = AdapterConfig(kind="dora", experts=1, rank=3, alpha=5.0)


def drawn(seed=0):
    """Input [B,T,I], frozen weights, and adapters in which nothing is zero."""
    rng = np.random.default_rng(seed)
    x_BTI = rng.normal(size=(2, 4, 8))
    weights = {name: rng.normal(size=(8, out)) for name, (out, _) in OUTPUTS.items()}
    adapters = {}
    for name, (out, _) in OUTPUTS.items():
        shapes = {f"{name}_a": (8, 3), f"{name}_b": (3, out), f"{name}_magnitude": (out,)}
        adapters |= {k: rng.normal(size=shape) * 0.5 for k, shape in shapes.items()}
    return x_BTI, weights, adapters


def norms(weights, adapters, scale):
    return {n: np.linalg.norm(w + scale * adapters[f"{n}_a"] @ adapters[f"{n}_b"], axis=0) for n, w in weights.items()}


def slow(x_BTI, weights, adapters, scale, norm):
    """x times m (W + s A B) / norm: the norm is given, so that a derivative takes it as a constant."""
    y = {}
    for name, w_IO in weights.items():
        magnitude_O = np.linalg.norm(w_IO, axis=0) * (1 + adapters[f"{name}_magnitude"])
        y[name] = x_BTI @ (magnitude_O * (w_IO + scale * adapters[f"{name}_a"] @ adapters[f"{name}_b"]) / norm[name])
    return y


def fast(adapter, x_BTI, weights, adapters, deterministic=True, rngs=None):
    x_BTI = jnp.asarray(x_BTI, jnp.float32)
    weights = {name: jnp.asarray(w, jnp.float32) for name, w in weights.items()}
    frozen = {name: (w, x_BTI @ w) for name, w in weights.items()}
    added = Dora(adapter, OUTPUTS, "embed").apply({"adapters": adapters}, x_BTI, frozen, deterministic, rngs=rngs)
    return {name: frozen[name][1] + added[name] for name in OUTPUTS}


@pytest.mark.parametrize("scaling", ["rank", "sqrt_rank"])
def test_values_and_gradients_are_those_of_the_definition_with_the_norm_held_constant(scaling):
    adapter = dataclasses.replace(ADAPTER, scaling=scaling)
    scale = 5.0 / (3 if scaling == "rank" else np.sqrt(3))
    x_BTI, weights, adapters = drawn()
    rng = np.random.default_rng(1)
    weight = {name: rng.normal(size=(2, 4, out)) for name, (out, _) in OUTPUTS.items()}

    def loss(x_BTI, adapters):
        y = fast(adapter, x_BTI, weights, adapters)
        return sum(jnp.sum(y[n] * jnp.asarray(weight[n], jnp.float32)) for n in OUTPUTS), y

    args = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (x_BTI, adapters))
    (_, y), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(*args)
    norm = norms(weights, adapters, scale)
    expected = slow(x_BTI, weights, adapters, scale, norm)
    for name in OUTPUTS:
        np.testing.assert_allclose(y[name], expected[name], atol=2e-5, rtol=2e-5)

    def slow_loss(args):
        y = slow(args[0], weights, args[1], scale, norm)
        return sum(float(np.sum(y[n] * weight[n])) for n in OUTPUTS)

    assert_slopes(slow_loss, (x_BTI, adapters), grads)


def test_the_relative_norm_is_exactly_one_without_b_and_right_with_it():
    _, weights, adapters = drawn()
    w, a, b = (jnp.asarray(v, jnp.float32) for v in (weights["q"], adapters["q_a"], adapters["q_b"]))
    np.testing.assert_array_equal(relative_norm(w, a, jnp.zeros_like(b), 1.7), 1.0)
    dead = w.at[:, 2].set(0.0)  # an output that the base has pruned
    np.testing.assert_array_equal(relative_norm(dead, a, jnp.zeros_like(b), 1.7), 1.0)
    expected = np.linalg.norm(w + 1.7 * a @ b, axis=0) / np.linalg.norm(w, axis=0)
    np.testing.assert_allclose(relative_norm(w, a, b, 1.7), expected, rtol=1e-5)
    vanished = relative_norm(jnp.ones((2, 1)), jnp.ones((2, 1)), -jnp.ones((1, 1)), 1.0)
    assert np.isfinite(1 / vanished).all()


def test_dropout_falls_on_the_low_rank_part_alone():
    x_BTI, weights, adapters = drawn()
    adapter = dataclasses.replace(ADAPTER, dropout=0.5)
    no_b = adapters | {f"{name}_b": np.zeros_like(adapters[f"{name}_b"]) for name in OUTPUTS}

    def run(adapters, deterministic, seed=0):
        return fast(adapter, x_BTI, weights, adapters, deterministic, {"dropout": jax.random.key(seed)})["q"]

    np.testing.assert_array_equal(run(no_b, False), run(no_b, True))
    assert not np.array_equal(run(adapters, False, 0), run(adapters, False, 1))
    np.testing.assert_array_equal(run(adapters, True, 0), run(adapters, True, 1))
