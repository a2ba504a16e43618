"""Reading the safetensors files of a Hugging Face folder, one slice at a time.

Format: 8 bytes little-endian header length, a JSON header (name -> dtype, shape, byte range), then the bytes
(https://github.com/huggingface/safetensors#format). Files are memory-mapped, so that a slice costs only its pages.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from cuma_jax.hub.model_files import weight_files
from cuma_jax.runtime.errors import CumaError

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_LONGEST_HEADER = 100_000_000  # the limit of the reference implementation


class _Entry(NamedTuple):
    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFolder:
    """The tensors of a folder, over all its shards.

    Attributes:
        shapes: tensor name -> shape, as stored ([out, in] linears).
    """

    def __init__(self, folder: Path):
        """Reads the headers of every file.

        Raises:
            CumaError: a missing, truncated or malformed file, named.
        """
        self._tensors: dict[str, _Entry] = {}
        self._maps: dict[Path, np.ndarray] = {}
        for path in weight_files(folder):
            self._read_header(path)
        self.shapes = {name: entry.shape for name, entry in self._tensors.items()}
        # A base model saved without its head (Qwen3-Embedding) has no `model.` in front of its names.
        if not any(name.startswith("model.") for name in self.shapes):
            rename = {name: name if name.startswith("lm_head.") else f"model.{name}" for name in self.shapes}
            self._tensors = {rename[name]: entry for name, entry in self._tensors.items()}
            self.shapes = {rename[name]: shape for name, shape in self.shapes.items()}

    def read(self, name: str) -> np.ndarray:
        """The tensor as a view into the mapped file; indexing it reads only what is asked for.

        Raises:
            CumaError: a dtype other than F64, F32, F16, BF16.
        """
        path, dtype, shape, *_ = self._tensors[name]
        if dtype not in _DTYPES:
            raise CumaError(f"{path}: tensor {name} is {dtype}; supported are {', '.join(_DTYPES)} (not quantised)")
        return self.raw_bytes(name).view(_DTYPES[dtype]).reshape(shape)

    def raw_bytes(self, name: str) -> np.ndarray:
        """The stored bytes, flat uint8, not copied."""
        entry = self._tensors[name]
        return self._maps[entry.path][entry.begin : entry.end]

    def dtype(self, name: str) -> str:
        """The stored type, e.g. BF16."""
        return self._tensors[name].dtype

    def _read_header(self, path: Path) -> None:
        size = path.stat().st_size
        broken = f"{path} is truncated or not a safetensors file"
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _LONGEST_HEADER):
                raise CumaError(f"{broken} (its header is cut off); fetch it again")
            try:
                header = json.loads(file.read(length))
                header.pop("__metadata__", None)
                entries = {name: self._entry(path, 8 + length, **entry) for name, entry in header.items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CumaError(f"{broken} (its header cannot be read: {error}); fetch it again") from None
        needed = max((entry.end for entry in entries.values()), default=0)
        if needed > size:
            raise CumaError(f"{path} is truncated: {size} bytes, {needed} by its header; fetch it again")
        for name, entry in entries.items():
            if name in self._tensors:
                raise CumaError(f"{path}: tensor {name} is also in {self._tensors[name].path.name}; remove one of them")
            held, itemsize = entry.end - entry.begin, _DTYPES.get(entry.dtype, np.dtype(np.uint8)).itemsize
            if entry.dtype in _DTYPES and held != math.prod(entry.shape) * itemsize:
                raise CumaError(f"{broken} (tensor {name} has {held} bytes for shape {entry.shape}); fetch it again")
            self._tensors[name] = entry
        self._maps[path] = np.memmap(path, np.uint8, mode="r")

    @staticmethod
    def _entry(path: Path, start: int, dtype: str, shape: list[int], data_offsets: list[int]) -> _Entry:
        begin, end = data_offsets
        return _Entry(path, dtype, tuple(shape), start + begin, start + end)
