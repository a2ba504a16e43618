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
        (LLAMA, {"partial_rotary_factor": 0.5}, "partial rotary"),
        (LLAMA, {"hidden_act": "gelu"}, "activation 'gelu'"),
        (LLAMA, {"num_key_value_heads": 5}, "32 heads are not a multiple of 5"),
        (LLAMA, {"quantization_config": {"quant_method": "gptq"}}, "quantised Hugging Face weights"),
        (QWEN3, {"sliding_window": 4096, "use_sliding_window": True}, "sliding-window attention"),
        (QWEN3, {"layer_types": ["sliding_attention"]}, "layer types"),
        (GGUF, {"general.architecture": "gemma"}, "'gemma' is not supported"),
        (GGUF, {"llama.rope.scaling.type": "yarn"}, "'yarn' is not supported"),
        (GGUF, {"llama.expert_count": 8}, "mixture-of-experts"),
        (GGUF, {"llama.rope.dimension_count": 64}, "partial rotary"),
        (GGUF, {"llama.block_count": None}, r"lacks llama\.block_count"),
        (GGUF, {"tensors": {}}, r"no token_embd\.weight"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(base, change, message):
    with pytest.raises(CumaError, match=message):
        (from_gguf_fields if base is GGUF else from_hf_config)(base | change, "here")


def test_an_unknown_shape_lists_the_known_ones():
    with pytest.raises(CumaError, match=r"random:huge.*tiny, smollm2-135m"):
        decoder_config(ModelFiles("random", None, "random:huge", "huge"))


def test_a_broken_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA)[:40])
    with pytest.raises(CumaError, match=r"config\.json is not valid JSON"):
        decoder_config(ModelFiles("hf", tmp_path, "here"))
