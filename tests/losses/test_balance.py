"""The load-balancing loss against a slow twin over tokens. Shapes: B batch, T tokens, I width, C profile, E experts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_twins import assert_slopes, gates_of_token, softmax

from cuma_jax.config import RouterConfig
from cuma_jax.losses.balance import RouterSums, balance_loss, router_sums, router_z_loss
from cuma_jax.models.router import Router

VALID = np.arange(5)[None, :] < np.array([5, 2, 3])[:, None]
EXPERTS, TOP_K = 4, 2


def slow_parts(s_BTE):
    """Logits of one router to (selections, full softmax, gate, squared log-sum-exp) of each valid token."""
    chosen, probability, gate, z = [], [], [], []
    for s_E in s_BTE[VALID]:
        gate.append(gates_of_token(s_E, "double_softmax", TOP_K)), chosen.append(gate[-1] > 0)
        probability.append(softmax(s_E)), z.append(np.log(np.exp(s_E).sum()) ** 2)
    return map(np.array, (chosen, probability, gate, z))


def slow_balance(routers, form):
    losses = []
    for s_BTE in routers:
        chosen, probability, gate, _ = slow_parts(s_BTE)
        f_E, p_E = chosen.mean(0) / TOP_K, (probability if form == "switch" else gate).mean(0)
        losses.append(EXPERTS * sum(f_E[e] * p_E[e] for e in range(EXPERTS)))
    return np.mean(losses) if form == "switch" else np.sum(losses)


def logits(seed=0):
    """Logits of three routers [3,B,T,E]; padding holds nonsense."""
    s = np.random.default_rng(seed).normal(size=(3, 3, 5, EXPERTS)) * 1.5
    return np.where(VALID[None, ..., None], s, 77.0)


def sums_of(s_NBTE):
    """Two routers of one group (stacked as layers) and one of another, through a Router that passes logits on."""
    # A linear router with an identity kernel: its logits are its input.
    router = Router(RouterConfig(inputs="hidden", layers=1, gate="double_softmax", top_k=TOP_K), EXPERTS, "embed")
    adapters = {"hidden_0": jnp.eye(EXPERTS), "bias_0": jnp.zeros(EXPERTS)}

    def one(s_BTE):
        return router.apply({"adapters": adapters}, s_BTE, None, jnp.asarray(VALID), True)[1]

    stacked = jax.vmap(one)(s_NBTE[:2])
    return router_sums({"a": {"router": stacked}, "b": {"router": jax.vmap(one)(s_NBTE[2:])}})


@pytest.mark.parametrize("form", ["switch", "reference"])
def test_balance_equals_the_slow_twin_in_values_and_gradients(form):
    s_NBTE = logits()

    def fast(x):
        return balance_loss(sums_of(x), form)

    found, grad = jax.jit(jax.value_and_grad(fast))(jnp.asarray(s_NBTE, jnp.float32))
    np.testing.assert_allclose(found, slow_balance(s_NBTE, form), rtol=1e-5)
    grad = np.asarray(grad)
    assert (grad[:, ~VALID] == 0).all()
    assert_slopes(lambda x: slow_balance(x, form), s_NBTE, grad, atol=1e-5)


def test_z_loss_equals_the_slow_twin():
    s_NBTE = logits()
    expected = np.mean([list(slow_parts(s))[3].mean() for s in s_NBTE])
    np.testing.assert_allclose(
        jax.jit(lambda s: router_z_loss(sums_of(s)))(jnp.asarray(s_NBTE, jnp.float32)), expected, rtol=1e-5
    )


def uniform(experts=8, layers=3, tokens=40.0):
    share = jnp.full((layers, experts), tokens / experts)
    count = jnp.full((layers,), tokens)
    return {"a/router": RouterSums(share, share, share, jnp.zeros(layers), count)}


def test_the_official_loss_without_top_k_routing_is_a_constant():
    """It counts every expert as selected by gates that add up to 1: E/K of each router, whatever they do."""
    sharp = jnp.zeros((3, 8)).at[:, 2].set(40.0)
    collapsed = RouterSums(sharp, sharp, sharp, jnp.zeros(3), jnp.full((3,), 40.0))
    sums = {"a/router": collapsed, "b/router": uniform()["a/router"]}
    router = RouterConfig(gate="topk_unnormalised", top_k=2)
    np.testing.assert_allclose(balance_loss(sums, "reference", router), 6 * 8 / 2)
    assert float(balance_loss(sums, "switch", router)) == pytest.approx((3 * 8 + 3) / 6)


@pytest.mark.slow
def test_sums_of_parts_of_a_batch_add_up_to_the_sums_of_the_whole():
    s = jnp.asarray(logits(), jnp.float32)
    router = Router(RouterConfig(inputs="hidden", layers=1), EXPERTS, "embed")
    adapters = {"hidden_0": jnp.eye(EXPERTS), "bias_0": jnp.zeros(EXPERTS)}
    run = jax.jit(lambda s, valid: router.apply({"adapters": adapters}, s, None, valid, True)[1])
    whole = run(s[0], jnp.asarray(VALID))
    parts = [run(s[0, r : r + 1], jnp.asarray(VALID[r : r + 1])) for r in range(3)]
    for name in ("selected_E", "probability_E", "gate_E", "z", "count"):
        np.testing.assert_allclose(sum(getattr(p, name) for p in parts), getattr(whole, name), rtol=1e-5)


def test_without_routers_there_is_no_balance_loss():
    assert float(balance_loss({}, "switch")) == float(router_z_loss({})) == 0.0
