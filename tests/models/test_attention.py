"""Attention with a prefix against a softmax written out, one query at a time.

Shapes: B batch, T tokens, H query heads, G key/value heads, K head width, P virtual tokens of the prefix.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cuma_jax.models import attention
from cuma_jax.models.attention import SHARED, attend, check_attention, cuda_capability, cudnn_refuses
from cuma_jax.runtime.errors import CumaError

SEGMENT_BT = np.array([[0, 0, 0, 1, 1], [SHARED, SHARED, 0, 1, 1]])


def drawn(virtual=3):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 5, heads, 4)) for heads in (4, 2, 2))
    return q, k, v, (rng.normal(size=(virtual, 2, 4)), rng.normal(size=(virtual, 2, 4)))


def slow(q_BTHK, k_BTGK, v_BTGK, prefix, segment_BT=None):
    """Every query by itself: the whole prefix, then the tokens before it of its own segment, or shared by all."""
    out = np.zeros_like(q_BTHK)
    group = q_BTHK.shape[2] // k_BTGK.shape[2]
    for b, t, h in np.ndindex(*q_BTHK.shape[:3]):
        seen = [s for s in range(t + 1) if segment_BT is None or segment_BT[b, s] in (segment_BT[b, t], SHARED)]
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


def test_what_padding_holds_changes_no_token_before_it():
    q, k, v, prefix = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), drawn())
    wild = [x.at[:, 3:].set(1e4) for x in (q, k, v)]
    np.testing.assert_array_equal(fast(*wild, prefix)[:, :3], fast(q, k, v, prefix)[:, :3])


AMPERE, HOPPER = (8, 6), (9, 0)


@pytest.mark.parametrize(
    ("dtype", "width", "masked", "capability", "reason"),
    [
        (jnp.bfloat16, 128, (), HOPPER, ""),
        (jnp.float16, 64, (96, 96), AMPERE, ""),
        (jnp.bfloat16, 256, (), HOPPER, ""),
        (jnp.bfloat16, 256, (), AMPERE, "at most 128 on this GPU; here they are 256"),
        (jnp.bfloat16, 60, (), HOPPER, "multiple of 8"),
        (jnp.bfloat16, 128, (97, 97), HOPPER, "even lengths"),
        (jnp.bfloat16, 128, (96, 99), HOPPER, "even lengths"),
        (jnp.float32, 128, (), HOPPER, "model.dtype bfloat16; here it is float32"),
        (jnp.bfloat16, 64, (), (7, 5), "Ampere"),
        (jnp.bfloat16, 64, (), None, "NVIDIA GPU"),
    ],
)
def test_where_cudnn_does_not_run(dtype, width, masked, capability, reason):
    found = cudnn_refuses(dtype, width, masked, capability)
    assert reason in found
    assert bool(reason) == bool(found)


@pytest.mark.parametrize(
    ("capability", "dtype", "options", "expected"),
    [
        (HOPPER, jnp.bfloat16, {}, "cudnn"),
        (HOPPER, jnp.float32, {}, "xla"),
        (None, jnp.bfloat16, {}, "xla"),
        (HOPPER, jnp.bfloat16, {"segment_BT": SEGMENT_BT}, "xla"),  # five tokens
        (HOPPER, jnp.bfloat16, {"segment_BT": SEGMENT_BT[:, :4], "length": 4}, "cudnn"),
        (HOPPER, jnp.bfloat16, {"prefix": True}, "xla"),
    ],
)
def test_auto_takes_the_kernel_that_runs(monkeypatch, capability, dtype, options, expected):
    taken = []

    def kernel(q, *_, implementation, **__):
        taken.append(implementation)
        return q

    monkeypatch.setattr(attention, "cuda_capability", lambda: capability)
    monkeypatch.setattr(jax.nn, "dot_product_attention", kernel)
    heads = jnp.zeros((2, options.pop("length", 5), 2, 8), dtype)
    prefix = (jnp.zeros((3, 2, 8)), jnp.zeros((3, 2, 8))) if options.pop("prefix", False) else None
    attend(heads, heads, heads, "auto", prefix=prefix, **options)
    assert taken == [expected]


def test_cudnn_without_a_gpu_is_one_message(monkeypatch):
    monkeypatch.setattr(attention, "cuda_capability", lambda: None)
    heads = jnp.zeros((1, 4, 2, 8), jnp.bfloat16)
    with pytest.raises(CumaError, match=r"model\.attention is 'cudnn', which needs an NVIDIA GPU; use auto or xla"):
        attend(heads, heads, heads, "cudnn")
    with pytest.raises(CumaError, match="needs an NVIDIA GPU"):
        check_attention("cudnn", jnp.bfloat16, 128)
    assert not check_attention("auto", jnp.bfloat16, 128)


@pytest.mark.skipif(
    cuda_capability() is None or cuda_capability() < (8, 0),
    reason="needs an NVIDIA GPU (Ampere or newer): JAX_PLATFORMS=cuda pytest -n 0 tests/models/test_attention.py",
)
@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("segments", [False, True])
def test_cudnn_equals_xla(width, segments):
    """Values and gradients in bfloat16, against xla in float32 on the same numbers."""
    rng = np.random.default_rng(0)
    q, k, v, c = (jnp.asarray(rng.normal(size=(2, 96, heads, width)), jnp.bfloat16) for heads in (4, 2, 2, 4))
    segment_BT = jnp.asarray(np.repeat([[0, 1, 2], [0, 0, 1]], 32, axis=1), jnp.int32) if segments else None

    def both(kernel, dtype):
        run = jax.jit(lambda *args: jax.vjp(lambda q, k, v: attend(q, k, v, kernel, segment_BT), *args[:3]))
        out, pull = run(*(x.astype(dtype) for x in (q, k, v)))
        return out, *pull(c.astype(dtype))

    for found, expected in zip(both("cudnn", jnp.bfloat16), both("xla", jnp.float32), strict=True):
        expected = np.asarray(expected)
        np.testing.assert_allclose(np.asarray(found, np.float32), expected, atol=2e-2 * np.abs(expected).max())
    assert "fmha" in jax.jit(lambda: attend(q, k, v, "auto", segment_BT)).lower().as_text()
