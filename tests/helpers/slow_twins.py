"""Slow twins that several tests compare with, in float64: gates of one token, and derivatives by differences."""

import jax
import numpy as np


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def gates_of_token(logits_E, gate, k):
    """One token: sort, pick, normalise; zero for what is not selected."""
    probability_E = softmax(logits_E)
    if gate == "soft":
        return probability_E
    best = np.argsort(-logits_E, kind="stable")[:k]
    gate_E = np.zeros_like(logits_E)
    gate_E[best] = {
        "softmax_topk": softmax(logits_E[best]),
        "double_softmax": softmax(probability_E[best]),
        "topk_unnormalised": probability_E[best],
    }[gate]
    return gate_E


def slopes(function, x, step=1e-6):
    """The gradient of `function` at the array `x`, one number at a time."""
    found = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        moved = np.zeros_like(x)
        moved[place] = step
        found[place] = (function(x + moved) - function(x - moved)) / (2 * step)
    return found


def assert_slopes(function, tree, grads, atol=1e-4):
    """`grads` are the gradients of `function` at a tree of arrays: in each leaf, along a random direction."""
    rng = np.random.default_rng(2)
    leaves, structure = jax.tree.flatten(tree)
    for i, (leaf, grad) in enumerate(zip(leaves, jax.tree.leaves(grads), strict=True)):
        direction, grad = rng.normal(size=leaf.shape), np.asarray(grad)
        ends = [
            function(structure.unflatten([*leaves[:i], leaf + step * direction, *leaves[i + 1 :]]))
            for step in (1e-6, -1e-6)
        ]
        size = max(float(np.linalg.norm(grad)), 1.0)
        np.testing.assert_allclose(np.sum(grad * direction) / size, (ends[0] - ends[1]) / 2e-6 / size, atol=atol)
