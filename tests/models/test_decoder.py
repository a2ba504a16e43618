"""Laws of the adapted decoder; parity of the base with transformers is in test_hf_parity.py.

Shapes: B batch, T tokens, D model width, V vocabulary, C profile width, L layers, E experts, R rank.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from loading import drawn, forward

from cuma_jax.config import AdapterConfig, Config, RouterConfig
from cuma_jax.config.checks import TARGETS
from cuma_jax.config.methods import apply_method
from cuma_jax.losses.balance import balance_loss, router_sums
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import SHAPES, DecoderConfig, num_params
from cuma_jax.run.decoders import abstract_variables

SHAPE = DecoderConfig(40, 16, 3, 2, 1, 8, 24, 1e-6, 1e4, qk_norm=True, tied=True, family="qwen3")
ONE = (AdapterConfig(experts=1, rank=4, alpha=6.0), RouterConfig(inputs="none", top_k=1))
CUMA = (AdapterConfig(experts=4, rank=3), RouterConfig(hidden_dim=6))
LENGTHS = jnp.array([7, 4], jnp.int32)


def tokens(seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, SHAPE.vocab, (2, 7)), jnp.int32)


def profiles(seed=0):
    return jnp.asarray(np.random.default_rng([seed, 1]).normal(size=(2, 5)), jnp.float32)


def make(adapter, router, shape=SHAPE, **settings):
    """A decoder and random variables; norms near one, B not zero."""
    decoder = Decoder(shape, adapter, router, **settings)
    return decoder, drawn(decoder, 5)


@functools.partial(jax.jit, static_argnums=0)
def logits(decoder, variables, tokens_BT, profile_BC):
    """Logits at every position [B,T,V], and the balance loss."""
    logits_BTV, stats = forward(decoder, variables, tokens_BT, LENGTHS, profile_BC)
    return logits_BTV, balance_loss(router_sums(stats), "switch")


def base_of(params):
    """The same weights for a decoder without adapters, whose layers are all frozen ones."""
    base = {k: v for k, v in params.items() if not k.endswith("_layers")}
    stacks = [params[k] for k in ("frozen_layers", "adapted_layers") if k in params]
    return base | {"frozen_layers": jax.tree.map(lambda *a: jnp.concatenate(a), *stacks)}


def _starts_at_zero(path, kind):
    return kind == "full" or jax.tree_util.keystr(path).endswith(("_b']", "_magnitude']"))


@pytest.mark.parametrize(
    "method", ["cuma", "dora", *(pytest.param(m, marks=pytest.mark.slow) for m in ("lora", "hydralora", "full"))]
)
def test_an_untrained_adapter_changes_nothing_bit_for_bit(method):
    config = apply_method(Config(), method)
    adapter = dataclasses.replace(config.adapter, rank=4, targets=TARGETS)
    decoder, variables = make(adapter, dataclasses.replace(config.router, hidden_dim=6))
    untrained = jax.tree_util.tree_map_with_path(
        lambda path, w: jnp.zeros_like(w) if _starts_at_zero(path, adapter.kind) else w, variables["adapters"]
    )
    plain = Decoder(SHAPE)
    expected, _ = logits(plain, {"params": base_of(variables["params"])}, tokens(), None)
    found, _ = logits(decoder, {"params": variables["params"], "adapters": untrained}, tokens(), profiles())
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("targets", [TARGETS, ("k", "o", "up")])
def test_one_expert_equals_merged_weights_for_every_target_in_values_and_gradients(targets):
    adapter = dataclasses.replace(ONE[0], targets=targets)
    decoder, variables = make(adapter, ONE[1])
    params, adapters = variables["params"], variables["adapters"]
    scale = adapter.alpha / adapter.rank
    groups = {"q": "q_k_v", "k": "q_k_v", "v": "q_k_v", "o": "o", "gate": "gate_up", "up": "gate_up", "down": "down"}
    plain = Decoder(SHAPE)

    def factors(adapters, name):
        leaves = adapters["adapted_layers"][f"{groups[name]}_experts"]
        return leaves[f"{name}_a"][:, :, 0], leaves[f"{name}_b"][:, 0]

    def loss(decoder, variables):
        return jnp.sum(jnp.sin(logits(decoder, variables, tokens(), profiles())[0]))

    layers = dict(params["adapted_layers"])
    for name in targets:
        a_LIR, b_LRO = factors(adapters, name)
        layers[name] = layers[name] + scale * jnp.einsum("lir,lro->lio", a_LIR, b_LRO)
    merged = base_of(params | {"adapted_layers": layers})
    expected, grad_of_weights = jax.value_and_grad(lambda p: loss(plain, {"params": p}))(merged)
    found, grads = jax.value_and_grad(lambda a: loss(decoder, {"params": params, "adapters": a}))(adapters)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for name in targets:
        a_LIR, b_LRO = factors(adapters, name)
        w_LIO = grad_of_weights["frozen_layers"][name]
        a_grad, b_grad = factors(grads, name)
        np.testing.assert_allclose(a_grad, scale * jnp.einsum("lio,lro->lir", w_LIO, b_LRO), atol=2e-3, rtol=1e-3)
        np.testing.assert_allclose(b_grad, scale * jnp.einsum("lir,lio->lro", a_LIR, w_LIO), atol=2e-3, rtol=1e-3)


KINDS = {"experts": CUMA} | {
    kind: (dataclasses.replace(ONE[0], kind=kind, prefix_length=3), ONE[1]) for kind in ("dora", "full", "prefix")
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_what_is_recomputed_change_nothing(kind):
    """Neither what padding holds nor how long it is; logits of valid positions, balance and gradients."""
    decoder, variables = make(*KINDS[kind])
    who = profiles() if kind == "experts" else None
    one = tokens()
    two = jnp.where(jnp.arange(7)[None, :] < LENGTHS[:, None], one, (one + 5) % SHAPE.vocab)
    longer = jnp.pad(one, ((0, 0), (0, 4)))
    (a_BTV, a), (b_BTV, b), (c_BTV, c) = (logits(decoder, variables, t, who) for t in (one, two, longer))
    for row, length in enumerate(np.asarray(LENGTHS)):
        np.testing.assert_array_equal(a_BTV[row, :length], b_BTV[row, :length])
        np.testing.assert_allclose(a_BTV[row, :length], c_BTV[row, :length], atol=1e-5)
    assert float(a) == float(b) == pytest.approx(float(c), rel=1e-5)

    def gradient(remat):
        def loss(adapters):
            out, balance = logits(decoder.clone(remat=remat), variables | {"adapters": adapters}, one, who)
            return jnp.sum(jnp.sin(out)) + balance

        return jax.grad(loss)(variables["adapters"])

    for remat in ("dots", "full") if kind == "experts" else ("full",):
        close = functools.partial(np.testing.assert_allclose, atol=1e-4, rtol=1e-4)
        jax.tree.map(close, gradient(remat), gradient("none"))


@pytest.mark.slow
def test_experts_on_the_top_layers_only_equal_experts_everywhere_whose_lower_ones_are_zero():
    adapter, router = dataclasses.replace(CUMA[0], layers=1), CUMA[1]
    top, variables = make(adapter, router)
    params, adapters = variables["params"], variables["adapters"]
    assert (top.n_frozen, top.n_adapted) == (2, 1)
    all_layers, _ = make(*CUMA)
    wide = jax.tree.map(lambda w: jnp.concatenate([jnp.zeros((2, *w.shape[1:])), w]), adapters)
    everywhere = {"adapted_layers": base_of(params)["frozen_layers"]}
    everywhere |= {k: v for k, v in params.items() if not k.endswith("_layers")}
    expected, _ = logits(all_layers, {"params": everywhere, "adapters": wide}, tokens(), profiles())
    found, _ = logits(top, variables, tokens(), profiles())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_option_logits_are_the_logits_of_those_tokens():
    decoder, variables = make(*CUMA)
    h_BSD = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 16)), jnp.float32)
    options_BO = jnp.array([[3, 1, 7], [39, 0, 2]])
    whole_BSV = decoder.apply(variables, h_BSD, method="logits")
    found_BO = decoder.apply(variables, h_BSD[:, 0], options_BO, method="option_logits")
    np.testing.assert_allclose(found_BO, jnp.take_along_axis(whole_BSV[:, 0], options_BO, axis=1), rtol=1e-5)


@pytest.mark.slow
def test_every_layer_draws_its_own_dropout_mask():
    """Layers made identical, with no way for one to change the next's input: their gates differ by dropout alone."""
    adapter, router = CUMA[0], dataclasses.replace(CUMA[1], dropout=0.5)
    decoder, variables = make(adapter, router, deterministic=False)
    variables = jax.tree.map(lambda w: w, variables)
    layers = jax.tree.map(lambda w: jnp.broadcast_to(w[:1], w.shape), variables["params"]["adapted_layers"])
    layers |= {"o": jnp.zeros_like(layers["o"]), "down": jnp.zeros_like(layers["down"])}
    variables["params"]["adapted_layers"] = layers
    variables["adapters"] = jax.tree.map(lambda w: jnp.broadcast_to(w[:1], w.shape), variables["adapters"])

    @functools.partial(jax.jit, static_argnums=0)
    def gates_LE(decoder, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return decoder.apply(variables, tokens(), LENGTHS, profiles(), rngs=rngs)[1]["q_k_v"]["router"].gate_E

    trained = np.asarray(gates_LE(decoder, 0))
    assert len({tuple(row) for row in trained}) == 3
    np.testing.assert_array_equal(trained, gates_LE(decoder, 0))
    assert not np.array_equal(trained, gates_LE(decoder, 1))
    evaluated = np.asarray(gates_LE(dataclasses.replace(decoder, deterministic=True), 0))
    assert len({tuple(row) for row in evaluated}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
def test_a_projection_of_the_profile_is_trained_and_equals_its_slow_twin(layers):
    decoder, variables = make(*CUMA, projection_layers=layers, projection_dim=4)
    w = variables["adapters"]["projection"]
    assert {k for k in w if k.startswith("kernel")} == {f"kernel_{i}" for i in range(layers)}
    w = {k: np.asarray(v) for k, v in w.items()}
    projected = np.asarray(profiles()) @ w["kernel_0"] + w["bias_0"]
    if layers == 2:
        projected = np.maximum(projected, 0) @ w["kernel_1"] + w["bias_1"]
    plain = dataclasses.replace(decoder, projection_layers=0)
    rest = {k: v for k, v in variables["adapters"].items() if k != "projection"}
    expected, _ = logits(plain, {"params": variables["params"], "adapters": rest}, tokens(), jnp.asarray(projected))
    found, _ = logits(decoder, variables, tokens(), profiles())
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_offsets_of_full_fine_tuning_are_added_to_the_weights_and_get_their_gradients(tied, layers):
    """Values and gradients of the same weights in a plain decoder; outside the adapted layers only if all are."""
    shape = dataclasses.replace(SHAPE, tied=tied, qkv_bias=True, o_bias=True, mlp_bias=True)
    adapter = dataclasses.replace(ONE[0], kind="full", layers=layers)
    decoder, variables = make(adapter, ONE[1], shape)
    params, offsets = variables["params"], variables["adapters"]
    assert set(offsets) == ({"adapted_layers"} if layers else set(params))
    merged = params | {group: jax.tree.map(jnp.add, params[group], offsets[group]) for group in offsets}
    options_BO = jnp.array([[3, 1, 7], [39, 0, 2]])

    def loss(decoder, variables):
        out, _ = logits(decoder, variables, tokens(), None)
        x_BD = jnp.sin(out[:, 0, :16])
        return jnp.sum(jnp.sin(out)) + jnp.sum(decoder.apply(variables, x_BD, options_BO, method="option_logits"))

    expected, of_weights = jax.jit(jax.value_and_grad(lambda p: loss(Decoder(shape), {"params": base_of(p)})))(merged)
    found, grads = jax.jit(jax.value_and_grad(lambda a: loss(decoder, {"params": params, "adapters": a})))(offsets)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for group in offsets:
        close = functools.partial(np.testing.assert_allclose, atol=2e-3, rtol=1e-3)
        jax.tree.map(close, grads[group], of_weights[group])


@pytest.mark.slow
def test_a_prefix_is_seen_by_every_layer_and_one_of_no_tokens_is_the_base():
    decoder, variables = make(dataclasses.replace(ONE[0], kind="prefix", prefix_length=3), ONE[1])
    layers = variables["adapters"]["adapted_layers"]
    assert {k: v.shape for k, v in layers.items()} == dict.fromkeys(("prefix_k", "prefix_v"), (3, 3, 1, 8))
    nothing = {"adapted_layers": {k: v[:, :0] for k, v in layers.items()}}
    expected, _ = logits(Decoder(SHAPE), {"params": base_of(variables["params"])}, tokens(), None)
    found, _ = logits(decoder, variables | {"adapters": nothing}, tokens(), None)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for layer in range(3):
        other = {"adapted_layers": {k: v.at[layer].multiply(2) for k, v in layers.items()}}
        moved, _ = logits(decoder, variables | {"adapters": other}, tokens(), None)
        assert np.abs(moved - logits(decoder, variables, tokens(), None)[0]).max() > 1e-3


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nn.meta.unbox(tree)))


QWEN3_8B = 8_190_735_360


@pytest.mark.parametrize(
    ("adapter", "router", "expected"),
    [
        ({"rank": 8}, {"shared": False}, 125_209_152),
        ({"rank": 64}, {"shared": False}, 339_905_088),
        ({"rank": 8, "shared_a": True}, {}, 61_424_928),
        ({"rank": 64, "shared_a": True}, {}, 160_515_360),
        ({"rank": 64, "experts": 1}, {"inputs": "none", "top_k": 1}, 30_670_848),
    ],
)
def test_parameter_counts_on_the_qwen3_8b_shape(adapter, router, expected):
    decoder = Decoder(SHAPES["qwen3-8b"], AdapterConfig(**adapter), RouterConfig(**router), dtype=jnp.bfloat16)
    variables = abstract_variables(decoder, 1024)
    assert count(variables["adapters"]) == expected
    assert count(variables["params"]) == num_params(SHAPES["qwen3-8b"]) == QWEN3_8B
    assert {leaf.dtype for leaf in jax.tree.leaves(variables["adapters"])} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables["params"])} == {jnp.dtype("bfloat16")}


def test_fields_are_left_out_of_profiles_whole_and_only_in_training():
    profile_BC = jnp.asarray(np.random.default_rng(0).normal(size=(400, 6)), jnp.float32)
    variables = make(None, RouterConfig())[1]

    def dropped(deterministic):
        decoder = Decoder(SHAPE, field_dropout=0.25, field_widths=(3, 1, 2), deterministic=deterministic)
        rngs = {"dropout": jax.random.key(0)}
        return np.asarray(decoder.apply(variables, profile_BC, method="routed", rngs=rngs))

    np.testing.assert_array_equal(dropped(True), profile_BC)
    out_BC = dropped(False)
    kept_BF = np.stack([(block != 0).all(1) for block in np.split(out_BC, [3, 4], axis=1)], axis=1)
    gone_BF = np.stack([(block == 0).all(1) for block in np.split(out_BC, [3, 4], axis=1)], axis=1)
    assert (kept_BF ^ gone_BF).all()
    np.testing.assert_array_equal(out_BC[out_BC != 0], np.asarray(profile_BC)[out_BC != 0])  # not scaled up
    np.testing.assert_allclose(gone_BF.mean(0), 0.25, atol=0.08)
    assert np.unique(gone_BF, axis=0).shape[0] == 8  # fields are dropped independently
