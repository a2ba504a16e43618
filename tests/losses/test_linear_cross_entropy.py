"""Cross-entropy in chunks against the whole table of logits. Shapes: B rows, S positions, D width, V vocabulary."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cuma_jax.losses import linear_cross_entropy as module
from cuma_jax.losses.linear_cross_entropy import CHUNK, linear_cross_entropy


def whole(h_BSD, unembed_VD, label_BS):
    logits_BSV = h_BSD @ unembed_VD.T
    logp_BSV = jax.nn.log_softmax(logits_BSV, axis=-1)
    loss_BS = -jnp.take_along_axis(logp_BSV, label_BS[..., None], axis=-1)[..., 0]
    return loss_BS, (jnp.argmax(logits_BSV, axis=-1) == label_BS).astype(jnp.float32)


@pytest.mark.parametrize("positions", [1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_chunks_equal_the_whole_table_in_values_and_gradients(positions, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", 2 * CHUNK)
    rng = np.random.default_rng(positions)
    h_BSD = jnp.asarray(rng.normal(size=(2, positions, 6)), jnp.float32)
    unembed_VD = jnp.asarray(rng.normal(size=(11, 6)), jnp.float32)
    label_BS = jnp.asarray(rng.integers(0, 11, (2, positions)))
    weight_BS = jnp.asarray(rng.uniform(size=(2, positions)), jnp.float32)

    def total(function, h, w):
        loss_BS, hit_BS = function(h, w, label_BS)
        return jnp.sum(loss_BS * weight_BS), (loss_BS, hit_BS)

    found, expected = (
        jax.jit(jax.value_and_grad(functools.partial(total, f), argnums=(0, 1), has_aux=True))(h_BSD, unembed_VD)
        for f in (linear_cross_entropy, whole)
    )
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, atol=2e-5)
