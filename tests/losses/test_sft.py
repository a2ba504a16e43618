"""Supervised fine-tuning against a slow twin. Shapes: B rows, S supervised positions, V vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np
from slow_twins import slopes

from cuma_jax.losses.sft import sft_sums


def slow_loss(logits_BSV, label_BS, weight_BS):
    total = 0.0
    for i in np.ndindex(*label_BS.shape):
        shifted = logits_BSV[i] - logits_BSV[i].max()
        total -= weight_BS[i] * (shifted[label_BS[i]] - np.log(np.exp(shifted).sum()))
    return total


def test_sft_loss_equals_the_slow_twin_in_values_and_gradients():
    rng = np.random.default_rng(0)
    logits_BSV, label_BS = rng.normal(size=(3, 2, 5)) * 3, rng.integers(0, 5, (3, 2))
    weight_BS = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])

    def fast(x):
        sums = sft_sums(x, jnp.eye(5), jnp.asarray(label_BS), jnp.asarray(weight_BS, jnp.float32))
        return sums["loss"].total, sums

    (total, sums), grad = jax.jit(jax.value_and_grad(fast, has_aux=True))(jnp.asarray(logits_BSV, jnp.float32))
    np.testing.assert_allclose(total, slow_loss(logits_BSV, label_BS, weight_BS), rtol=1e-5)
    assert float(sums["loss"].count) == 3
    hits = (logits_BSV.argmax(-1) == label_BS) * weight_BS
    np.testing.assert_allclose(sums["accuracy"].mean(), hits.sum() / 3, rtol=1e-6)
    expected = slopes(lambda x: slow_loss(x, label_BS, weight_BS), logits_BSV)
    np.testing.assert_allclose(grad, expected, atol=1e-5)


def test_huge_logits_stay_finite():
    logits = jnp.array([[[1e4, 0.0, -1e4]]])
    sums = sft_sums(logits, jnp.eye(3), jnp.array([[2]]), jnp.ones((1, 1)))
    np.testing.assert_allclose(sums["loss"].mean(), 2e4, rtol=1e-5)
