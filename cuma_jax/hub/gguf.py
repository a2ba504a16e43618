"""Reading GGUF files: metadata, tokenizer fields, and tensors dequantised into Hugging Face names and layout."""

import functools
import math
import re
import shlex
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cuma_jax.hub.schema import COUNT
from cuma_jax.runtime.errors import CumaError, os_error_text

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

_STRING, _ARRAY, _F32 = 8, 9, 0
_MOST_AXES = 8  # ggml has 4
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


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
    file = open_gguf(path)
    fields = {key: value for key, value in file.fields.items() if not key.startswith("tokenizer.")}
    fields["tensors"] = {name: tensor.shape for name, tensor in file.tensors.items()}
    if (freqs := file.tensors.get(ROPE_FREQS)) is not None:
        if freqs.kind != _F32:
            raise CumaError(f"{path}: {ROPE_FREQS} is not F32; use another file of this model")
        fields["rope_freqs"] = file.raw_bytes(ROPE_FREQS).view(np.float32).astype(np.float64)
    return fields


def read_tokenizer(path: Path) -> dict[str, Any]:
    """The `tokenizer.*` fields: tokens, types and merges as lists, the rest as they are."""
    return {key: value for key, value in open_gguf(path).fields.items() if key.startswith("tokenizer.")}


class GGUFTensor(NamedTuple):
    """Where a tensor lies: its shape in numpy order, its ggml type, and its range of bytes in the file."""

    shape: tuple[int, ...]
    kind: int
    begin: int
    end: int


class GGUFFile:
    """The header of a GGUF file, parsed (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), and its bytes.

    The gguf package's own reader takes five seconds for a vocabulary of 49,152, because it makes arrays of every
    string; this one takes a tenth of a second. The package is used for what it is needed for: dequantising.

    Attributes:
        fields: metadata key -> value.
        tensors: GGUF name -> GGUFTensor.
    """

    def __init__(self, path: Path):
        """Reads the header.

        Raises:
            ValueError: not a little-endian GGUF file of version 2 or 3, or one that ends too early.
        """
        import gguf

        self._bytes = np.memmap(path, np.uint8, mode="r")
        self._view, self._at = self._bytes.data, 0
        if bytes(self._take(4)) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        if (version := self._number("I")) not in (2, 3):
            raise ValueError(f"version {version}; 2 and 3 are known")
        n_tensors, n_fields = self._number("Q"), self._number("Q")
        self.fields: dict[str, Any] = {}
        for _ in range(n_fields):
            key = self._string()
            if key in self.fields:
                raise ValueError(f"{key} is there twice")
            self.fields[key] = self._value(self._number("I"))
        infos = []
        for _ in range(n_tensors):
            name, axes = self._string(), self._number("I")
            if axes > _MOST_AXES:
                raise ValueError(f"tensor {name} has {axes} axes")
            dims = [self._number("Q") for _ in range(axes)]
            infos.append((name, tuple(reversed(dims)), self._number("I"), self._number("Q")))
        alignment = self.fields.get("general.alignment", 32)
        if not COUNT.holds(alignment):
            raise ValueError(f"general.alignment is {alignment!r}; it must be {COUNT.words}")
        start = -(-self._at // alignment) * alignment
        self.tensors: dict[str, GGUFTensor] = {}
        for name, shape, kind, offset in infos:
            block, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
            end = start + offset + math.prod(shape) // block * block_bytes
            if end > len(self._bytes):
                raise ValueError(f"{len(self._bytes)} bytes, and tensor {name} ends at {end}")
            self.tensors[name] = GGUFTensor(shape, kind, start + offset, end)

    def raw_bytes(self, name: str) -> np.ndarray:
        """The stored bytes of a tensor, flat uint8, not copied."""
        return self._bytes[self.tensors[name].begin : self.tensors[name].end]

    def _take(self, count: int) -> memoryview:
        if self._at + count > len(self._view):
            raise ValueError("the header is cut off")
        self._at += count
        return self._view[self._at - count : self._at]

    def _number(self, code: str) -> Any:
        return struct.unpack("<" + code, self._take(struct.calcsize(code)))[0]

    def _string(self) -> str:
        return str(self._take(self._number("Q")), "utf-8")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._number(_NUMBERS[kind])
        item, count = self._number("I"), self._number("Q")
        if item in (_STRING, _ARRAY):
            return [self._value(item) for _ in range(count)]
        dtype = np.dtype(_NUMBERS[item]).newbyteorder("<")
        return np.frombuffer(self._take(count * dtype.itemsize), dtype).tolist()


def open_gguf(path: Path) -> GGUFFile:
    """The header of a file; parsed once in a process.

    Raises:
        CumaError: not a GGUF file, a truncated one, or no gguf package.
    """
    stat = path.stat()
    return _open(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _open(path: Path, size: int, mtime_ns: int) -> GGUFFile:
    del size, mtime_ns  # part of the key: a file that was replaced is read again
    try:
        file = GGUFFile(path)
    except ImportError:
        raise CumaError(f"{path}: GGUF files need the gguf package: pip install gguf") from None
    except OSError as error:  # it may not be read, or the disk fails: to fetch it again is no help
        raise CumaError(os_error_text(error, path)) from None
    except (ValueError, KeyError, OverflowError, MemoryError, RecursionError) as error:
        raise CumaError(f"{path} is truncated or not a GGUF file ({error}); delete it and fetch it again") from error
    _check_whole(path, file.fields)
    return file


def _check_whole(path: Path, fields: Mapping[str, Any]) -> None:
    parts, number = fields.get("split.count", 0), fields.get("split.no", "?")
    if parts not in (0, 1):
        first = re.sub(r"-\d{5}-of-(\d{5})\.gguf$", r"-00001-of-\1.gguf", str(path))
        whole = re.sub(r"-\d{5}-of-\d{5}\.gguf$", "", str(path)).removesuffix(".gguf") + "-merged.gguf"
        raise CumaError(
            f"{path} is part {number + 1 if isinstance(number, int) else number} of {parts} of a model (split.count); "
            f"merge the parts first, with llama.cpp: llama-gguf-split --merge {shlex.quote(first)} {shlex.quote(whole)}"
        )


class GGUFTensors:
    """The tensors of one GGUF file under Hugging Face names, in Hugging Face layout ([out, in] linears)."""

    def __init__(self, path: Path, heads: int, kv_heads: int):
        # The numbers of heads are needed to undo llama's rope permutation.
        self.path, self._file = path, open_gguf(path)
        self._names = {hf_name(name): name for name in self._file.tensors if name != ROPE_FREQS}
        self.shapes = {name: self._file.tensors[own].shape for name, own in self._names.items()}
        self._permuted = self._file.fields.get("general.architecture") == "llama"
        self._heads = {"q_proj": heads, "k_proj": kv_heads}

    def read(self, name: str) -> np.ndarray:
        """The whole tensor, dequantised to float32 (blocks run along the input, so rows cannot be cut finely).

        Raises:
            CumaError: a quantisation that the gguf package does not dequantise.
        """
        import gguf

        shape, kind = self.shapes[name], gguf.GGMLQuantizationType(self._file.tensors[self._names[name]].kind)
        try:
            stored = self._file.raw_bytes(self._names[name]).reshape(gguf.quants.quant_shape_to_byte_shape(shape, kind))
            values = gguf.quants.dequantize(stored, kind)
        except (NotImplementedError, ValueError):
            raise CumaError(
                f"{self.path}: tensor {self._names[name]} has type {kind.name} and shape {shape}, which cannot be "
                "dequantised; use a file with F32, F16, BF16, Q8_0, Q4_0, Q4_1 or K-quants"
            ) from None
        part = name.split(".")[-2]
        return unpermute(values, self._heads[part]) if self._permuted and part in self._heads else values

    def file(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self.path

    def nbytes(self, name: str) -> int:
        """How many bytes are stored."""
        return len(self._file.raw_bytes(self._names[name]))

    def raw_bytes(self, name: str, start: int, stop: int) -> bytes:
        """Stored bytes `start` to `stop`."""
        return self._file.raw_bytes(self._names[name])[start:stop].tobytes()

    def dtype(self, name: str) -> str:
        """The stored type, e.g. Q4_1."""
        import gguf

        return gguf.GGMLQuantizationType(self._file.tensors[self._names[name]].kind).name


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undoes what llama.cpp's converter does to q and k of Llama models: [heads, K/2, 2] rows back to [heads, 2, K/2].

    llama.cpp rotates neighbouring pairs, Hugging Face rotates halves.
    """
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
