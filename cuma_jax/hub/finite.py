"""Whether stored numbers are finite, at the speed at which memory is read."""

from typing import Any

import numpy as np

from cuma_jax.runtime.errors import CumaError

_INFINITY = {"float64": 0x7FF0 << 48, "float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}
"""The bits of infinity: those of every finite number, without the sign, are less; those of every NaN are more."""


def all_finite(stored: np.ndarray) -> bool:
    """Whether there is neither NaN nor infinity.

    Two maxima of the bits as whole numbers: numpy has no fast `isfinite` of bfloat16, and none without a mask as large
    as the array.
    """
    infinity, bits = _INFINITY[stored.dtype.name], 8 * stored.dtype.itemsize
    if not stored.size:
        return True
    # Of positive numbers the signed maximum is the largest, of negative ones the unsigned.
    positive, any_sign = stored.view(f"i{bits // 8}").max(), stored.view(f"u{bits // 8}").max()
    return int(positive) < infinity and int(any_sign) < infinity + (1 << (bits - 1))


def check_finite(stored: np.ndarray, tensors: Any, name: str) -> np.ndarray:
    """What was read of a tensor, as it is; `tensors.file` says of which file.

    Raises:
        CumaError: it holds NaN or infinity.
    """
    if not all_finite(stored):
        raise CumaError(
            f"{tensors.file(name)}: tensor {name} holds numbers that are not finite; the file is damaged, or was saved "
            "by a training that had failed: delete it and fetch it again, or use another model"
        )
    return stored
