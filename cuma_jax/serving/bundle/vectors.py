"""Profile vectors on disk: where a vector is its fields' blocks side by side, each block once for each value.

Shapes: P profiles, F fields, M width of a vector, V values of a field (the last row: missing).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cuma_jax.profile_encoders.profile_table import ProfileTable

_BLOCK = "block_{}"


def packed(table: ProfileTable) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """`ProfileTable.saved`, in fewer numbers where that gives back the same bits."""
    about, arrays = table.saved()
    blocks = _blocks(table)
    if blocks is None:
        return about, arrays
    del arrays["vectors"]
    return about, arrays | {_BLOCK.format(f): block_VM for f, block_VM in enumerate(blocks)}


def unpacked(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ProfileTable:
    """The table that `packed` was given, without an encoder. A KeyError where something is missing."""
    whole = dict(arrays)
    if "vectors" not in whole:
        fields = range(whole["codes"].shape[1])
        parts = [whole.pop(_BLOCK.format(f))[whole["codes"][:, f]] for f in fields]
        whole["vectors"] = np.concatenate(parts, axis=1)
    return ProfileTable.restored(about, whole)


def _blocks(table: ProfileTable) -> list[np.ndarray] | None:
    """One block a field, [V+1,M'] (code -1 is the last row); None where a vector is not made of such blocks."""
    widths, codes_PF = table.embedder.widths, table.codes_PF
    if len(widths) != codes_PF.shape[1] or sum(widths) != table.width:
        return None
    blocks, first = [], 0
    for codes_P, width in zip(codes_PF.T, widths, strict=True):
        part_PM = table.vectors_PM[:, first : first + width]
        block_VM = np.zeros((int(codes_P.max(initial=-1)) + 2, width), np.float32)
        block_VM[codes_P] = part_PM
        if not np.array_equal(block_VM[codes_P], part_PM):  # vectors were dealt anew (profile.shuffle)
            return None
        blocks.append(block_VM)
        first += width
    return blocks
