"""Experts against a loop over tokens and selected experts in float64, values and gradients.

Shapes: B batch, T tokens, I input width, O output width, C profile width, E experts, R rank.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from slow_twins import assert_slopes, gates_of_token

from cuma_jax.config import AdapterConfig, RouterConfig
from cuma_jax.models.experts import Experts

OUTPUTS = {"q": (6, "heads"), "v": (5, "kv_heads")}
ADAPTER = AdapterConfig(experts=4, rank=3, alpha=5.0)
ROUTER = RouterConfig(hidden_dim=7)


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    valid_BT = np.arange(4)[None, :] < np.array([4, 2])[:, None]
    return rng.normal(size=(2, 4, 8)), rng.normal(size=(2, 5)), valid_BT


def make(adapter=ADAPTER, router=ROUTER, outputs=OUTPUTS, seed=1):
    """The module and adapters in which nothing is zero (a fresh B would hide A and the gates)."""
    module = Experts(adapter, router, outputs, "embed")
    x_BTI, profile_BC, valid_BT = inputs()
    args = [jnp.asarray(a, jnp.float32) for a in (x_BTI, profile_BC)]
    shapes = jax.eval_shape(lambda key: module.init(key, *args, jnp.asarray(valid_BT), True), jax.random.key(0))
    adapters = nn.meta.unbox(shapes["adapters"])
    rng = np.random.default_rng(seed)
    return module, jax.tree.map(lambda w: rng.normal(size=w.shape) * 0.5, adapters)


def slow_router(w, x_I, profile_C, config):
    seen = [(n, v) for n, v in (("hidden", x_I), ("profile", profile_C)) if n in config.inputs]
    s = np.concatenate([v for _, v in seen]) @ np.concatenate([w[f"{n}_0"] for n, _ in seen]) + w["bias_0"]
    for layer in range(1, config.layers):
        s = np.maximum(s, 0) @ w[f"hidden_{layer}"] + w[f"bias_{layer}"]
    return s


def slow_experts(adapters, x_BTI, profile_BC, adapter, router, outputs=OUTPUTS):
    """y = scale * sum over the selected experts of g_e B_e A_e x, one token at a time."""
    scale = adapter.alpha / (adapter.rank if adapter.scaling == "rank" else np.sqrt(adapter.rank))
    y = {name: np.zeros((*x_BTI.shape[:2], out)) for name, (out, _) in outputs.items()}
    for name in outputs:
        a_IER, b_ERO = adapters[f"{name}_a"], adapters[f"{name}_b"]
        for b, t in np.ndindex(*x_BTI.shape[:2]):
            x_I = x_BTI[b, t]
            if router.inputs == "none":
                selected = {0: 1.0}
            else:
                weights = adapters["router" if router.shared else f"{name}_router"]
                s_E = slow_router(weights, x_I, profile_BC[b], router)
                selected = dict(enumerate(gates_of_token(s_E, router.gate, router.top_k)))
            for e, gate in selected.items():
                a_IR = a_IER[:, 0 if adapter.shared_a else e]
                y[name][b, t] += scale * gate * (x_I @ a_IR) @ b_ERO[e]
    return y


def variant(adapter=None, router=None):
    return dataclasses.replace(ADAPTER, **(adapter or {})), dataclasses.replace(ROUTER, **(router or {}))


CASES = {
    "cuma": variant(),
    "double_softmax_shared_a": variant({"shared_a": True}, {"gate": "double_softmax"}),
    "topk_unnormalised_one_router_a_linear": variant(None, {"gate": "topk_unnormalised", "shared": False}),
    "hydralora": variant({"shared_a": True}, {"gate": "soft", "inputs": "hidden"}),
    "profile_only": variant(None, {"inputs": "profile"}),
    "profile_only_soft_unshared": variant(None, {"inputs": "profile", "gate": "soft", "shared": False}),
    "linear_router_top_three": variant(None, {"layers": 1, "top_k": 3}),
    "three_layer_router": variant(None, {"layers": 3, "top_k": 1, "gate": "double_softmax"}),
    "lora": variant({"experts": 1}, {"inputs": "none", "top_k": 1}),
    "rslora": variant({"experts": 1, "scaling": "sqrt_rank"}, {"inputs": "none", "top_k": 1}),
    "rslora_experts": variant({"scaling": "sqrt_rank"}),
}


FAST = ("cuma", "double_softmax_shared_a", "hydralora", "profile_only_soft_unshared", "lora")


@pytest.mark.parametrize("case", [c if c in FAST else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_dense_form_equals_a_loop_over_selected_experts_in_values_and_gradients(case):
    adapter, router = CASES[case]
    module, adapters = make(adapter, router)
    x_BTI, profile_BC, valid_BT = inputs()
    rng = np.random.default_rng(2)
    weight = {name: rng.normal(size=(2, 4, out)) for name, (out, _) in OUTPUTS.items()}

    def fast(args):
        added, _ = module.apply({"adapters": args["adapters"]}, args["x"], args["profile"], jnp.asarray(valid_BT), True)
        return sum(jnp.sum(added[n] * jnp.asarray(weight[n], jnp.float32)) for n in OUTPUTS), added

    def slow(args):
        added = slow_experts(args["adapters"], args["x"], args["profile"], adapter, router)
        return sum(float(np.sum(added[n] * weight[n])) for n in OUTPUTS)

    args = {"adapters": adapters, "x": x_BTI, "profile": profile_BC}
    args32 = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), args)
    (_, added), grads = jax.jit(jax.value_and_grad(fast, has_aux=True))(args32)
    expected = slow_experts(adapters, x_BTI, profile_BC, adapter, router)
    for name in OUTPUTS:
        np.testing.assert_allclose(added[name], expected[name], atol=2e-5)
    assert_slopes(slow, args, grads)


def test_fresh_experts_add_exactly_zero_and_a_is_within_its_bound():
    module = Experts(ADAPTER, ROUTER, OUTPUTS, "embed")
    x_BTI, profile_BC, valid_BT = (jnp.asarray(a, a.dtype if a.dtype == bool else np.float32) for a in inputs())

    @jax.jit
    def fresh(key):
        variables = nn.meta.unbox(module.init({"adapters": key}, x_BTI, profile_BC, valid_BT, True))
        return variables, module.apply(variables, x_BTI, profile_BC, valid_BT, True)[0]

    variables, added = fresh(jax.random.key(0))
    assert all((np.asarray(y) == 0.0).all() for y in added.values())
    a_IER = np.asarray(variables["adapters"]["q_a"])
    assert 0.5 / np.sqrt(8) < np.abs(a_IER).max() <= 1 / np.sqrt(8)


def test_dropout_is_one_mask_for_all_linears_of_an_input_scaled_and_off_in_evaluation():
    width = 16
    adapter = AdapterConfig(experts=1, rank=width, alpha=float(width), dropout=0.5)
    router = RouterConfig(inputs="none", top_k=1)
    module = Experts(adapter, router, {"q": (width, "heads"), "v": (width, "kv_heads")}, "embed")
    eye = jnp.eye(width)
    adapters = {"q_a": eye[:, None], "v_a": eye[:, None], "q_b": eye[None], "v_b": eye[None]}
    x_BTI, valid_BT = jnp.ones((2, 3, width)), jnp.ones((2, 3), bool)

    @functools.partial(jax.jit, static_argnums=0)
    def run(deterministic, seed=0):
        rngs = {"dropout": jax.random.key(seed)}
        return module.apply({"adapters": adapters}, x_BTI, None, valid_BT, deterministic, rngs=rngs)[0]

    added = run(False)
    assert set(np.unique(added["q"])) == {0.0, 2.0}
    np.testing.assert_array_equal(added["q"], added["v"])
    assert not np.array_equal(added["q"], run(False, seed=1)["q"])
    np.testing.assert_array_equal(run(True)["q"], x_BTI)


def test_a_lookup_takes_the_profile_for_its_gate():
    """One expert for a known value, all alike for an unknown one; packed rows have a vector a token; no router."""
    adapter, router = variant({"experts": 5}, {"inputs": "lookup", "top_k": 1})
    module, adapters = make(adapter, router)
    assert set(adapters) == {"q_a", "q_b", "v_a", "v_b"}
    x_BTI, _, valid_BT = inputs()
    gate_BE = np.stack([np.eye(5)[3], np.full(5, 0.2)])
    args = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (adapters, x_BTI, gate_BE))

    @jax.jit
    def run(adapters, x_BTI, gate):
        return module.apply({"adapters": adapters}, x_BTI, gate, jnp.asarray(valid_BT), True)

    added, stats = run(*args)
    scale = adapter.alpha / adapter.rank
    for name in OUTPUTS:
        merged_BIO = np.einsum("be,ier,ero->bio", gate_BE, adapters[f"{name}_a"], adapters[f"{name}_b"])
        np.testing.assert_allclose(added[name], scale * x_BTI @ merged_BIO, atol=2e-5)
    sums = stats["router"]
    np.testing.assert_allclose(sums.gate_BE, gate_BE * valid_BT.sum(1)[:, None], rtol=1e-6)
    np.testing.assert_allclose(sums.selected_E, sums.gate_E, rtol=1e-6)
    assert (float(sums.count), float(sums.z)) == (valid_BT.sum(), pytest.approx(0, abs=1e-9))
    per_token = jnp.broadcast_to(args[2][:, None], (2, 4, 5))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), run(*args[:2], per_token), (added, stats))
    with pytest.raises(ValueError, match="5 experts, but profile vectors of width 4"):
        run(*args[:2], args[2][:, :4])
