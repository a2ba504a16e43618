"""Loads a text encoder: from a BERT folder (MiniLM), from any decoder the project can load, or the backbone itself.

Shapes: B rows of one call, T tokens, D the encoder's width.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from cuma_jax.config import ProfileConfig
from cuma_jax.hub.model_files import ModelFiles, read_config, resolve
from cuma_jax.models.attention import rotary_table
from cuma_jax.models.decoder import Decoder, rms_norm
from cuma_jax.models.families import DecoderConfig, decoder_config
from cuma_jax.models.weights import fingerprint, load_params
from cuma_jax.profile_encoders.bert import Bert, bert_config, is_bert, load_bert
from cuma_jax.profile_encoders.text_encoder import Hidden, TextEncoder
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key
from cuma_jax.tokenization.tokenizer import Tokenizer, load_tokenizer


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The language model itself, as a text encoder."""

    config: DecoderConfig
    params: Any  # its 'params' tree, with `frozen_layers`, `adapted_layers` or both; it is not copied
    tokenizer: Tokenizer
    fingerprint: str  # hash of its weights
    source: str = "backbone"  # its name in messages
    dtype: Any = jnp.float32
    quantize: str = "none"


def load_encoder(config: ProfileConfig, cache_dir: str = "", backbone: Backbone | None = None) -> TextEncoder:
    """The encoder that `config.encoder` names.

    `backbone` is the loaded language model; needed when `config.encoder` is `backbone`.

    Raises:
        CumaError: the source cannot be had, or is neither a BERT encoder nor a decoder that the project knows.
    """
    if config.encoder == "backbone":
        if backbone is None:
            raise CumaError("profile.encoder is 'backbone', but no backbone is loaded here; name an encoder instead")
        return _backbone_encoder(config, backbone)
    files = resolve(config.encoder, "", cache_dir)
    if files.kind == "hf" and files.path is not None and is_bert(files.path):
        return _bert_encoder(config, files.path)
    return _decoder_encoder(config, files)


def _bert_encoder(config: ProfileConfig, folder: pathlib.Path) -> TextEncoder:
    shape = bert_config(folder)
    tokenize, pad_id = _folder_tokenizer(folder)

    def hidden(params: Any, tokens_BT: jax.Array, lengths_B: jax.Array) -> Any:
        return Bert(shape).apply({"params": params}, tokens_BT, lengths_B)

    digests = [_digest(folder / name) for name in ("config.json", "tokenizer.json", "model.safetensors")]
    return TextEncoder(
        source=config.encoder,
        fingerprint=content_key(*digests),
        width=shape.width,
        pooling=config.pooling,
        max_length=config.max_length,
        positions=shape.positions,
        tokenizer=content_key(digests[1]),
        tokenize=tokenize,
        pad_id=pad_id,
        dtype="float32",
        load=lambda: (hidden, jax.device_put(load_bert(folder, shape), jax.local_devices()[0])),
    )


def _decoder_encoder(config: ProfileConfig, files: ModelFiles) -> TextEncoder:
    # Only hidden states are wanted: an unembedding of its own would be read for nothing, and embedding models lack it.
    shape = dataclasses.replace(decoder_config(files), tied=True)
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    positions, digest = 0, b""
    if files.kind == "hf" and files.path is not None and (files.path / "tokenizer.json").is_file():
        # The encoder's own special tokens matter: Qwen3-Embedding's vector is that of the end token it appends.
        tokenize, pad_id = _folder_tokenizer(files.path)
        digest = _digest(files.path / "tokenizer.json")
        key = content_key(digest)
        positions = read_config(files.path).get("max_position_embeddings") or 0
    else:
        tokenizer = load_tokenizer(files, chat=False)
        key, tokenize, pad_id = tokenizer.fingerprint, tokenizer.encode, tokenizer.pad_id

    def load() -> tuple[Hidden, Any]:
        tokens, lengths = jnp.zeros((1, 2), jnp.int32), jnp.ones(1, jnp.int32)
        init = functools.partial(Decoder(shape, dtype=dtype).init, method="hidden")
        abstract = jax.eval_shape(init, jax.random.key(0), tokens, lengths)["params"]
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), nn.unbox(abstract))
        mesh = jax.sharding.Mesh(np.array(jax.local_devices()[:1]), ("device",))
        here = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        headless = dataclasses.replace(shape, tied=False)  # whatever head the file has is none of an encoder's
        params = load_params(files, headless, abstract, jax.tree.map(lambda _: here, abstract), shape.layers)
        return functools.partial(_decoder_hidden, Decoder(shape, dtype=dtype)), params

    return TextEncoder(
        source=config.encoder,
        fingerprint=content_key(fingerprint(files), digest),
        width=shape.width,
        pooling=config.pooling,
        max_length=config.max_length,
        positions=positions,
        tokenizer=key,
        tokenize=tokenize,
        pad_id=pad_id,
        dtype=str(np.dtype(dtype)),
        load=load,
    )


def _backbone_encoder(config: ProfileConfig, backbone: Backbone) -> TextEncoder:
    base = Decoder(backbone.config, dtype=backbone.dtype, quantize=backbone.quantize)
    stored = "" if backbone.quantize == "none" else f" in {backbone.quantize}"  # vectors of another storage differ
    hidden = functools.partial(_decoder_hidden, base)
    return TextEncoder(
        source=backbone.source,
        fingerprint=backbone.fingerprint + stored,
        width=backbone.config.width,
        pooling=config.pooling,
        max_length=config.max_length,
        positions=0,
        tokenizer=backbone.tokenizer.fingerprint,
        tokenize=backbone.tokenizer.encode,
        pad_id=backbone.tokenizer.pad_id,
        dtype=str(np.dtype(backbone.dtype)),
        load=lambda: (hidden, backbone.params),
    )


def _decoder_hidden(base: Decoder, params: Any, tokens_BT: jax.Array, lengths_B: jax.Array) -> jax.Array:
    """The bare base, whichever way its layers are split; lengths are not needed, because attention is causal."""
    del lengths_B
    ends = {name: value for name, value in params.items() if not name.endswith("_layers")}
    x_BTD: Any = None
    for stack in ("frozen_layers", "adapted_layers"):
        if stack in params:
            layers = len(params[stack]["attn_norm"])
            part = base.clone(config=dataclasses.replace(base.config, layers=layers))
            x_BTD = part.apply({"params": ends | {"frozen_layers": params[stack]}}, tokens_BT, x_BTD, method=_through)
    return rms_norm(x_BTD, params["final_norm"], base.config.norm_eps)


def _through(decoder: Decoder, tokens_BT: jax.Array, x_BTD: jax.Array | None) -> jax.Array:
    if x_BTD is None:
        return decoder.lower(tokens_BT)
    return decoder.frozen_layers(x_BTD, rotary_table(decoder.config, tokens_BT.shape[1]), None, None, None)[0]


def _folder_tokenizer(folder: pathlib.Path) -> tuple[Callable[[str], list[int]], int]:
    path = folder / "tokenizer.json"
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception, for a missing file too
        raise CumaError(f"{path} cannot be read ({error}); a text encoder's folder needs it") from error
    pad_id = (tokenizer.padding or {}).get("pad_id", 0)
    # Sentence encoders ship with truncation on; a text that is too long is an error here, never a shorter text.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: tokenizer.encode(text).ids, pad_id


def _digest(path: pathlib.Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise CumaError(f"{path} cannot be read ({error.strerror}); the encoder's folder is not complete") from error
