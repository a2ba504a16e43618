"""The frozen weights: from files straight to the devices that hold them, strict both ways.

Every leaf is read shard by shard; what a process holds on the host at any time is its own share of one leaf.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.errors import CumaError
from cuma_jax.models.families import DecoderConfig
from cuma_jax.models.gguf import GGUFTensors, read_fields
from cuma_jax.models.safetensors_files import SafetensorsFolder
from cuma_jax.models.sources import ModelFiles

Progress = Callable[[int, int], None]
"""Called with (tensors read, tensors to read)."""

_TOP = {"embed": "model.embed_tokens.weight", "final_norm": "model.norm.weight", "unembed": "lm_head.weight"}
_NORMS = {
    "attn_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
}
_LINEARS = {name: f"self_attn.{name}_proj" for name in "qkvo"} | {n: f"mlp.{n}_proj" for n in ("gate", "up", "down")}
_SAMPLE_BYTES, _SAMPLE_PIECES = 4096, 16


class Tensors(Protocol):
    """A file format under Hugging Face names and layout."""

    shapes: dict[str, tuple[int, ...]]

    def read(self, name: str) -> np.ndarray:
        """One tensor; indexing it is what reads, where the format allows."""

    def raw_bytes(self, name: str) -> np.ndarray:
        """The stored bytes, flat uint8."""

    def dtype(self, name: str) -> str:
        """The stored type."""


def load_params(
    files: ModelFiles,
    config: DecoderConfig,
    abstract: Mapping[str, Any],
    shardings: Mapping[str, Any],
    n_frozen: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The base's parameter tree, each shard read to its device.

    Args:
        files: where the weights are; `random` draws them (`random_params`, seed 0).
        config: the decoder's config.
        abstract: tree of jax.ShapeDtypeStruct, as `Decoder` names its 'params'; layers stacked [L, ...].
        shardings: tree of jax.sharding.Sharding, same structure.
        n_frozen: layers below the first of `adapted_layers`.
        progress: called as tensors are read.

    Raises:
        CumaError: missing and unexpected tensors (all of them, in one message), wrong shapes, truncated files.
    """
    if files.kind == "random":
        return random_params(abstract, shardings, 0)
    tensors = open_tensors(files, config)
    leaves, structure = jax.tree_util.tree_flatten_with_path(abstract)
    plan = [(_sources(path, leaf, n_frozen), leaf) for path, leaf in leaves]
    _check(tensors, config, plan, files.source)
    total, done, arrays = sum(len(names) for (names, _), _ in plan), 0, []
    for ((names, stacked), leaf), sharding in zip(plan, jax.tree.leaves(shardings), strict=True):
        arrays.append(_load_leaf(tensors, names, stacked, leaf, sharding))
        done += len(names)
        if progress is not None:
            progress(done, total)
    return jax.tree_util.tree_unflatten(structure, arrays)


def random_params(abstract: Mapping[str, Any], shardings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Random base weights, made on the devices: matrices normal(0.02), norms one, biases zero.

    The values depend on the seed, the parameter's name and its layer, not on the mesh and not on how the layers are
    divided into frozen and adapted ones.
    """
    n_frozen = next((leaf.shape[0] for leaf in jax.tree.leaves(abstract.get("frozen_layers", {}))), 0)

    def make(key: jax.Array) -> Any:
        def leaf(path: Any, want: jax.ShapeDtypeStruct) -> jax.Array:
            *group, name = (str(entry.key) for entry in path)
            if name.endswith("norm"):
                return jnp.ones(want.shape, want.dtype)
            if name.endswith("bias"):
                return jnp.zeros(want.shape, want.dtype)
            own = jax.random.fold_in(key, zlib.crc32(name.encode()))
            if not group:
                return (0.02 * jax.random.normal(own, want.shape, jnp.float32)).astype(want.dtype)
            layers = jnp.arange(want.shape[0]) + (0 if group[0] == "frozen_layers" else n_frozen)
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(own, layers)
            draw = jax.vmap(lambda one: 0.02 * jax.random.normal(one, want.shape[1:], jnp.float32))
            return draw(keys).astype(want.dtype)

        return jax.tree_util.tree_map_with_path(leaf, abstract)

    return jax.jit(make, out_shardings=shardings)(jax.random.key(seed))


def open_tensors(files: ModelFiles, config: DecoderConfig) -> Tensors:
    """The tensors of a Hugging Face folder or a GGUF file, under Hugging Face names."""
    assert files.path is not None
    if files.kind == "gguf":
        return GGUFTensors(files.path, config.heads, config.kv_heads)
    return SafetensorsFolder(files.path)


def fingerprint(files: ModelFiles) -> str:
    """A sha256 that tells one base from another, cheaply: config, and per tensor its name, shape, dtype and 4 KiB.

    The 4 KiB are spread evenly through the tensor's bytes. How the tensors are spread over files does not matter.
    """
    digest = hashlib.sha256()
    if files.kind == "random":
        digest.update(f"random:{files.shape}:seed 0".encode())
        return digest.hexdigest()
    assert files.path is not None
    if files.kind == "gguf":
        fields = {k: v for k, v in read_fields(files.path).items() if k not in ("tensors", "rope_freqs")}
    else:
        fields = json.loads((files.path / "config.json").read_text(encoding="utf-8"))
    digest.update(json.dumps(fields, sort_keys=True, default=str).encode())
    # No config is needed to look at stored bytes, so that this works for any family, encoders included.
    tensors: Tensors = GGUFTensors(files.path, 1, 1) if files.kind == "gguf" else SafetensorsFolder(files.path)
    for name in sorted(tensors.shapes):
        digest.update(f"{name} {tensors.shapes[name]} {tensors.dtype(name)}".encode())
        raw = tensors.raw_bytes(name)
        if raw.size <= _SAMPLE_BYTES:
            digest.update(raw.tobytes())
            continue
        piece = _SAMPLE_BYTES // _SAMPLE_PIECES
        for start in np.linspace(0, raw.size - piece, _SAMPLE_PIECES).astype(int):
            digest.update(raw[start : start + piece].tobytes())
    return digest.hexdigest()


def _sources(path: Any, leaf: jax.ShapeDtypeStruct, n_frozen: int) -> tuple[list[str], bool]:
    """The tensors that make a leaf, and whether they are stacked along a leading axis."""
    keys = [str(entry.key) for entry in path]
    if len(keys) == 1:
        return [_TOP[keys[0]]], False
    first = {"frozen_layers": 0, "adapted_layers": n_frozen}[keys[0]]
    return [layer_tensor(keys[1], first + i) for i in range(leaf.shape[0])], True


def layer_tensor(leaf: str, layer: int) -> str:
    """The Hugging Face name of a layer's parameter, e.g. (`q_bias`, 3) -> model.layers.3.self_attn.q_proj.bias."""
    if leaf in _NORMS:
        return f"model.layers.{layer}.{_NORMS[leaf]}.weight"
    linear, bias = leaf.removesuffix("_bias"), leaf.endswith("_bias")
    return f"model.layers.{layer}.{_LINEARS[linear]}.{'bias' if bias else 'weight'}"


def _stored_shape(shape: tuple[int, ...], stacked: bool) -> tuple[int, ...]:
    """The shape that a file has for a leaf: linears are stored [out, in], and kernels here are [in, out]."""
    return shape[1:][::-1] if stacked else shape


def _check(tensors: Tensors, config: DecoderConfig, plan: list[Any], source: str) -> None:
    expected = {name: _stored_shape(leaf.shape, stacked) for (names, stacked), leaf in plan for name in names}
    missing = sorted(set(expected) - set(tensors.shapes))
    unexpected = sorted(n for n in set(tensors.shapes) - set(expected) if not _may_be_left(n))
    problems = []
    if missing:
        problems.append(f"missing: {_listed(missing)}")
    if unexpected:
        problems.append(f"unexpected: {_listed(unexpected)}")
    for name, shape in expected.items():
        if name in tensors.shapes and tensors.shapes[name] != shape:
            problems.append(f"wrong shape: {name} is {tensors.shapes[name]}, expected {shape}")
    if problems:
        raise CumaError(
            f"{source}: the weights do not fit the {config.family} config; "
            + "; ".join(problems[:20])
            + ". Fetch the model again, or check that config and weights belong together"
        )


def _may_be_left(name: str) -> bool:
    # Old checkpoints carry the rotary frequencies as buffers; tied models may repeat the embedding as the head.
    return name.endswith("rotary_emb.inv_freq") or name == _TOP["unembed"]


def _listed(names: list[str]) -> str:
    """All the names, the layers of one parameter folded into one entry."""
    layers: dict[str, list[int]] = {}
    for name in names:
        match = re.match(r"(model\.layers\.)(\d+)(\..*)", name)
        layers.setdefault(f"{match[1]}*{match[3]}" if match else name, []).append(int(match[2]) if match else 0)
    return ", ".join(
        name if "*" not in name else f"{name} (layers {', '.join(map(str, sorted(found)))})"
        for name, found in layers.items()
    )


def _load_leaf(
    tensors: Tensors, names: list[str], stacked: bool, leaf: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding
) -> jax.Array:
    shape = tuple(leaf.shape)
    indices = {_bounds(index, shape) for index in sharding.addressable_devices_indices_map(shape).values()}
    # Tensors are the outer loop and shards the inner one, so that a quantised tensor is dequantised once.
    buffers = {bounds: np.empty([stop - start for start, stop in bounds], leaf.dtype) for bounds in indices}
    for layer, name in enumerate(names):
        wanted = [b for b in buffers if not stacked or b[0][0] <= layer < b[0][1]]
        values = tensors.read(name) if wanted else None
        for bounds in wanted:
            assert values is not None
            inner = bounds[1:] if stacked else bounds
            if stacked:
                part = values[tuple(slice(*b) for b in reversed(inner))].T
                buffers[bounds][layer - bounds[0][0]] = part
            else:
                buffers[bounds][...] = values[tuple(slice(*b) for b in inner)]
    return jax.make_array_from_callback(shape, sharding, lambda index: buffers[_bounds(index, shape)])


def _bounds(index: tuple[slice, ...] | None, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    assert index is not None
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
