"""Reading GGUF files: metadata, tokenizer fields, and tensors dequantised into Hugging Face names and layout."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cuma_jax.errors import CumaError

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ROPE_FREQS = "rope_freqs.weight"
"""The result of llama3 rope scaling, one divisor per frequency; part of the config, not of the weights."""


def hf_name(name: str) -> str:
    """The Hugging Face name of a GGUF tensor; a name with no counterpart is returned as it is."""
    stem, _, kind = name.rpartition(".")
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)", stem):
        layer, part = match.groups()
        return f"model.layers.{layer}.{_LAYER[part]}.{kind}" if part in _LAYER else name
    return f"{_TOP[stem]}.{kind}" if stem in _TOP else name


def read_fields(path: Path) -> Mapping[str, Any]:
    """Metadata without the tokenizer's, with `tensors` (GGUF name -> shape, numpy order) and `rope_freqs` if present.

    Raises:
        CumaError: not a GGUF file, or a truncated one.
    """
    reader = open_gguf(path)
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("tokenizer.")}
    fields["tensors"] = {t.name: tensor_shape(t) for t in reader.tensors}
    for tensor in reader.tensors:
        if tensor.name == ROPE_FREQS:
            fields["rope_freqs"] = np.array(tensor.data, np.float64)
    return fields


def read_tokenizer(path: Path) -> dict[str, Any]:
    """The `tokenizer.*` fields: tokens, types and merges as lists, the rest as they are."""
    return {key: f.contents() for key, f in open_gguf(path).fields.items() if key.startswith("tokenizer.")}


def tensor_shape(tensor: Any) -> tuple[int, ...]:
    """Shape in numpy order; GGUF lists the fastest dimension first."""
    return tuple(int(n) for n in reversed(tensor.shape))


def open_gguf(path: Path) -> Any:
    """A `gguf.GGUFReader` (memory-mapped); parsed once per file in a process, because that takes seconds.

    Raises:
        CumaError: not a GGUF file, or a truncated one.
    """
    stat = path.stat()
    return _open(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _open(path: Path, size: int, mtime_ns: int) -> Any:
    del size, mtime_ns  # part of the key: a file that was replaced is read again
    try:
        import gguf
    except ImportError:
        raise CumaError(f"{path}: GGUF files need the gguf package: pip install gguf") from None
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise CumaError(f"{path} is truncated or not a GGUF file ({error}); fetch it again") from error


class GGUFTensors:
    """The tensors of one GGUF file under Hugging Face names, in Hugging Face layout ([out, in] linears).

    Attributes:
        shapes: Hugging Face name -> shape.
    """

    def __init__(self, path: Path, heads: int, kv_heads: int):
        """Args: path: the file; heads, kv_heads: H and G, needed to undo llama's rope permutation."""
        reader = open_gguf(path)
        self.path = path
        self._tensors = {hf_name(t.name): t for t in reader.tensors if t.name != ROPE_FREQS}
        self.shapes = {name: tensor_shape(t) for name, t in self._tensors.items()}
        self._permuted = str(reader.fields["general.architecture"].contents()) == "llama"
        self._heads = {"q_proj": heads, "k_proj": kv_heads}

    def read(self, name: str) -> np.ndarray:
        """The whole tensor, dequantised to float32 (blocks run along the input, so rows cannot be cut finely).

        Raises:
            CumaError: a quantisation that the gguf package does not dequantise.
        """
        import gguf

        tensor = self._tensors[name]
        try:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise CumaError(
                f"{self.path}: tensor {tensor.name} has type {tensor.tensor_type.name}, which cannot be dequantised; "
                "use a file with F32, F16, BF16, Q8_0, Q4_0, Q4_1 or K-quants"
            ) from None
        values = values.reshape(self.shapes[name])
        part = name.split(".")[-2]
        return unpermute(values, self._heads[part]) if self._permuted and part in self._heads else values

    def raw_bytes(self, name: str) -> np.ndarray:
        """The stored bytes, flat uint8, not copied."""
        return self._tensors[name].data.reshape(-1).view(np.uint8)

    def dtype(self, name: str) -> str:
        """The stored type, e.g. Q4_1."""
        return self._tensors[name].tensor_type.name


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undoes what llama.cpp's converter does to q and k of Llama models: [heads, K/2, 2] rows back to [heads, 2, K/2].

    llama.cpp rotates neighbouring pairs, Hugging Face rotates halves.
    """
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
