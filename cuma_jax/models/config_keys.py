"""Every key of a decoder's config.json and of its GGUF metadata: understood, without effect, or refused by name.

`families.py` reads those that are understood.
"""

from collections.abc import Mapping
from typing import Any

from cuma_jax.hub.schema import ANY, COUNT, FLAG, IDS, LAYERS, NUMBER, OFF, ONE, TABLE, TEXT, TEXTS, check_fields, only

_SUPPORTED = (
    "Supported are llama, qwen2 and qwen3 with full causal attention, full rotary embedding, SiLU and unquantised "
    "safetensors (or GGUF)."
)
_HF_REMEDY = "take it out of config.json"
_GGUF_REMEDY = "write the file without it: gguf-new-metadata --force --remove-metadata KEY IN.gguf OUT.gguf"

ROPE_SCALINGS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""The rope scalings of a config.json that are computed here, and the numbers that each needs."""

_HF = {
    "model_type": TEXT, "vocab_size": COUNT, "hidden_size": COUNT, "intermediate_size": COUNT,
    "num_hidden_layers": LAYERS, "num_attention_heads": COUNT, "num_key_value_heads": COUNT, "head_dim": COUNT,
    "rms_norm_eps": NUMBER, "rope_theta": NUMBER, "rope_scaling": TABLE, "rope_parameters": TABLE,
    "attention_bias": FLAG, "mlp_bias": FLAG, "tie_word_embeddings": FLAG, "eos_token_id": IDS,
    "max_position_embeddings": COUNT, "original_max_position_embeddings": COUNT, "layer_types": TEXTS,
    "sliding_window": COUNT, "use_sliding_window": FLAG,
    # Asked for by other architectures, or by variants of these.
    "hidden_act": only("silu", "swish"), "partial_rotary_factor": ONE, "rope_interleaved": OFF, "use_mrope": OFF,
    "is_causal": only(True), "is_encoder_decoder": OFF, "add_cross_attention": OFF, "pruned_heads": OFF,
    "auto_map": only({}), "quantization_config": OFF, "compression_config": OFF, "num_experts": OFF,
    "num_local_experts": OFF, "tie_encoder_decoder": OFF, "cross_attention_hidden_size": OFF, "use_qk_norm": OFF,
    "qk_layernorm": OFF, "attn_output_gate": OFF, "logit_scale": ONE, "logits_scaling": ONE, "residual_multiplier": ONE,
    "embedding_multiplier": ONE, "final_logit_softcapping": OFF, "attn_logit_softcapping": OFF,
}  # fmt: skip

# How it was trained, how text is drawn from it by default, where it came from, and how transformers runs it.
NO_EFFECT = tuple(
    """
    architectures attention_dropout hidden_dropout embd_pdrop attn_pdrop resid_pdrop initializer_range use_cache
    torch_dtype dtype model_parallel
    transformers_version _name_or_path _commit_hash _attn_implementation _attn_implementation_autoset
    attn_implementation _flash_attn_2_enabled use_flash_attention_2 bos_token_id pad_token_id sep_token_id unk_token_id
    max_window_layers pretraining_tp max_sequence_length model_max_length seq_length is_llama_config
    transformers.js_config unsloth_version unsloth_fixed gradient_checkpointing task_specific_params id2label label2id
    num_labels problem_type finetuning_task tokenizer_class prefix return_dict use_return_dict output_attentions
    output_hidden_states output_scores return_dict_in_generate torchscript use_bfloat16 tf_legacy_loss is_decoder
    chunk_size_feed_forward max_length min_length max_new_tokens do_sample early_stopping num_beams num_beam_groups
    diversity_penalty temperature top_k top_p min_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences decoder_start_token_id forced_bos_token_id
    forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
    renormalize_logits classifier_dropout keys_to_ignore_at_inference summary_type tokenizer_padding_side padding_side
    """.split()  # noqa: SIM905
)

_HF_KNOWN = _HF | dict.fromkeys(NO_EFFECT, ANY)

_GGUF = {
    "embedding_length": COUNT, "block_count": LAYERS, "feed_forward_length": COUNT, "attention.head_count": COUNT,
    "attention.head_count_kv": COUNT, "attention.layer_norm_rms_epsilon": NUMBER, "attention.key_length": COUNT,
    "attention.value_length": COUNT, "rope.freq_base": NUMBER, "rope.dimension_count": COUNT,
    "rope.scaling.type": TEXT, "rope.scaling.factor": NUMBER, "rope.scale_linear": NUMBER,
    "rope.scaling.attn_factor": ONE, "rope.scaling.yarn_log_multiplier": OFF, "attention.causal": only(True),
    "attention.sliding_window": OFF, "attention.layer_norm_epsilon": ANY, "attention.max_alibi_bias": OFF,
    "attention.clamp_kqv": OFF, "expert_count": OFF, "expert_used_count": OFF, "use_parallel_residual": OFF,
    "attention.scale": OFF, "logit_scale": ONE, "residual_scale": ONE, "embedding_scale": ONE,
    "leading_dense_block_count": OFF,
    # Sizes that the tensors have, context, and how llama.cpp runs it.
    "context_length": ANY, "vocab_size": ANY, "tensor_data_layout": ANY, "pooling_type": ANY,
    "rope.scaling.original_context_length": ANY, "rope.scaling.finetuned": ANY, "source.hf_repository": ANY,
}  # fmt: skip


def check_hf_keys(values: Mapping[str, Any], family: str, where: str) -> None:
    """Checks the config.json of a decoder of this family.

    Raises:
        CumaError: a key that is not known, of the wrong type, or that asks for what is not supported; names it.
    """
    known = dict(_HF_KNOWN)
    if family != "llama":
        known["mlp_bias"] = only(False)
    # Qwen's window counts where it is switched on (and is 4096 where no size is given), any other one always.
    slides = values.get("use_sliding_window", family == "llama")
    known["sliding_window"] = OFF if slides else ANY
    known["use_sliding_window"] = FLAG if "sliding_window" in values else OFF
    check_fields(values, known, f"{where}: config.json", _SUPPORTED, _HF_REMEDY)


def check_rope_keys(found: Mapping[str, Any], kind: str, where: str) -> None:
    """Checks the parameters of rotary embedding in a config.json, for a kind of ROPE_SCALINGS.

    Raises:
        CumaError: as `check_hf_keys`.
    """
    known = {
        "rope_type": TEXT, "rope_theta": NUMBER, "partial_rotary_factor": ONE, "attention_factor": ONE, "factor": ONE,
        "original_max_position_embeddings": COUNT,
    } | dict.fromkeys(ROPE_SCALINGS[kind], NUMBER)  # fmt: skip
    where = f"{where}: config.json, rotary embedding ({kind})"
    check_fields(found, known, where, _SUPPORTED, _HF_REMEDY)


def check_gguf_keys(fields: Mapping[str, Any], family: str, where: str) -> None:
    """Checks the GGUF metadata of this architecture.

    Raises:
        CumaError: as `check_hf_keys`.
    """
    known = {f"{family}.{name}": kind for name, kind in _GGUF.items()} | {"general.type": only("model")}
    looked_at = ("general.type", *(key for key in fields if key.startswith((f"{family}.", "adapter."))))
    values = {key: fields[key] for key in looked_at if key in fields}
    check_fields(
        values,
        known,
        f"{where}: GGUF metadata",
        _SUPPORTED,
        _GGUF_REMEDY,
    )
