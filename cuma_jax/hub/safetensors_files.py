"""Reading the safetensors files of a Hugging Face folder, one slice at a time."""

import math
from pathlib import Path
from typing import Any

import safetensors

from cuma_jax.hub.model_files import weight_files
from cuma_jax.runtime.errors import CumaError

_DTYPES = ("F64", "F32", "F16", "BF16")
_OTHERS = ("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")  # buffers that are not read, but looked at
_MOST_AXES = 32  # numpy has room for 64


def open_safetensors(path: Path) -> dict[str, Any]:
    """The tensors of a file by name, each a slice that nothing is read of yet.

    Raises:
        CumaError: a missing, truncated or malformed file, or a tensor that numpy cannot hold.
    """
    try:
        file: Any = safetensors.safe_open(path, "numpy")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CumaError(
            f"{path} is truncated or not a safetensors file ({error}); delete it and fetch it again"
        ) from None
    for name, part in slices.items():
        if part.get_dtype() not in _DTYPES + _OTHERS:
            raise _unsupported(path, name, part.get_dtype())
        if (axes := len(part.get_shape())) > _MOST_AXES:
            raise CumaError(f"{path}: tensor {name} has {axes} axes; fetch the file again")
    return slices


def _unsupported(path: Path, name: str, dtype: str) -> CumaError:
    return CumaError(f"{path}: tensor {name} is {dtype}; supported are {', '.join(_DTYPES)} (not quantised)")


class SafetensorsFolder:
    """The tensors of a folder, over all its shards, and their shapes, as stored ([out, in] linears)."""

    def __init__(self, folder: Path):
        """Reads the headers of every file.

        Raises:
            CumaError: a missing, truncated or malformed file, named; or a tensor that is in two files.
        """
        self._path: dict[str, Path] = {}
        self._slices: dict[str, Any] = {}
        for path in weight_files(folder):
            slices = open_safetensors(path)
            for name in slices:
                if name in self._path:
                    raise CumaError(f"{path}: tensor {name} is also in {self._path[name].name}; remove one of them")
                self._path[name] = path
            self._slices |= slices
        # A base model saved without its head (Qwen3-Embedding) has no `model.` in front of its names.
        if not any(name.startswith("model.") for name in self._slices):
            rename = {name: name if name.startswith("lm_head.") else f"model.{name}" for name in self._slices}
            self._path = {rename[name]: path for name, path in self._path.items()}
            self._slices = {rename[name]: part for name, part in self._slices.items()}
        self.shapes = {name: tuple(part.get_shape()) for name, part in self._slices.items()}

    def read(self, name: str) -> Any:
        """The tensor; indexing it with slices reads what is asked for, a numpy array.

        Raises:
            CumaError: a dtype other than F64, F32, F16, BF16.
        """
        if (dtype := self.dtype(name)) not in _DTYPES:
            raise _unsupported(self._path[name], name, dtype)
        return self._slices[name]

    def file(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._path[name]

    def nbytes(self, name: str) -> int:
        """How many bytes are stored."""
        part = self._slices[name]
        return math.prod(self.shapes[name]) * (part[:0] if self.shapes[name] else part[...]).dtype.itemsize

    def raw_bytes(self, name: str, start: int, stop: int) -> bytes:
        """Stored bytes `start` to `stop`; only the rows that hold them are read."""
        if not self.shapes[name]:
            return self._slices[name][...].tobytes()[start:stop]
        row = max(self.nbytes(name) // max(self.shapes[name][0], 1), 1)
        first, last = start // row, -(-stop // row)
        return self._slices[name][first:last].tobytes()[start - first * row : stop - first * row]

    def dtype(self, name: str) -> str:
        """The stored type, e.g. BF16."""
        return str(self._slices[name].get_dtype())
