"""Attention with a prefix against a softmax written out, one query at a time.

Shapes: B batch, T tokens, H query heads, G key/value heads, K head width, P virtual tokens of the prefix.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cuma_jax.models.attention import attend

SEGMENT_BT = np.array([[0, 0, 0, 1, 1], [0, 1, 1, 1, 2]])


def drawn(virtual=3):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 5, heads, 4)) for heads in (4, 2, 2))
    return q, k, v, (rng.normal(size=(virtual, 2, 4)), rng.normal(size=(virtual, 2, 4)))


def slow(q_BTHK, k_BTGK, v_BTGK, prefix, segment_BT=None):
    """Every query by itself: the whole prefix, then the tokens before it of its own segment."""
    out = np.zeros_like(q_BTHK)
    group = q_BTHK.shape[2] // k_BTGK.shape[2]
    for b, t, h in np.ndindex(*q_BTHK.shape[:3]):
        seen = [s for s in range(t + 1) if segment_BT is None or segment_BT[b, s] == segment_BT[b, t]]
        keys = np.concatenate([prefix[0][:, h // group], k_BTGK[b, seen, h // group]])
        values = np.concatenate([prefix[1][:, h // group], v_BTGK[b, seen, h // group]])
        logits = keys @ q_BTHK[b, t, h] / np.sqrt(q_BTHK.shape[-1])
        weights = np.exp(logits - logits.max())
        out[b, t, h] = weights / weights.sum() @ values
    return out


@functools.partial(jax.jit, static_argnames="segments")
def fast(q, k, v, prefix, segments=False):
    return attend(q, k, v, "xla", jnp.asarray(SEGMENT_BT) if segments else None, prefix)


@pytest.mark.parametrize("segments", [False, True])
def test_every_token_sees_the_prefix_and_its_own_past(segments):
    args = drawn()
    found = fast(*jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), args), segments=segments)
    expected = slow(*args, SEGMENT_BT if segments else None)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    without = slow(*args[:3], tuple(p[:0] for p in args[3]), SEGMENT_BT if segments else None)
    assert np.abs(expected - without).max() > 0.1


def test_a_prefix_of_no_tokens_is_no_prefix():
    args = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), drawn(virtual=0))
    np.testing.assert_allclose(fast(*args), fast(*args[:3], None), atol=1e-6)


def test_what_padding_holds_changes_no_token_before_it():
    q, k, v, prefix = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), drawn())
    wild = [x.at[:, 3:].set(1e4) for x in (q, k, v)]
    np.testing.assert_array_equal(fast(*wild, prefix)[:, :3], fast(q, k, v, prefix)[:, :3])
