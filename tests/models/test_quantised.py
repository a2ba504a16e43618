"""A base in int8 is the base whose weights are the rounded ones: in values, in gradients, on every mesh."""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from conftest import changed
from loading import load

from cuma_jax.config import AdapterConfig, MeshConfig, RouterConfig
from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import SHAPES
from cuma_jax.models.quantised import Int8, as_float, output_scales, product, quantise_into
from cuma_jax.run.folder import open_run, write_config
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import make_mesh

RANDOM = ModelFiles("random", None, "random:tiny", "tiny")
LINEARS = ("q", "k", "v", "o", "gate", "up", "down")


def quantised(stored_OI):
    q_IO, scale_O = np.empty(stored_OI.shape[::-1], np.int8), output_scales(stored_OI)
    quantise_into(q_IO, stored_OI, scale_O)
    return q_IO, scale_O


def slow(stored_OI):
    """One number at a time."""
    q_IO, scale_O = np.zeros(stored_OI.shape[::-1], np.int8), np.ones(len(stored_OI), np.float32)
    for o, row in enumerate(stored_OI.astype(np.float32)):
        if np.abs(row).max() > 0:
            scale_O[o] = np.abs(row).max() / np.float32(127)
        for i, value in enumerate(row):
            q_IO[i, o] = round(float(value / scale_O[o]))
    return q_IO, scale_O


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (130, 7)])
def test_rounding_is_to_nearest_and_symmetric(shape, dtype):
    stored_OI = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    stored_OI[0] = 0
    q_IO, scale_O = quantised(stored_OI)
    for found, expected in zip((q_IO, scale_O), slow(stored_OI), strict=True):
        np.testing.assert_array_equal(found, expected)
    off_OI = np.abs(q_IO.T * scale_O[:, None] - stored_OI.astype(np.float32))
    assert (off_OI <= scale_O[:, None] * 0.5001).all()
    np.testing.assert_array_equal(quantised(-stored_OI)[0], -q_IO)
    assert (np.abs(q_IO[:, 1:]).max(axis=0, initial=127) == 127).all()


@pytest.fixture(scope="module")
def weight():
    stored_OI = np.random.default_rng(0).standard_normal((48, 32)).astype(np.float32)
    return Int8(*map(jnp.asarray, quantised(stored_OI * np.exp2(np.arange(48) % 9)[:, None])))


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 2e-6), (jnp.bfloat16, 1e-2)])
def test_the_product_and_its_gradient_are_those_of_the_weight_written_out(weight, dtype, tolerance):
    rng = np.random.default_rng(1)
    x_BTI, c_BTO = (jnp.asarray(rng.standard_normal((2, 5, n)), dtype) for n in (32, 48))

    def both(multiply):
        y_BTO, pull = jax.vjp(multiply, x_BTI)
        return y_BTO, pull(c_BTO)[0]

    found = both(lambda x: product(x, weight))
    expected = both(lambda x: x @ as_float(weight).astype(dtype))
    for one, two in zip(found, expected, strict=True):
        assert one.dtype == dtype
        one, two = np.asarray(one, np.float32), np.asarray(two, np.float32)
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance * np.abs(two).max())


def test_a_scale_is_not_rounded_to_bfloat16():
    """Next to 1, bfloat16 steps by 2^-7: a scale of 1 + 2^-8 would fall to 1, and take its whole channel along."""
    scale = 1 + 2**-8
    values = np.arange(128, 256, dtype=np.float32)
    weight = Int8(jnp.ones((1, 1), jnp.int8), jnp.full(1, scale, jnp.float32))
    found = product(jnp.asarray(values, jnp.bfloat16)[None, :, None], weight)[0, :, 0]
    np.testing.assert_array_equal(found, (values * np.float32(scale)).astype(ml_dtypes.bfloat16))
    assert (np.asarray(found, np.float32) != values).any()


def test_no_float_copy_of_the_stack_is_kept_for_the_backward_pass():
    """Left to JAX, the scan over layers keeps every layer's weight in float32: four times the int8 stack, and more."""
    layers, width = 6, 256
    stack = Int8(
        jax.ShapeDtypeStruct((layers, width, width), jnp.int8), jax.ShapeDtypeStruct((layers, width), jnp.float32)
    )
    x_BTI, bias_LI = jax.ShapeDtypeStruct((1, 4, width), jnp.float32), jax.ShapeDtypeStruct((layers, width), "float32")

    def temporaries(multiply):
        def loss(bias_LI, stack, x_BTI):
            def layer(x_BTI, part):
                return jax.nn.silu(multiply(x_BTI, part[1]) + part[0][None, None]), None

            return jax.lax.scan(layer, x_BTI, (bias_LI, stack))[0].sum()

        compiled = jax.jit(jax.grad(loss)).lower(bias_LI, stack, x_BTI).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    float_stack = layers * width * width * 4
    assert temporaries(product) < float_stack / 2
    assert temporaries(lambda x, w: x @ as_float(w)) > float_stack


@pytest.mark.parametrize("mesh", [(2, 2, 2), (1, 4, 2)])
def test_every_mesh_loads_the_same_int8(mesh):
    mesh = make_mesh(MeshConfig(*mesh))
    _, floats = load(RANDOM, top=1)
    model, params = load(RANDOM, top=1, mesh=mesh, quantize="int8")
    assert model.n_frozen == 3
    for group in ("frozen_layers", "adapted_layers"):
        for name in LINEARS:
            stack = params[group][name]
            assert stack.dtype == jnp.int8
            assert params[group][f"{name}_scale"].dtype == jnp.float32
            for layer, value_IO in enumerate(np.asarray(floats[group][name])):
                q_IO, scale_O = quantised(value_IO.T)
                np.testing.assert_array_equal(stack[layer], q_IO)
                np.testing.assert_array_equal(params[group][f"{name}_scale"][layer], scale_O)
            split = stack.sharding.spec[2], params[group][f"{name}_scale"].sharding.spec[1]
            assert split[0] == split[1]
        for name in params[group].keys() - set(LINEARS) - {f"{n}_scale" for n in LINEARS}:
            np.testing.assert_array_equal(params[group][name], floats[group][name])
    np.testing.assert_array_equal(params["embed"], floats["embed"])
    assert params["embed"].dtype == jnp.float32


def written_out(params):
    """The same base, in float32."""
    tree = dict(params)
    for group in params.keys() & {"frozen_layers", "adapted_layers"}:
        leaves = dict(params[group])
        for name in LINEARS:
            leaves[name] = leaves[name].astype(jnp.float32) * leaves.pop(f"{name}_scale")[:, None, :]
        tree[group] = leaves
    return tree


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "targets"), [("lora", LINEARS), ("dora", ("q", "down"))])
def test_adapters_over_int8_train_as_over_the_weights_written_out(kind, targets):
    """Hidden states and the gradient of every adapter, with biases on q, k and v."""
    shape = dataclasses.replace(SHAPES["tiny"], layers=3, qkv_bias=True)
    adapter, router = AdapterConfig(kind, layers=2, experts=1, targets=targets), RouterConfig("none", top_k=1)
    tokens_BT = jnp.asarray(np.random.default_rng(0).integers(0, shape.vocab, (2, 6)), jnp.int32)
    lengths_B = jnp.asarray([6, 4])
    model = Decoder(shape, adapter, router, quantize="int8")
    _, params = load(RANDOM, shape, top=2, quantize="int8")
    keys = {"params": jax.random.key(0), "adapters": jax.random.key(1)}
    drawn = jax.eval_shape(lambda: nn.unbox(model.init(keys, tokens_BT, lengths_B, None)["adapters"]))
    rng = np.random.default_rng(1)
    adapters = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape) * 0.1, jnp.float32), drawn)

    def value_and_grad(model, params):
        def loss(adapters):
            x_BTD, _ = model.apply({"params": params, "adapters": adapters}, tokens_BT, lengths_B, None)
            return jnp.sum(jnp.sin(x_BTD) * (jnp.arange(6)[None, :, None] < lengths_B[:, None, None])), x_BTD

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(adapters)

    found = value_and_grad(model, params)
    expected = value_and_grad(model.clone(quantize="none"), written_out(params))
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5 * float(jnp.abs(two).max()))
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(found[1]))


@pytest.mark.slow
def test_a_step_over_int8_is_a_step_over_the_weights_written_out(
    debug_config, run_on, random_adapters, loss_and_gradients, train_batches
):
    config = changed(
        dataclasses.replace(debug_config, mesh=MeshConfig(2, 2, 2)),
        model={"quantize": "int8"},
        train={"question_cache": "off"},
    )
    ours = run_on(config)
    floats = {k: v for k, v in jax.tree_util.tree_leaves_with_path(ours.base_shardings)}
    base = written_out(ours.base)
    shardings = jax.tree_util.tree_map_with_path(lambda path, _: floats[path], base)
    twin = dataclasses.replace(
        ours,
        decoder=ours.decoder.clone(quantize="none"),
        base=jax.device_put(base, shardings),
        base_shardings=shardings,
    )
    bucket, batch = train_batches(ours)[0]
    adapters = random_adapters(ours)
    found, expected = (loss_and_gradients(a, adapters, batch, bucket) for a in (ours, twin))
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5 * max(np.abs(two).max(), 0.1))


def test_a_run_is_not_resumed_with_another_storage(debug_config, tmp_path):
    config = changed(debug_config, run={"dir": str(tmp_path)})
    write_config(tmp_path, config)
    with pytest.raises(CumaError, match=re.escape("model.quantize was 'none', now 'int8'")):
        open_run(changed(config, model={"quantize": "int8"}))
