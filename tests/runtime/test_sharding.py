"""On eight fake devices everything equals one device; what cannot be split is refused with the reason."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import changed
from jax.sharding import PartitionSpec
from same import same_step

from cuma_jax.config import MeshConfig
from cuma_jax.config.checks import TARGETS
from cuma_jax.config.methods import METHODS, apply_method
from cuma_jax.evaluation.surveys.prediction import predict
from cuma_jax.models.families import SHAPES
from cuma_jax.run.build import build_run
from cuma_jax.run.decoders import abstract_variables, make_decoder
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import (
    RULES,
    batch_sharding,
    local_rows,
    make_mesh,
    put_batch,
    spec_of,
    tree_shardings,
)

# What only nightly tests add has its parts in the others: rows over devices, offsets of weights.
MESHES = [(2, 2, 2), (1, 4, 2), pytest.param((8, 1, 1), marks=pytest.mark.nightly)]
KINDS = [("dora", 0), ("full", 0), ("prefix", 2), pytest.param("full", 2, marks=pytest.mark.nightly)]


def mesh_of(data, fsdp, tensor):
    return make_mesh(MeshConfig(data, fsdp, tensor), jax.devices()[: data * fsdp * tensor])


@pytest.fixture(scope="module")
def one_device(debug_run, random_adapters, loss_and_gradients, train_batches):
    """A batch, and its metrics and gradients on one device."""
    bucket, batch = train_batches(debug_run)[0]
    return bucket, batch, loss_and_gradients(debug_run, random_adapters(debug_run), batch, bucket)


@pytest.fixture(scope="module")
def on_mesh(debug_config, run_on):
    return functools.cache(lambda mesh: run_on(dataclasses.replace(debug_config, mesh=MeshConfig(*mesh))))


def assert_gradients_agree(found, expected):
    """Within 1e-5, but for single hidden units of a router.

    Another order of sums changes the last bits. A ReLU whose input is zero but for those bits may open on one mesh
    and stay shut on the other, which moves one column of a router's kernel by one token's share (2e-5 was seen, in 4
    of 16,384 elements). A gradient that is wrong is wrong all over: the norm of the difference tells.
    """
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert np.mean(np.abs(found - expected) > 1e-5) < 1e-3
    assert np.linalg.norm(found - expected) <= 5e-4 * np.linalg.norm(expected) + 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_sharded_loss_gradients_and_predictions_equal_unsharded(
    mesh, on_mesh, one_device, debug_run, random_adapters, loss_and_gradients
):
    bucket, batch, expected = one_device
    run = on_mesh(mesh)
    assert run.mesh.devices.shape == mesh
    found = loss_and_gradients(run, random_adapters(run), batch, bucket)
    same_step(found, expected, assert_gradients_agree, atol=1e-5)

    profile_N = np.arange(50, dtype=np.int32)
    question_N = (profile_N % 5).astype(np.int32)
    one, many = (predict(a, random_adapters(a), profile_N, question_N) for a in (debug_run, run))
    np.testing.assert_allclose(many.probs_NO, one.probs_NO, atol=1e-5)
    np.testing.assert_allclose(many.gate_NLE, one.gate_NLE, atol=1e-5)
    np.testing.assert_allclose(many.probs_NO.sum(-1), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "layers"), KINDS)
def test_other_kinds_of_adapters_are_the_same_on_a_mesh(
    method, layers, debug_config, run_on, random_adapters, loss_and_gradients, train_batches
):
    config = changed(apply_method(debug_config, method), adapter={"layers": layers})
    one = run_on(config)
    many = run_on(dataclasses.replace(config, mesh=MeshConfig(2, 2, 2)))
    bucket, batch = train_batches(one)[0]
    found, expected = (loss_and_gradients(a, random_adapters(a), batch, bucket) for a in (many, one))
    same_step(found, expected, assert_gradients_agree, atol=1e-5)
    split = [s for s in jax.tree.leaves(many.adapter_shardings) if "tensor" in s.spec or "fsdp" in s.spec]
    assert split


@pytest.mark.slow
def test_base_and_adapters_start_the_same_on_every_mesh(on_mesh, debug_run):
    other = on_mesh((2, 2, 2))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(other.base), jax.device_get(debug_run.base))
    one, two = (jax.device_get(a.init_adapters(3)) for a in (debug_run, other))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_adapters_are_split_as_the_weights_beside_them(on_mesh):
    run = on_mesh((2, 2, 2))
    q = run.base_shardings["adapted_layers"]["q"].spec
    experts = run.adapter_shardings["adapted_layers"]["q_k_v_experts"]
    # q [layers, embed, heads]; A [layers, embed, experts, rank]; B [layers, experts, rank, heads].
    assert q == PartitionSpec(None, "fsdp", "tensor")
    assert experts["q_a"].spec == PartitionSpec(None, "fsdp", None, None)
    assert experts["q_b"].spec == PartitionSpec(None, None, None, "tensor")


@pytest.mark.parametrize(
    ("shape", "method"),
    [("qwen3-8b", "cuma"), ("smollm2-135m", "hydralora"), ("llama-3.1-8b", "lora"), ("qwen3-8b", "full")]
    + [pytest.param("llama-3.1-8b", method, marks=pytest.mark.nightly) for method in METHODS],
)
def test_every_weight_of_every_method_has_a_place_on_a_mesh(debug_config, shape, method):
    """All targets, a projection, three-layer routers: no two axes of an array share a mesh axis; all divide."""
    config = apply_method(debug_config, method)
    lookup = config.router.inputs == "lookup"
    config = changed(
        config, adapter={"targets": TARGETS, "layers": 0}, profile={"projection_layers": 0 if lookup else 2}
    )
    if config.router.inputs not in ("none", "lookup"):
        config = changed(config, router={"layers": 3, "shared": False})
    size = SHAPES[shape]
    tensor = 1 if size.heads % 2 or size.kv_heads % 2 else 2
    decoder = make_decoder(config, size)
    decoder = decoder.clone(adapter=dataclasses.replace(config.adapter, experts=config.adapter.experts or 24))
    boxed = abstract_variables(decoder, 24)
    shardings = tree_shardings(boxed, mesh_of(2, 8 // tensor // 2, tensor))
    leaves = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned))
    assert all(isinstance(leaf, nn.LogicallyPartitioned) for leaf in leaves)
    assert len(jax.tree.leaves(shardings)) == len(leaves)


def test_two_axes_of_one_array_on_one_mesh_axis_are_refused():
    assert spec_of(("embed", "heads")) == PartitionSpec("fsdp", "tensor")
    with pytest.raises(ValueError, match="same mesh axis"):
        spec_of(("heads", "mlp"))
    with pytest.raises(ValueError, match="same mesh axis"):
        spec_of(("batch", "embed"))
    with pytest.raises(ValueError, match=r"not in sharding\.RULES"):
        spec_of(("width",))
    assert len({name for name, _ in RULES}) == len(RULES)


def test_a_mesh_must_use_the_devices_that_are_there():
    assert dict(make_mesh(MeshConfig(0, 2, 2)).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    with pytest.raises(CumaError, match="fsdp=3 x tensor=1 does not use exactly the 8 devices"):
        make_mesh(MeshConfig(0, 3, 1))
    with pytest.raises(CumaError, match=r"set --mesh\.data"):
        make_mesh(MeshConfig(4, 1, 1))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"batch_size": 12}}, r"train\.batch_size .*is 12, .* by 8 \(mesh\.data=8 .*multiple of 8"),
        ({"train": {"micro_batches": 4}}, r"train\.micro_batches is 4, which is not divisible by 8"),
        ({"evaluation": {"batch_size": 20}}, r"evaluation\.batch_size is 20"),
        ({"mesh": {"data": 1, "tensor": 8}}, r"key/value heads is 2|number of heads is 4"),
    ],
)
def test_a_run_that_does_not_fit_its_mesh_is_refused_before_anything_is_read(debug_config, sections, message):
    config = changed(debug_config, **{"mesh": {"data": 8}, **sections})
    with pytest.raises(CumaError, match=message):
        build_run(config, progress=False)


def test_a_weight_that_does_not_divide_is_named():
    box = nn.LogicallyPartitioned(jax.ShapeDtypeStruct((6, 4), jnp.float32), ("embed", "heads"))
    with pytest.raises(CumaError, match=r"weight \['q'\] of shape \(6, 4\)"):
        tree_shardings({"q": box}, mesh_of(1, 4, 2))


def test_a_global_batch_is_put_together_from_the_rows_of_this_process():
    mesh = mesh_of(2, 2, 2)
    assert local_rows(mesh, 16).tolist() == list(range(16))
    batch = {"tokens": np.arange(32, dtype=np.int32).reshape(16, 2)}
    placed = put_batch(batch, mesh)["tokens"]
    assert placed.sharding == batch_sharding(mesh)
    assert {s.data.shape for s in placed.addressable_shards} == {(4, 2)}
    np.testing.assert_array_equal(placed, batch["tokens"])
