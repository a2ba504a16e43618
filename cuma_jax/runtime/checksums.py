"""Checksums of arrays: of their values, however they are laid out over devices and processes.

Every 32-bit word is hashed with its place in the array, and the hashes are added up. A sum of integers is the same in
any order, so that each device may sum its part; one word that differs always changes it.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any
_CHUNK = 1 << 18
_SEEDS = (0x9E3779B9, 0x85EBCA6B)


def checksums(tree: Tree) -> dict[str, str]:
    """The checksum of every leaf by its path, 16 hex digits and what its shape and type are. All processes call this.

    Arrays of host memory and of CPUs are summed on the host, others where they are.
    """
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    here = {name: leaf for name, leaf in leaves.items() if _is_here(leaf)}
    sums = {name: _host_sums(np.asarray(jax.device_get(leaf))) for name, leaf in here.items()}
    if away := {name: leaf for name, leaf in leaves.items() if name not in here}:
        sums |= jax.device_get(_device_sums(away))
    return {name: _text(sums[name], leaf) for name, leaf in leaves.items()}


def _is_here(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array):
        return True
    return leaf.is_fully_addressable and all(device.platform == "cpu" for device in leaf.devices())


def _text(sums: Any, leaf: Any) -> str:
    return "".join(f"{int(total):08x}" for total in sums) + f" {np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _host_sums(array: np.ndarray) -> list[int]:
    flat = np.ascontiguousarray(array).reshape(-1)
    totals = [0, 0]
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        word_N = part.view(f"uint{8 * part.dtype.itemsize}").astype(np.uint32)
        place_N = np.arange(start, start + len(part), dtype=np.uint64).astype(np.uint32)
        for i, seed in enumerate(_SEEDS):
            totals[i] += int(_mixed(word_N, place_N, seed).sum(dtype=np.uint64))
    return [total & 0xFFFFFFFF for total in totals]


@jax.jit
def _device_sums(leaves: dict[str, jax.Array]) -> dict[str, list[jax.Array]]:
    def sums(leaf: jax.Array) -> list[jax.Array]:
        kind = jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
        plain = leaf.dtype in (kind, bool)
        words = leaf if plain else jax.lax.bitcast_convert_type(leaf, kind)
        place = jnp.zeros(leaf.shape, jnp.uint32)
        for axis in range(leaf.ndim):
            stride = math.prod(leaf.shape[axis + 1 :]) & 0xFFFFFFFF
            place += jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis) * np.uint32(stride)
        return [_mixed(words.astype(jnp.uint32), place, seed).sum(dtype=jnp.uint32) for seed in _SEEDS]

    return {name: sums(leaf) for name, leaf in leaves.items()}


def _mixed(word: Any, place: Any, seed: int) -> Any:
    """MurmurHash3's finaliser of a word and its place, uint32: one-to-one in the word."""
    h = word ^ (place * np.uint32(seed) + np.uint32(seed ^ 0xC2B2AE35))
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))
