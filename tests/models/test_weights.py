"""Weights from safetensors: every shard, every mesh, and every way a file can be wrong."""

import json
import re
import struct

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from loading import abstract_params, load
from safetensors.numpy import save_file

from cuma_jax.config import AdapterConfig, MeshConfig
from cuma_jax.hub.finite import all_finite
from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import SHAPES
from cuma_jax.models.weights import fingerprint, layer_tensor, load_params, random_params, transpose_into
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import make_mesh

TINY = SHAPES["tiny"]
RANDOM = ModelFiles("random", None, "random:tiny", "tiny")
HF_CONFIG = {
    "model_type": "qwen3", "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}  # fmt: skip


def hf_tensors(dtype=np.float32):
    """The tensors of a tiny Qwen3 under Hugging Face names, [out, in], all different."""
    rng = np.random.default_rng(0)
    heads, kv, width, ffn = 32, 16, 32, 64
    shapes = {"model.embed_tokens.weight": (320, width), "model.norm.weight": (width,)}
    for i in range(4):
        layer = {
            "attn_norm": (width,), "mlp_norm": (width,), "q_norm": (8,), "k_norm": (8,), "q": (heads, width),
            "k": (kv, width), "v": (kv, width), "o": (width, heads), "gate": (ffn, width), "up": (ffn, width),
            "down": (width, ffn),
        }  # fmt: skip
        shapes |= {layer_tensor(leaf, i): shape for leaf, shape in layer.items()}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def write(folder, tensors, config=HF_CONFIG):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return ModelFiles("hf", folder, "here")


def expected_tree(tensors, n_frozen):
    """The slow twin: whole tensors, transposed and stacked in numpy."""

    def stack(first, last):
        leaves = ("attn_norm", "mlp_norm", "q_norm", "k_norm", "q", "k", "v", "o", "gate", "up", "down")
        return {leaf: np.stack([tensors[layer_tensor(leaf, i)].T for i in range(first, last)]) for leaf in leaves}

    tree = {"embed": tensors["model.embed_tokens.weight"], "final_norm": tensors["model.norm.weight"]}
    if n_frozen:
        tree["frozen_layers"] = stack(0, n_frozen)
    if n_frozen < 4:
        tree["adapted_layers"] = stack(n_frozen, 4)
    return tree


@pytest.mark.parametrize("mesh", [(8, 1, 1), (2, 2, 2), (1, 4, 2)])
@pytest.mark.parametrize("top", [0, 1, 4])
def test_every_mesh_and_layer_split_loads_the_same_weights(tmp_path, mesh, top):
    tensors = hf_tensors()
    files = write(tmp_path / "m", tensors)
    model, params = load(files, top=top, mesh=make_mesh(MeshConfig(*mesh)))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), expected_tree(tensors, model.n_frozen))
    if mesh == (1, 4, 2):
        assert params["embed"].addressable_shards[0].data.shape == (160, 8)


@pytest.mark.parametrize("shape", [(1, 1), (63, 7), (64, 64), (130, 3), (5,)])
def test_the_blocked_transpose_equals_numpys(shape):
    stored = np.random.default_rng(0).standard_normal(shape)
    out = np.empty(shape[::-1], ml_dtypes.bfloat16)
    transpose_into(out, stored)
    np.testing.assert_array_equal(out, stored.T.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("wanted", [jnp.float32, jnp.bfloat16])
def test_stored_types_are_cast_to_the_wanted_one(tmp_path, stored, wanted):
    tensors = hf_tensors(stored)
    _, params = load(write(tmp_path / "m", tensors), dtype=wanted)
    assert params["embed"].dtype == wanted
    np.testing.assert_array_equal(params["embed"], tensors["model.embed_tokens.weight"].astype(wanted))


def test_sharded_files_equal_one_file(tmp_path):
    tensors = hf_tensors()
    one = write(tmp_path / "one", tensors)
    many = write(tmp_path / "many", tensors)
    (many.path / "model.safetensors").unlink()
    names, weight_map = sorted(tensors), {}
    for i in range(3):
        part = {name: tensors[name] for name in names[i::3]}
        save_file(part, many.path / f"model-{i}.safetensors")
        weight_map |= dict.fromkeys(part, f"model-{i}.safetensors")
    (many.path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    jax.tree.map(np.testing.assert_array_equal, load(one)[1], load(many)[1])
    assert fingerprint(one) == fingerprint(many)


def test_names_without_the_model_prefix_buffers_and_a_tied_head_are_understood(tmp_path):
    tensors = hf_tensors()
    bare = {name.removeprefix("model."): value for name, value in tensors.items()}
    more = {"lm_head.weight": tensors["model.embed_tokens.weight"].copy()}
    more["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    for given in (bare, tensors | more):
        _, params = load(write(tmp_path / "m", given))
        jax.tree.map(np.testing.assert_array_equal, params, expected_tree(tensors, 4))
    with pytest.raises(CumaError, match=r"missing: lm_head\.weight"):
        load(write(tmp_path / "m", tensors, HF_CONFIG | {"tie_word_embeddings": False}))


def test_a_head_of_its_own_in_a_tied_model_is_an_error_and_following_it_works(tmp_path):
    tensors = hf_tensors()
    head = np.random.default_rng(1).standard_normal((320, 32)).astype(np.float32)
    for other in (head, head[:300]):
        with pytest.raises(CumaError, match=r"another one, lm_head.*write false for tie_word_embeddings"):
            load(write(tmp_path / "m", tensors | {"lm_head.weight": other}))
    untied = write(tmp_path / "m", tensors | {"lm_head.weight": head}, HF_CONFIG | {"tie_word_embeddings": False})
    np.testing.assert_array_equal(load(untied)[1]["unembed"], head)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": ["32"]}, "truncated or not a safetensors file"),
        ({"shape": [-32]}, "truncated or not a safetensors file"),
        ({"shape": [2**62, 2**62]}, "truncated or not a safetensors file"),
        ({"shape": [1] * 1000 + [32]}, "model.norm.weight has 1001 axes"),
        ({"dtype": "F8_E4M3", "shape": [128]}, "model.norm.weight is F8_E4M3; supported are F64"),
        ({"dtype": "none"}, "truncated or not a safetensors file"),
        (b"[" * 100_000, "truncated or not a safetensors file"),
        (b'{"a":' * 100_000, "truncated or not a safetensors file"),
    ],
)
def test_a_damaged_header_is_one_message(tmp_path, change, message):
    files = write(tmp_path / "m", hf_tensors())
    path = files.path / "model.safetensors"
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    if isinstance(change, dict):
        header["model.norm.weight"].update(change)
        change = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(change)) + change + whole[8 + length :])
    for reads in (load, fingerprint):
        with pytest.raises(CumaError, match=message):
            reads(files)


def test_missing_unexpected_and_misshapen_tensors_come_in_one_error(tmp_path):
    tensors = hf_tensors()
    for layer in (1, 3):
        del tensors[layer_tensor("q", layer)]
    del tensors["model.norm.weight"]
    tensors["model.layers.0.mlp.experts.weight"] = np.ones(3, np.float32)
    tensors[layer_tensor("down", 2)] = np.ones((32, 60), np.float32)
    with pytest.raises(CumaError) as error:
        load(write(tmp_path / "m", tensors))
    message = str(error.value)
    for part in (
        "missing: model.layers.*.self_attn.q_proj.weight (layers 1, 3), model.norm.weight",
        "unexpected: model.layers.*.mlp.experts.weight (layers 0)",
        "wrong shape: model.layers.2.mlp.down_proj.weight is (32, 60), expected (32, 64)",
    ):
        assert part in message


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_named(tmp_path, keep):
    files = write(tmp_path / "m", hf_tensors())
    path = files.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CumaError, match=re.escape(str(path)) + ".*truncated.*fetch it again"):
        load(files)


def test_a_tensor_of_another_type_is_named(tmp_path):
    tensors = hf_tensors()
    tensors["model.norm.weight"] = np.ones(32, np.int8)
    with pytest.raises(CumaError, match=r"tensor model\.norm\.weight is I8; supported are F64, F32"):
        load(write(tmp_path / "m", tensors))


@pytest.mark.parametrize("quantize", ["none", "int8"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named_with_its_tensor_and_file(tmp_path, dtype, value, quantize):
    tensors, name = hf_tensors(dtype), layer_tensor("up", 2)
    tensors[name][7, 3] = value
    with pytest.raises(CumaError, match=rf"model.safetensors: tensor {name} holds numbers that are not finite"):
        load(write(tmp_path / "m", tensors), quantize=quantize)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_finite_is_what_numpy_says_of_every_kind_of_number(dtype):
    least, most = (float(getattr(ml_dtypes.finfo(dtype), name)) for name in ("smallest_subnormal", "max"))
    for value in (0.0, -0.0, 1.0, -1.0, least, -least, most, -most, np.inf, -np.inf, np.nan, -np.nan):
        array = np.array([0.5, value, -0.5], np.float64).astype(dtype)
        assert all_finite(array) == bool(np.isfinite(array.astype(np.float64)).all()), value
    assert all_finite(np.zeros((0, 3), dtype))


def test_the_fingerprint_tells_bases_apart(tmp_path):
    tensors = hf_tensors()
    first = fingerprint(write(tmp_path / "a", tensors))
    assert first == fingerprint(write(tmp_path / "b", dict(reversed(tensors.items()))))
    tensors[layer_tensor("up", 3)] = tensors[layer_tensor("up", 3)] + 1e-3
    assert first != fingerprint(write(tmp_path / "a", tensors))
    assert first != fingerprint(write(tmp_path / "b", hf_tensors(), HF_CONFIG | {"rope_theta": 1.0}))
    assert fingerprint(RANDOM) == fingerprint(ModelFiles("random", None, "x", "tiny"))
    assert fingerprint(RANDOM) != fingerprint(ModelFiles("random", None, "x", "qwen3-8b"))


def test_progress_counts_the_tensors(tmp_path):
    tensors, seen = hf_tensors(), []
    abstract, shardings = abstract_params(Decoder(TINY))
    files = write(tmp_path / "m", tensors)
    load_params(files, TINY, abstract, shardings, 4, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(tensors), len(tensors))
    assert seen == sorted(seen)


def test_random_weights_do_not_depend_on_mesh_or_layer_split():
    _, whole = load(RANDOM)
    model, split = load(RANDOM, top=1, mesh=make_mesh(MeshConfig(2, 2, 2)))
    assert model.n_frozen == 3
    np.testing.assert_array_equal(whole["embed"], split["embed"])
    for name, leaf in whole["frozen_layers"].items():
        np.testing.assert_array_equal(leaf[:3], split["frozen_layers"][name])
        np.testing.assert_array_equal(leaf[3:], split["adapted_layers"][name])
    np.testing.assert_allclose(np.std(whole["frozen_layers"]["gate"], axis=(1, 2)), TINY.width**-0.5, rtol=0.1)
    np.testing.assert_array_equal(whole["final_norm"], 1.0)
    other = random_params(*abstract_params(Decoder(TINY, AdapterConfig(layers=1))), seed=1)
    assert np.abs(np.asarray(other["embed"]) - np.asarray(whole["embed"])).max() > 0.01
