"""Configs from Hugging Face JSON, from GGUF metadata and by name."""

import json

import numpy as np
import pytest

from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.models.families import (
    SHAPES,
    RopeScaling,
    decoder_config,
    from_gguf_fields,
    from_hf_config,
    llama3_divisors,
    num_params,
)
from cuma_jax.runtime.errors import CumaError

LLAMA = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
}  # fmt: skip
QWEN3 = {
    "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072,
    "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-6,
    "head_dim": 128, "rope_theta": 1000000, "sliding_window": None, "use_sliding_window": False,
    "tie_word_embeddings": True,
}  # fmt: skip
GGUF = {
    "general.architecture": "llama", "llama.embedding_length": 4096, "llama.block_count": 32,
    "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8, "llama.feed_forward_length": 14336,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 500000.0,
    "llama.rope.dimension_count": 128,
    "tensors": {"token_embd.weight": (128256, 4096), "output.weight": (128256, 4096)},
}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "count"),
    [("qwen3-8b", 8_190_735_360), ("qwen3-0.6b", 596_049_920), ("llama-3.1-8b", 8_030_261_248),
     ("smollm2-135m", 134_515_008)],
)  # fmt: skip
def test_named_shapes_have_the_published_number_of_parameters(shape, count):
    assert num_params(SHAPES[shape]) == count


def test_a_config_of_transformers_4_equals_the_named_shape():
    assert from_hf_config(LLAMA, "here") == SHAPES["llama-3.1-8b"]
    assert from_hf_config(QWEN3, "here") == SHAPES["qwen3-0.6b"]


def test_rope_parameters_of_transformers_5_mean_the_same():
    new = {k: v for k, v in LLAMA.items() if k not in ("rope_theta", "rope_scaling")}
    new["rope_parameters"] = LLAMA["rope_scaling"] | {"rope_theta": 500000.0}
    assert from_hf_config(new, "here") == SHAPES["llama-3.1-8b"]


def test_gguf_metadata_with_rope_freqs_equals_the_named_shape():
    divisors = llama3_divisors(RopeScaling("llama3", 8.0), 5e5, 128).astype(np.float32)
    assert from_gguf_fields(GGUF | {"rope_freqs": divisors}, "here") == SHAPES["llama-3.1-8b"]
    assert from_gguf_fields(GGUF, "here").rope_scaling is None
    with pytest.raises(CumaError, match=r"rope_freqs\.weight is not the llama3"):
        from_gguf_fields(GGUF | {"rope_freqs": divisors**2}, "here")


def test_llama3_divisors_equal_the_branches_of_the_model_card():
    scaling, theta, head_dim = RopeScaling("llama3", 8.0), 5e5, 128
    slow = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * np.pi * theta ** (i / head_dim)
        if wavelength < 8192 / 4:
            slow.append(1.0)
        elif wavelength > 8192 / 1:
            slow.append(8.0)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            slow.append(1 / ((1 - smooth) / 8 + smooth))
    np.testing.assert_allclose(llama3_divisors(scaling, theta, head_dim), slow, rtol=1e-12)


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (LLAMA, {"model_type": "gpt2"}, "'gpt2' is not supported as a decoder; supported are llama, qwen2, qwen3"),
        (LLAMA, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic' is not supported; supported are none"),
        (LLAMA, {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "'yarn' is not supported"),
        (LLAMA, {"rope_scaling": {"rope_type": "linear"}}, "'linear' in config.json lacks 'factor'"),
        (LLAMA, {"num_hidden_layers": None}, "config.json lacks 'num_hidden_layers'"),
        (LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; it must be 1"),
        (LLAMA, {"hidden_act": "gelu"}, "hidden_act is 'gelu'; it must be"),
        (LLAMA, {"num_key_value_heads": 5}, "32 heads are not a multiple of 5"),
        (LLAMA, {"quantization_config": {"quant_method": "gptq"}}, "quantization_config is .*not supported"),
        (QWEN3, {"sliding_window": 4096, "use_sliding_window": True}, "sliding_window is 4096; it must be off"),
        (
            QWEN3,
            {"use_sliding_window": True, "sliding_window": 4096, "vocab_size": "9"},
            "vocab_size is '9'; .*_window is",
        ),
        (LLAMA, {"sliding_window": 4096}, "sliding_window is 4096"),
        (LLAMA, {"hidden_act": ["gelu"] * 99}, r"hidden_act is .* \.\.\. \(\d+ characters\); it must be"),
        (LLAMA, {"num_attention_heads": 0}, "num_attention_heads is 0; it must be a whole number of 1 or more"),
        (
            LLAMA,
            {"num_hidden_layers": 10**9},
            "num_hidden_layers is 1000000000; it must be a whole number from 1 to 1000",
        ),
        (LLAMA, {"hidden_size": 4096.0}, "hidden_size is 4096.0; it must be a whole number"),
        (LLAMA, {"rms_norm_eps": float("nan")}, "rms_norm_eps is nan; it must be a positive number"),
        (LLAMA, {"rope_theta": True}, "rope_theta is True; it must be a positive number"),
        (LLAMA, {"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'; it must be true or false"),
        (LLAMA, {"rope_scaling": [8.0]}, "rope_scaling is .* it must be an object"),
        (LLAMA, {"rope_scaling": {"factor": 8.0}}, "factor is 8.0; it must be 1"),
        (LLAMA, {"rope_scaling": {"rope_type": ["linear"]}}, "is not supported; supported are none"),
        (
            LLAMA,
            {"rope_scaling": {"rope_type": "linear", "factor": 4, "mscale": 1.2}},
            "mscale .here 1.2. is not known",
        ),
        (LLAMA, {"rope_scaling": LLAMA["rope_scaling"] | {"low_freq_factor": 4.0}}, "must be below high_freq_factor"),
        (
            LLAMA,
            {"attention_multiplier": 0.5},
            "attention_multiplier .here 0.5. is not known.*take it out of config.json",
        ),
        (
            LLAMA,
            {"logits_scaling": 8.0},
            "logits_scaling is 8.0; it must be 1: .*SiLU and unquantised safetensors .or GGUF..$",
        ),
        (LLAMA, {"is_causal": False}, "is_causal is False"),
        (LLAMA, {"num_attention_heads": 31, "num_key_value_heads": 31}, "4096 cannot be divided by 31 heads"),
        (LLAMA, {"head_dim": 127}, "heads are 127 wide"),
        (QWEN3, {"layer_types": ["sliding_attention"]}, "layer types"),
        (GGUF, {"general.architecture": "gemma"}, "'gemma' is not supported"),
        (GGUF, {"llama.rope.scaling.type": "yarn"}, "'yarn' is not supported"),
        (GGUF, {"llama.expert_count": 8}, "llama.expert_count is 8; it must be off"),
        (GGUF, {"llama.rope.dimension_count": 64}, "partial rotary"),
        (GGUF, {"llama.rope.scaling.type": "linear"}, r"lacks llama\.rope\.scaling\.factor"),
        (GGUF, {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}, "contradicts itself"),
        (GGUF, {"llama.attention.value_length": 64}, "another width of values"),
        (GGUF, {"llama.attention.head_count": 0}, r"head_count is 0; it must be a whole number of 1 or more"),
        (GGUF, {"llama.attention.head_count_kv": [8, 8]}, r"head_count_kv is \[8, 8\]; it must be a whole number"),
        (GGUF, {"llama.embedding_length": "4096"}, r"embedding_length is '4096'; it must be a whole number"),
        (
            GGUF,
            {"llama.attention.temperature_scale": 0.1},
            r"temperature_scale \(here 0.1\) is not known.*--remove-meta",
        ),
        (GGUF, {"general.type": "adapter"}, "general.type is 'adapter'"),
        (GGUF, {"llama.block_count": None}, r"lacks llama\.block_count"),
        (GGUF, {"tensors": {}}, r"no token_embd\.weight"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(base, change, message):
    with pytest.raises(CumaError, match=message):
        (from_gguf_fields if base is GGUF else from_hf_config)(base | change, "here")


PUBLIC = {
    "SmolLM2": (LLAMA, {
        "is_llama_config": True, "rope_interleaved": False, "pretraining_tp": 1, "initializer_range": 0.04,
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "torch_dtype": "bfloat16",
    }),
    "Llama 2": (LLAMA, {"_name_or_path": "x", "pad_token_id": 0, "attention_dropout": 0.0, "head_dim": None}),
    "first Llama conversions": (LLAMA, {"max_sequence_length": 2048, "pad_token_id": -1, "eos_token_id": 1}),
    "unsloth": (LLAMA, {"unsloth_version": "2025.1", "unsloth_fixed": True, "eos_token_id": [128001, 128009]}),
    "Qwen2.5": (QWEN3 | {"model_type": "qwen2"}, {
        "use_mrope": False, "sliding_window": 131072, "max_window_layers": 28, "attention_dropout": 0.0,
    }),
    "Qwen3 of transformers 5": (QWEN3, {
        "layer_types": ["full_attention"] * 28, "dtype": "bfloat16", "attention_bias": False, "rope_scaling": None,
        "pad_token_id": None, "bos_token_id": None, "architectures": ["Qwen3ForCausalLM"],
    }),
    "an old complete dump": (LLAMA, {
        "pruned_heads": {}, "is_encoder_decoder": False, "add_cross_attention": False, "tie_encoder_decoder": False,
        "cross_attention_hidden_size": None, "chunk_size_feed_forward": 0, "top_k": 50, "id2label": {"0": "LABEL_0"},
        "is_decoder": False, "use_bfloat16": False, "output_attentions": False, "sliding_window": None,
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_the_keys_of_public_configs_are_known_and_change_nothing(name):
    base, more = PUBLIC[name]
    assert from_hf_config(base | more, "here") == from_hf_config(base, "here")


LINEAR = {"type": "linear", "factor": 4.0}


@pytest.mark.parametrize(
    ("more", "theta"),
    [
        ({"rope_scaling": LINEAR, "rope_theta": 1e6}, 1e6),
        ({"rope_scaling": LINEAR | {"rope_type": "linear"}, "rope_parameters": {"rope_theta": 1e6}}, 1e6),
        ({"rope_scaling": LINEAR | {"rope_theta": 1e6}}, 1e6),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4, "rope_theta": 1e6}}}, 1e6),
        ({"rope_scaling": LINEAR, "rope_parameters": LINEAR | {"rope_theta": 1e6}, "rope_theta": 1000000}, 1e6),
        ({"rope_scaling": LINEAR}, 1e4),
    ],
)
def test_rope_is_read_wherever_it_stands(more, theta):
    rest = {k: v for k, v in LLAMA.items() if not k.startswith("rope_")}
    config = from_hf_config(rest | more, "here")
    assert (config.rope_theta, config.rope_scaling) == (theta, RopeScaling("linear", 4.0))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default"}},
            "rope_type is both 'linear' and 'default'",
        ),
        (
            {"rope_scaling": {"rope_type": "yarn"}, "rope_parameters": {"rope_type": "default"}},
            "'yarn' is not supported",
        ),
        ({"rope_parameters": {"rope_theta": 1e4}, "rope_theta": 1e6}, "rope_theta is both 10000.0 and 1000000.0"),
        ({"rope_scaling": {"type": "linear", "rope_type": "llama3", "factor": 4}}, "rope_type is both"),
        ({"rope_parameters": {"sliding_attention": {}, "full_attention": {}}}, "sliding_attention .* is not known"),
    ],
)
def test_two_places_that_say_two_things_of_rope_are_an_error(more, message):
    with pytest.raises(CumaError, match=message):
        from_hf_config({k: v for k, v in LLAMA.items() if not k.startswith("rope_")} | more, "here")


def test_the_old_name_of_gguf_rope_scaling_is_read():
    old = from_gguf_fields(GGUF | {"llama.rope.scale_linear": 4.0, "llama.expert_count": 0}, "here")
    assert old.rope_scaling == RopeScaling("linear", 4.0)
    assert from_gguf_fields(GGUF | {"llama.rope.scale_linear": 1.0}, "here").rope_scaling is None


def test_an_unknown_shape_lists_the_known_ones():
    with pytest.raises(CumaError, match=r"random:huge.*tiny, smollm2-135m"):
        decoder_config(ModelFiles("random", None, "random:huge", "huge"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(LLAMA)[:40], "is not valid JSON"),
        ("[" * 100_000, "is nested too deep"),
        ("[]", "holds a list, and must hold an object"),
        (json.dumps(LLAMA)[:-1] + ', "rope_theta": 1e4}', "the name 'rope_theta' is there twice"),
        (b"\xff\xfe{", "is not valid JSON"),
    ],
)
def test_a_broken_config_is_named(text, message, tmp_path):
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CumaError, match=rf"config\.json {message}|config\.json is .*{message}"):
        decoder_config(ModelFiles("hf", tmp_path, "here"))
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(LLAMA).encode())
    assert decoder_config(ModelFiles("hf", tmp_path, "here")) == SHAPES["llama-3.1-8b"]
