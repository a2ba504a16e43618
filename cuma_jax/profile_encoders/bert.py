"""A BERT sentence encoder (MiniLM and its family) in Flax Linen: text tokens in, one hidden state per token out.

The arithmetic is that of Devlin et al. (2019), arXiv 1810.04805, as transformers' `BertModel` computes it: learned
positions, token types, post-layer-norm blocks, exact (erf) GELU. Padding is handled by lengths, never by a mask array.

Shapes: B batch, T tokens, D width, H heads, K head width, F ffn width, V vocabulary, L layers, S positions.
"""

import dataclasses
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from cuma_jax.hub.model_files import read_config
from cuma_jax.runtime.errors import CumaError


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Shape of a BERT encoder."""

    vocab: int
    width: int
    layers: int
    heads: int
    ffn: int
    positions: int  # the longest sequence the learned positions cover, in tokens
    types: int  # rows of the token type table; every token here is of type 0
    norm_eps: float  # added to the variance in layer norms


_CONFIG_NAMES = {
    "vocab": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "positions": "max_position_embeddings",
}


def is_bert(folder: pathlib.Path) -> bool:
    """Whether `folder` holds a BERT checkpoint, by the `model_type` of its config.json."""
    return read_config(folder).get("model_type") == "bert"


def bert_config(folder: pathlib.Path) -> BertConfig:
    """Reads a Hugging Face config.json.

    Raises:
        CumaError: no such file, or a variant that this encoder does not compute (it names the field).
    """
    path = folder / "config.json"
    raw = read_config(folder)
    for field, default, allowed in (
        ("model_type", None, "bert"),
        ("hidden_act", "gelu", "gelu"),
        ("position_embedding_type", "absolute", "absolute"),
        ("is_decoder", False, False),
    ):
        if raw.get(field, default) != allowed:
            raise CumaError(
                f"{path}: {field} is {raw.get(field)!r}; the BERT encoder computes only {allowed!r}. "
                "Choose another profile.encoder."
            )
    if missing := [name for name in _CONFIG_NAMES.values() if name not in raw]:
        raise CumaError(f"{path}: lacks {', '.join(missing)}; it is not the config.json of a BERT checkpoint")
    config = BertConfig(
        **{ours: raw[theirs] for ours, theirs in _CONFIG_NAMES.items()},
        types=raw.get("type_vocab_size", 2),
        norm_eps=raw.get("layer_norm_eps", 1e-12),
    )
    if config.width % config.heads:
        raise CumaError(f"{path}: hidden_size {config.width} is not a multiple of the {config.heads} attention heads")
    return config


class Bert(nn.Module):
    """The encoder; `apply({'params': params}, tokens_BT, lengths_B)` gives the last layer's hidden states."""

    config: BertConfig

    @nn.compact
    def __call__(self, tokens_BT: jax.Array, lengths_B: jax.Array) -> jax.Array:
        """Encodes right-padded token rows.

        Args:
            tokens_BT: int32 token ids, special tokens included.
            lengths_B: int32, valid tokens of each row, at least 1; what follows them is never attended to.

        Returns:
            hidden_BTD, float32. Rows past a length hold what the padding itself computes.
        """
        config, length = self.config, tokens_BT.shape[1]
        tokens_VD = _weight(self, "tokens", (config.vocab, config.width), ("vocab", "embed"))
        positions_SD = _weight(self, "positions", (config.positions, config.width), (None, "embed"))
        types_ND = _weight(self, "types", (config.types, config.width), (None, "embed"))
        x_BTD = tokens_VD[tokens_BT] + (positions_SD[:length] + types_ND[:1])[None]
        x_BTD = _LayerNorm(config.norm_eps, name="embed_norm")(x_BTD)
        layers = nn.scan(
            _Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=config.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        x_BTD, _ = layers(config, name="layers")(x_BTD, lengths_B)
        return x_BTD


class _Layer(nn.Module):
    config: BertConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array, lengths_B: jax.Array) -> tuple[jax.Array, None]:
        config = self.config
        q_BTHK, k_BTHK, v_BTHK = (
            _dense(config.width, ("embed", "heads"), name)(x_BTD).reshape(*x_BTD.shape[:2], config.heads, -1)
            for name in ("q", "k", "v")
        )
        with jax.named_scope("attention"):
            y_BTHK = jax.nn.dot_product_attention(q_BTHK, k_BTHK, v_BTHK, key_value_seq_lengths=lengths_B)
        y_BTD = _dense(config.width, ("heads", "embed"), "o")(y_BTHK.reshape(x_BTD.shape))
        x_BTD = _LayerNorm(config.norm_eps, name="attn_norm")(x_BTD + y_BTD)
        h_BTF = jax.nn.gelu(_dense(config.ffn, ("embed", "mlp"), "up")(x_BTD), approximate=False)
        y_BTD = _dense(config.width, ("mlp", "embed"), "down")(h_BTF)
        return _LayerNorm(config.norm_eps, name="mlp_norm")(x_BTD + y_BTD), None


def _dense(width: int, axes: tuple[str, str], name: str) -> nn.Dense:
    normal, box = nn.initializers.normal(0.02), nn.with_logical_partitioning
    return nn.Dense(width, kernel_init=box(normal, axes), bias_init=box(normal, axes[1:]), name=name)


class _LayerNorm(nn.Module):
    eps: float

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        scale_D = _weight(self, "scale", x_BTD.shape[-1:], ("embed",), nn.initializers.ones)
        bias_D = _weight(self, "bias", x_BTD.shape[-1:], ("embed",))
        centred_BTD = x_BTD - x_BTD.mean(-1, keepdims=True)
        variance_BT1 = jnp.square(centred_BTD).mean(-1, keepdims=True)
        return centred_BTD * jax.lax.rsqrt(variance_BT1 + self.eps) * scale_D[None, None] + bias_D[None, None]


def _weight(module: nn.Module, name: str, shape: Any, axes: Any, init: Any = None) -> Any:
    init = init or nn.initializers.normal(0.02)
    return module.param(name, nn.with_logical_partitioning(init, axes), shape, jnp.float32)


# Our leaf -> the checkpoint's name (without .weight / .bias), inside encoder.layer.N.
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "attn_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
# Buffers of old transformers versions, and the classification head that a sentence encoder does not use.
_ACCEPTED_UNUSED = {
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "pooler.dense.weight",
    "pooler.dense.bias",
}


def load_bert(folder: pathlib.Path, config: BertConfig) -> dict[str, Any]:
    """Reads model.safetensors of a Hugging Face BERT folder into the tree of `Bert`, float32.

    A leading `bert.` in all names is taken off. Strict both ways, but for the pooler and index buffers, which are
    accepted and not used.

    Raises:
        CumaError: the file is missing or truncated, or a tensor is missing, unexpected, or of the wrong shape.
    """
    path = folder / "model.safetensors"
    if not path.is_file():
        raise CumaError(f"{path} does not exist; a BERT encoder needs its weights there (download the folder again)")
    try:
        with safetensors.safe_open(path, "numpy") as file:
            tensors = {name.removeprefix("bert."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CumaError(f"{path} cannot be read ({error}); it may be truncated: download it again") from error

    expected = _expected_shapes(config)
    missing = sorted(set(expected) - set(tensors))
    unexpected = sorted(set(tensors) - set(expected) - _ACCEPTED_UNUSED)
    if missing or unexpected:
        raise CumaError(f"{path}: missing tensors {missing}, unexpected tensors {unexpected}; is this a BERT encoder?")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise CumaError(f"{path}: {name} has shape {tensors[name].shape}; config.json asks for {shape}")
        tensors[name] = np.asarray(tensors[name], np.float32)

    def module(theirs: str, norm: bool) -> dict[str, np.ndarray]:
        weight, bias = tensors[f"{theirs}.weight"], tensors[f"{theirs}.bias"]
        return {"scale": weight, "bias": bias} if norm else {"kernel": weight.T, "bias": bias}

    def stacked(ours: str, theirs: str) -> dict[str, np.ndarray]:
        layers = [module(f"encoder.layer.{i}.{theirs}", ours.endswith("norm")) for i in range(config.layers)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *layers)

    return {
        "tokens": tensors["embeddings.word_embeddings.weight"],
        "positions": tensors["embeddings.position_embeddings.weight"],
        "types": tensors["embeddings.token_type_embeddings.weight"],
        "embed_norm": module("embeddings.LayerNorm", True),
        "layers": {ours: stacked(ours, theirs) for ours, theirs in _LAYER_NAMES.items()},
    }


def _expected_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    width, ffn = config.width, config.ffn
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab, width),
        "embeddings.position_embeddings.weight": (config.positions, width),
        "embeddings.token_type_embeddings.weight": (config.types, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for layer in range(config.layers):
        for ours, theirs in _LAYER_NAMES.items():
            out = ffn if ours == "up" else width
            kernel = (out,) if ours.endswith("norm") else (out, ffn if ours == "down" else width)
            shapes[f"encoder.layer.{layer}.{theirs}.weight"] = kernel
            shapes[f"encoder.layer.{layer}.{theirs}.bias"] = (out,)
    return shapes
