"""Cross-entropy of an unembedding, position by position, without ever holding the logits of all positions.

Logits of one chunk of positions are made, reduced to a loss and to the gradient of the hidden states, and dropped: the
gradient of `logsumexp(W h) - (W h)[label]` by h is `W^T softmax(W h) - W[label]`, which needs nothing else. So no
product is done twice, and memory is one chunk's.

Shapes: B rows, S positions of a row, D model width, V vocabulary, C positions of a chunk.
"""

import jax
import jax.numpy as jnp

CHUNK, CHUNK_ROWS = 32, 512
"""Positions of every row whose logits are held at once: the first, or with few rows as many as make the second in all
(each chunk reads the whole unembedding, which is most of the time on a small batch)."""


@jax.custom_vjp
def linear_cross_entropy(h_BSD: jax.Array, unembed_VD: jax.Array, label_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss and hit of every position.

    Args:
        h_BSD: hidden states after the final norm.
        unembed_VD: one row per token.
        label_BS: the tokens to predict.

    Returns:
        loss_BS float32 in nats, and hit_BS float32: 1 where the likeliest token is the label.
    """
    return _over_chunks(h_BSD, unembed_VD, label_BS, with_gradient=False)[:2]


def _forward(h_BSD: jax.Array, unembed_VD: jax.Array, label_BS: jax.Array) -> tuple[tuple[jax.Array, jax.Array], tuple]:
    loss_BS, hit_BS, slope_BSD = _over_chunks(h_BSD, unembed_VD, label_BS, with_gradient=True)
    return (loss_BS, hit_BS), (h_BSD, unembed_VD, label_BS, slope_BSD)


def _backward(saved: tuple, cotangents: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, None]:
    h_BSD, unembed_VD, label_BS, slope_BSD = saved
    loss_BS = cotangents[0][..., None]

    # Asked for only where the unembedding is trained; otherwise the compiler drops it. Logits are made anew, by chunks.
    @jax.checkpoint
    def of_chunk(w_VD: jax.Array, h_BCD: jax.Array, label_BC: jax.Array, scale_BC: jax.Array) -> jax.Array:
        logits_BCV = _logits(h_BCD, w_VD.astype(unembed_VD.dtype))
        picked_BC = jnp.take_along_axis(logits_BCV, label_BC[..., None], axis=-1)[..., 0]
        return jnp.sum((jax.nn.logsumexp(logits_BCV, axis=-1) - picked_BC) * scale_BC)

    def by_unembed(w_VD: jax.Array) -> jax.Array:
        parts = tuple(_chunks(x) for x in (h_BSD, label_BS, cotangents[0]))
        return jnp.sum(jax.lax.map(lambda part: of_chunk(w_VD, *part), parts))

    # The sum over chunks is in float32, whatever the weights are in.
    w_VD = jax.grad(by_unembed)(unembed_VD.astype(jnp.float32)).astype(unembed_VD.dtype)
    return (slope_BSD * loss_BS).astype(h_BSD.dtype), w_VD, None


linear_cross_entropy.defvjp(_forward, _backward)


def _logits(h_BSD: jax.Array, unembed_VD: jax.Array) -> jax.Array:
    return jnp.einsum("bsd,vd->bsv", h_BSD, unembed_VD, preferred_element_type=jnp.float32)


def _over_chunks(h_BSD: jax.Array, unembed_VD: jax.Array, label_BS: jax.Array, with_gradient: bool) -> tuple:
    positions = h_BSD.shape[1]

    def one(h_BCD: jax.Array, label_BC: jax.Array) -> tuple:
        logits_BCV = _logits(h_BCD, unembed_VD)
        best_BC = jnp.max(logits_BCV, axis=-1)
        picked_BC = jnp.take_along_axis(logits_BCV, label_BC[..., None], axis=-1)[..., 0]
        # Divided by its sum only after the product: the table of logits is passed over once less.
        e_BCV = jnp.exp(logits_BCV - best_BC[..., None])
        sum_BC = jnp.sum(e_BCV, axis=-1)
        loss_BC = jnp.log(sum_BC) + best_BC - picked_BC
        hit_BC = (picked_BC >= best_BC).astype(jnp.float32)
        if not with_gradient:
            return loss_BC, hit_BC
        mean_BCD = jnp.einsum(
            "bcv,vd->bcd", e_BCV.astype(unembed_VD.dtype), unembed_VD, preferred_element_type=jnp.float32
        )  # fmt: skip
        return loss_BC, hit_BC, mean_BCD / sum_BC[..., None] - unembed_VD[label_BC].astype(jnp.float32)

    if positions <= chunk_positions(len(h_BSD)):
        return one(h_BSD, label_BS)
    found = jax.lax.map(lambda part: one(*part), (_chunks(h_BSD), _chunks(label_BS)))
    return tuple(jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])[:, :positions] for x in found)


def chunk_positions(rows: int) -> int:
    """Positions of each of `rows` rows whose logits are held at once."""
    return max(CHUNK, CHUNK_ROWS // rows)


def _chunks(x: jax.Array) -> jax.Array:
    """[B,S,...] as [chunks,B,C,...], filled up with zeros."""
    size = min(chunk_positions(len(x)), x.shape[1])
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size), *((0, 0),) * (x.ndim - 2)))
    return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)
