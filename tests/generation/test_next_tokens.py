"""Temperature, top-k and top-p against a slow twin, and what a row's key decides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cuma_jax.config import SamplingConfig
from cuma_jax.generation.sampling import among_likeliest, next_tokens


def slow_twin(logits_V, top_k, top_p):
    """Which tokens may be drawn, one after the other from the likeliest."""
    order = sorted(range(len(logits_V)), key=lambda v: -logits_V[v])
    kept = order[:top_k] if top_k else order
    weights = [float(np.exp(np.float64(logits_V[v]) - np.float64(max(logits_V)))) for v in kept]
    total, chosen = 0.0, []
    for v, weight in zip(kept, weights, strict=True):
        if top_p < 1 and chosen and total >= top_p * sum(weights):
            break
        chosen.append(v)
        total += weight
    return set(chosen)


def test_top_k_and_top_p_keep_what_the_slow_twin_keeps():
    rng = np.random.default_rng(0)
    logits_BV = (rng.normal(size=(6, 50)) * np.array([0.1, 1, 1, 3, 10, 40])[:, None]).astype(np.float32)
    for top_k, top_p in ((0, 0.9), (0, 0.3), (7, 1.0), (7, 0.6), (1, 1.0), (50, 0.5), (99, 1.0), (0, 1e-6)):
        left_BV = np.asarray(jax.jit(among_likeliest, static_argnums=(1, 2))(logits_BV, top_k, top_p))
        for left_V, logits_V in zip(left_BV, logits_BV, strict=True):
            kept = np.isfinite(left_V)
            assert set(np.flatnonzero(kept)) == slow_twin(logits_V, top_k, top_p), (top_k, top_p)
            np.testing.assert_array_equal(left_V[kept], logits_V[kept])


def test_tokens_exactly_as_likely_as_the_last_one_kept_are_kept():
    logits_BV = jnp.array([[2.0, 1.0, 1.0, 1.0, 0.0]])
    assert np.isfinite(among_likeliest(logits_BV, 2, 1.0)).tolist() == [[True, True, True, True, False]]
    assert np.isfinite(among_likeliest(logits_BV, 0, 0.6)).tolist() == [[True, True, True, True, False]]


def test_draws_have_the_probabilities_of_the_temperature_and_log_probabilities_are_over_all_tokens():
    logits_V, size = jnp.array([1.0, 0.0, -1.0, 2.0]), 8000
    sampling = SamplingConfig(temperature=2.0, top_k=3)
    keys = jax.random.split(jax.random.key(0), size)
    token_B, logp_B = next_tokens(jnp.tile(logits_V[None], (size, 1)), keys, sampling)
    weight_V = np.exp(np.array([0.5, 0.0, -np.inf, 1.0]))
    share_V = np.bincount(token_B, minlength=4) / size
    np.testing.assert_allclose(share_V, weight_V / weight_V.sum(), atol=4 * 0.5 / size**0.5)
    whole_V = np.asarray(jax.nn.log_softmax(logits_V / 2.0))
    np.testing.assert_allclose(logp_B, whole_V[np.asarray(token_B)], rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_token_depends_on_its_own_row_and_key_only(temperature):
    logits_BV = jnp.asarray(np.random.default_rng(1).normal(size=(5, 30)), jnp.float32)
    keys, sampling = jax.random.split(jax.random.key(3), 5), SamplingConfig(temperature=temperature, top_p=0.95)
    together, logp_B = next_tokens(logits_BV, keys, sampling)
    turned, turned_logp_B = next_tokens(logits_BV[::-1], keys[::-1], sampling)
    np.testing.assert_array_equal(together, turned[::-1])
    np.testing.assert_array_equal(logp_B, turned_logp_B[::-1])
    if temperature == 0:
        np.testing.assert_array_equal(together, jnp.argmax(logits_BV, -1))
        np.testing.assert_allclose(logp_B, jax.nn.log_softmax(logits_BV).max(-1), rtol=1e-5)
