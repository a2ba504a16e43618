"""Folders in the official format: what is refused, and with which one message; what is read all the same."""

import json

import ml_dtypes
import numpy as np
import pytest
from conftest import ROOT, changed
from safetensors.numpy import load_file, save_file

from cuma_jax.config import Config
from cuma_jax.config.methods import apply_method
from cuma_jax.hub.model_files import resolve
from cuma_jax.interop.formats.official_config import adapted_layers, read_config
from cuma_jax.interop.formats.official_fields import differences, from_run, run_fields, training_fields
from cuma_jax.interop.formats.official_folder import read_official, write_official
from cuma_jax.models.families import decoder_config
from cuma_jax.runtime.errors import CumaError

GOLDEN = ROOT / "tests" / "golden" / "reference"
BASE = str(GOLDEN / "base_qwen3")
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SHAPE = decoder_config(resolve(BASE, "", ""))
Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def folder(tmp_path):
    """A copy of a golden adapter, to be damaged."""
    for name in (CONFIG, WEIGHTS):
        (tmp_path / name).write_bytes((GOLDEN / "adapter_qwen3_r8_script" / name).read_bytes())
    return tmp_path


def set_fields(folder, **fields):
    values = json.loads((folder / CONFIG).read_text()) | fields
    (folder / CONFIG).write_text(json.dumps(values))


def change_tensors(folder, change):
    tensors = load_file(folder / WEIGHTS)
    changed_tensors = change(tensors)
    save_file(tensors if changed_tensors is None else changed_tensors, folder / WEIGHTS)


def read(folder, base="base_qwen3"):
    source = str(GOLDEN / base)
    return read_official(folder, decoder_config(resolve(source, "", "")), source)


def prefixed(prefix):
    return lambda tensors: {f"{prefix}{name}": value for name, value in tensors.items()}


def without_router_1(tensors):
    return {name: value for name, value in tensors.items() if ".routers.1." not in name}


def half_of_q(tensors):
    tensors[f"{Q}.lora_a"] = tensors[f"{Q}.lora_a"].astype(ml_dtypes.bfloat16)


def one_row_less(tensors):
    tensors[f"{Q}.lora_b.3"] = tensors[f"{Q}.lora_b.3"][:-1].copy()


def not_a_number(tensors):
    tensors[f"{Q}.lora_b.3"][0, 0] = np.nan


TENSORS = {
    "wrong_prefix": (prefixed("base_model.model."), ["wrong prefix", f"base_model.model.{Q}"]),
    "no_prefix": (lambda t: {n.removeprefix("model."): v for n, v in t.items()}, ["wrong prefix", "layers.0"]),
    "missing_router": (without_router_1, ["routers.1.mlp.1.weight is missing", "3 routers (0 to 2)"]),
    "missing_tensor": (
        lambda t: {n: v for n, v in t.items() if n != f"{Q}.lora_b.7"},
        [f"{Q}.lora_b.7 is missing", "1 missing"],
    ),
    "routers_in_both_places": (
        lambda t: t | {"router_manager.routers.0.mlp.1.bias": np.zeros(256, np.float32)},
        ["1 too many"],
    ),
    "extra_tensor": (lambda t: t.update(spare=np.zeros(2, np.float32)), ["spare is not of this adapter", "1 too many"]),
    "mixed_types": (half_of_q, [f"{Q}.lora_a is BF16", "torch.float32"]),
    "float16": (lambda t: {n: v.astype(np.float16) for n, v in t.items()}, ["is F16"]),
    "wrong_shape": (one_row_less, [f"{Q}.lora_b.3 is [63, 8]", "[64, 8]"]),
    "not_finite": (not_a_number, [f"{Q}.lora_b.3", "not finite"]),
}
FIELDS = {
    "unknown_field": ({"lora_beta": 1}, ["unknown field 'lora_beta'", "lora_r, lora_alpha"]),
    "wrong_type": ({"lora_r": "8"}, ["lora_r is '8'", "a whole number"]),
    "true_is_no_number": ({"top_k": True}, ["top_k is True"]),
    "no_list": ({"target_modules": "q_proj"}, ["target_modules is 'q_proj'", "a list of texts"]),
    "other_method": ({"peft_type": "LORA"}, ["peft_type is 'LORA'"]),
    "float16": ({"torch_dtype": "torch.float16"}, ["torch_dtype is 'torch.float16'", "torch.bfloat16"]),
    "top_k": ({"top_k": 9}, ["top_k is 9", "num_experts, which is 8"]),
    "one_expert": ({"num_experts": 1}, ["num_experts is 1", "plain LoRA"]),
    "projection": ({"num_encoder_proj_mlp_layers": 1}, ["demographic_encoder.pt", "pickle"]),
    "no_such_linear": ({"target_modules": ["query"]}, ["target_modules ['query'] name no linear"]),
    "unembedding": ({"target_modules": ["q_proj", "lm_head"]}, ["lm_head"]),
    "a_gap": ({"target_modules": ["layers.0.self_attn.q_proj"]}, ["in one layer than in another"]),
    "other_width": ({"hidden_size": 128}, ["another base", "hidden_size is 128", "is 64"]),
    "other_family": ({"model_type": "llama"}, ["another base", "model_type is llama", "is qwen3"]),
    "other_name": ({"base_model": "Qwen/Qwen3-8B"}, ["Qwen/Qwen3-8B", "base_qwen3", "write"]),
    "other_rank": ({"lora_r": 4}, ["is [8, 64]", "[4, 64]"]),
    "more_routers": ({"share_router_for_qkv": False}, ["routers.3.mlp.1.weight is missing", "6 routers"]),
    "bfloat16_by_name_only": ({"torch_dtype": "torch.bfloat16"}, ["is F32", "torch.bfloat16"]),
}


@pytest.mark.parametrize("case", TENSORS)
def test_a_bad_tensor_is_one_message(case, folder):
    change, parts = TENSORS[case]
    change_tensors(folder, change)
    with pytest.raises(CumaError) as caught:
        read(folder)
    assert all(part in str(caught.value) for part in [WEIGHTS, *parts]), caught.value


@pytest.mark.parametrize("case", FIELDS)
def test_a_bad_setting_is_one_message(case, folder):
    fields, parts = FIELDS[case]
    set_fields(folder, **fields)
    with pytest.raises(CumaError) as caught:
        read(folder)
    assert all(part in str(caught.value) for part in [str(folder), *parts]), caught.value


def test_another_base_is_said_before_its_tensors_are_looked_at(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(CumaError, match="another base"):
        read(folder, "base_llama31")
    with pytest.raises(CumaError, match=r"adapter_model\.safetensors does not exist"):
        read(folder)


@pytest.mark.parametrize("size", [0, 4, 100, 5000])
def test_a_truncated_file_is_named(folder, size):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:size])
    with pytest.raises(CumaError, match="truncated"):
        read(folder)


def test_routers_at_the_top_level_are_the_same_and_stay_there(folder, tmp_path):
    usual = read(folder)
    change_tensors(folder, lambda t: {n.replace(f"{Q}._router_manager", "router_manager"): v for n, v in t.items()})
    top = read(folder)
    assert top.tensors.keys() == usual.tensors.keys()
    for name, value in usual.tensors.items():
        np.testing.assert_array_equal(top.tensors[name], value)
    (out := tmp_path / "out").mkdir()
    write_official(out, top)
    assert load_file(out / WEIGHTS).keys() == load_file(folder / WEIGHTS).keys()
    assert "router_manager.routers.2.mlp.4.bias" in load_file(out / WEIGHTS)


def test_bfloat16_is_read_and_written_bit_for_bit(folder, tmp_path):
    set_fields(folder, torch_dtype="torch.bfloat16")
    change_tensors(folder, lambda t: {n: v.astype(ml_dtypes.bfloat16) for n, v in t.items()})
    (out := tmp_path / "out").mkdir()
    official = read(folder)
    write_official(out, official)
    there, here = load_file(folder / WEIGHTS), load_file(out / WEIGHTS)
    assert all(there[name].tobytes() == here[name].tobytes() for name in there)
    assert {str(value.dtype) for value in here.values()} == {"bfloat16"}


def test_absent_fields_take_the_official_defaults_and_what_is_no_config_is_named(folder):
    for text, message in (("{", "not valid JSON"), ("[1]", "holds a list, and must hold an object")):
        (folder / CONFIG).write_text(text)
        with pytest.raises(CumaError, match=message):
            read(folder)
    (folder / CONFIG).write_text("{}")
    config = read_config(folder)
    assert (config.lora_r, config.lora_alpha, config.dropout, config.router_hidden_dim) == (16, 32, 0.1, 512)
    assert adapted_layers(config, SHAPE, "")[0] == ("q", "k", "v", "o", "gate", "up", "down")


@pytest.mark.parametrize(
    ("base_model", "source", "same"),
    [
        ("Qwen/Qwen3-8B", "/data/models/qwen3-8b", True),
        ("../MyModels/Qwen3-8B", "Qwen/Qwen3-8B", True),
        ("Qwen/Qwen3-8B", "/hub/models--Qwen--Qwen3-8B/snapshots/abc", True),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B-Base", False),
    ],
)
def test_names_of_one_base(base_model, source, same, folder):
    set_fields(folder, base_model=base_model)
    if same:
        read_official(folder, SHAPE, source)
    else:
        with pytest.raises(CumaError, match="belongs to the base"):
            read_official(folder, SHAPE, source)


def of_run(**sections):
    return changed(apply_method(Config(), "reference"), model={"source": "Qwen/x"}, **sections)


RUNS = {
    "as_the_preset": {},
    "one_layer_routers": {"router": {"layers": 1, "gate": "topk_unnormalised"}, "adapter": {"shared_a": False}},
    "unshared": {"router": {"shared": False, "layers": 3}, "adapter": {"targets": ("gate", "up", "q")}},
    "gate_up_apart": {"router": {"shared_gate_up": "no"}, "adapter": {"targets": ("q", "k", "gate", "up")}},
    "top_two_layers": {"adapter": {"layers": 2, "alpha": 12.5}},
    "all_experts": {"router": {"gate": "soft"}},
    "rslora": {"adapter": {"scaling": "sqrt_rank", "rank": 16}},
    "no_profile": {"router": {"inputs": "hidden"}},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_and_what_is_read_of_it_agree(name):
    config = of_run(**RUNS[name])
    official = from_run(config, SHAPE, 0 if config.router.inputs == "hidden" else 32, "float32")
    assert differences(config, run_fields(official, SHAPE, ""), SHAPE) == []
    assert differences(config, training_fields(official), SHAPE) == []


def test_differences_are_the_flags_to_set():
    official = from_run(of_run(), SHAPE, 32, "float32")
    other = of_run(
        adapter={"rank": 4, "shared_a": False, "targets": ("q",), "layers": 1},
        router={"gate": "softmax_topk", "hidden_dim": 8},
    )
    flags = differences(other, run_fields(official, SHAPE, ""), SHAPE)
    assert flags == [
        "--adapter.rank 8", "--adapter.targets q v", "--adapter.shared_a", "--adapter.layers 0",
        "--router.gate double_softmax", "--router.hidden_dim 256",
    ]  # fmt: skip
    other = of_run(adapter={"scaling": "sqrt_rank", "alpha": 3.0})
    flags = differences(other, run_fields(official, SHAPE, ""), SHAPE)
    assert flags == ["--adapter.alpha 16", "--adapter.scaling rank"]
    # A field that the routers do not use is no difference.
    one = from_run(of_run(router={"layers": 1}), SHAPE, 32, "float32")
    assert differences(of_run(router={"layers": 1, "hidden_dim": 3}), run_fields(one, SHAPE, ""), SHAPE) == []


OTHER_METHODS = ("lora", "dora", "per_country", "full", "prefix", "base")


@pytest.mark.parametrize(
    ("config", "part"),
    [
        (of_run(router={"gate": "softmax_topk"}), "--router.gate double_softmax"),
        (of_run(router={"temperature": 2.0}), "router.temperature is 2"),
        (of_run(profile={"projection_layers": 1}), "profile.projection_layers is 1"),
        *((apply_method(Config(), method), "a run whose ") for method in OTHER_METHODS),
    ],
)
def test_runs_that_the_format_cannot_hold(config, part):
    with pytest.raises(CumaError, match="cannot hold") as caught:
        from_run(config, SHAPE, 32, "float32")
    assert part in str(caught.value)
