"""The choice objective against a slow twin. Shapes: B rows, O options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_twins import slopes

from cuma_jax.losses.choice import choice_sums

OPTIONS = np.array([2, 4, 3, 4])


def rows(seed=0):
    """Logits, targets that sum to 1 over each row's options, and weights with one row left out."""
    rng = np.random.default_rng(seed)
    target_BO = np.zeros((4, 4))
    for row, size in enumerate(OPTIONS):
        target_BO[row, :size] = rng.dirichlet(np.ones(size))
    return rng.normal(size=(4, 4)) * 2, target_BO, np.array([1.0, 1.0, 0.0, 2.5])


def slow_loss(logits_BO, target_BO, weight_B, loss):
    """One row at a time; the weighted sum."""
    total = 0.0
    for logits, target, weight, size in zip(logits_BO, target_BO, weight_B, OPTIONS, strict=True):
        p = np.exp(logits[:size]) / np.exp(logits[:size]).sum()
        if loss == "cross_entropy":
            total += weight * -sum(target[o] * np.log(p[o]) for o in range(size))
        else:
            steps = [(p[: o + 1].sum() - target[: o + 1].sum()) ** 2 for o in range(size)]
            total += weight * sum(steps) / (size - 1)
    return total


@pytest.mark.parametrize("loss", ["cross_entropy", "emd"])
def test_choice_loss_equals_the_slow_twin_in_values_and_gradients(loss):
    logits_BO, target_BO, weight_B = rows()

    def fast(x):
        args = (jnp.asarray(OPTIONS), jnp.asarray(target_BO, jnp.float32), jnp.asarray(weight_B, jnp.float32))
        found = choice_sums(x, *args, loss)["loss"]
        return found.total, found.count

    (total, size), grad = jax.jit(jax.value_and_grad(fast, has_aux=True))(jnp.asarray(logits_BO, jnp.float32))
    np.testing.assert_allclose(total, slow_loss(logits_BO, target_BO, weight_B, loss), rtol=1e-5)
    assert float(size) == weight_B.sum()
    expected = slopes(lambda x: slow_loss(x, target_BO, weight_B, loss), logits_BO)
    assert np.isfinite(grad).all()
    np.testing.assert_allclose(grad, expected, atol=1e-5)


def test_what_lies_past_the_options_never_matters():
    logits_BO, target_BO, weight_B = rows()
    wild_BO = np.where(np.arange(4)[None, :] < OPTIONS[:, None], logits_BO, 1e9)
    args = (jnp.asarray(OPTIONS), jnp.asarray(target_BO), jnp.asarray(weight_B), "cross_entropy")
    one, two = (choice_sums(jnp.asarray(x, jnp.float32), *args) for x in (logits_BO, wild_BO))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_accuracy_is_the_share_of_answers_on_the_likeliest_option():
    logits_BO, target_BO, weight_B = rows()
    args = (jnp.asarray(OPTIONS), jnp.asarray(target_BO, jnp.float32), jnp.asarray(weight_B, jnp.float32))
    found = choice_sums(jnp.asarray(logits_BO, jnp.float32), *args, "cross_entropy")["accuracy"]
    expected = sum(w * t[np.argmax(x[:n])] for x, t, w, n in zip(logits_BO, target_BO, weight_B, OPTIONS, strict=True))
    np.testing.assert_allclose(found.total, expected, rtol=1e-5)
