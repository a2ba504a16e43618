"""The frozen weights: from files straight to the devices that hold them, strict both ways.

Every leaf is read shard by shard; what a process holds on the host at any time is its own share of one leaf. A linear
kept in int8 is two leaves, itself and `<name>_scale`, made together, tensor by tensor, as the files are read.

Shapes: L layers of a stack, I input and O output width of a linear. Files hold a linear as [O,I]; here it is [I,O].
"""

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from cuma_jax.hub.finite import check_finite
from cuma_jax.hub.gguf import GGUFTensors, read_fields
from cuma_jax.hub.model_files import ModelFiles, read_config
from cuma_jax.hub.safetensors_files import SafetensorsFolder
from cuma_jax.models.families import DecoderConfig
from cuma_jax.models.quantised import output_scales, quantise_into
from cuma_jax.runtime.errors import CumaError

_TOP = {"embed": "model.embed_tokens.weight", "final_norm": "model.norm.weight", "unembed": "lm_head.weight"}
_NORMS = {
    "attn_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
}
_LINEARS = {name: f"self_attn.{name}_proj" for name in "qkvo"} | {n: f"mlp.{n}_proj" for n in ("gate", "up", "down")}
_SAMPLE_BYTES, _SAMPLE_PIECES = 4096, 16
_HEAD_ROWS = 8192  # of a head and the embedding, compared at once


def load_params(
    files: ModelFiles,
    config: DecoderConfig,
    abstract: Mapping[str, Any],
    shardings: Mapping[str, Any],
    n_frozen: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The base's parameter tree, each shard read to its device.

    Args:
        abstract: tree of jax.ShapeDtypeStruct, as `Decoder` names its 'params'; layers stacked [L, ...].
        n_frozen: layers below the first of `adapted_layers`.
        progress: called with (tensors read, tensors to read); None: a bar, where stderr is a terminal.

    Raises:
        CumaError: missing and unexpected tensors (all of them, in one message), wrong shapes, truncated files, numbers
            that are not finite.
    """
    if files.kind == "random":
        return random_params(abstract, shardings, 0)
    plan, tensors = _plan(abstract, n_frozen), open_tensors(files, config.heads, config.kv_heads)
    _check(tensors, config, plan, files.source)
    if config.tied:
        _check_head(tensors, files.source)
    return _load(tensors, abstract, shardings, plan, progress)


def random_params(abstract: Mapping[str, Any], shardings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Random base weights: matrices normal with variance 1/input width, norms one, biases zero.

    The values depend on the seed, the parameter's name and its layer, not on the mesh and not on how the layers are
    divided into frozen and adapted ones. They are drawn by numpy, one tensor at a time: compiling JAX's generator for
    every shape takes ten seconds on a CPU, even for a tiny model.
    """
    n_frozen = next((leaf.shape[0] for leaf in jax.tree.leaves(abstract.get("frozen_layers", {}))), 0)
    plan = _plan(abstract, n_frozen)
    return _load(RandomTensors(_expected_shapes(plan), seed), abstract, shardings, plan)


class RandomTensors:
    """A model file that is not there: every tensor is drawn when it is read; names and layout are Hugging Face's."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], seed: int):
        self.shapes, self._seed = shapes, seed

    def file(self, name: str) -> str:
        """No file: what messages say in its place."""
        return "random weights"

    def read(self, name: str) -> np.ndarray:
        """The tensor, float32."""
        if "norm" in name.split(".")[-2]:
            return np.ones(self.shapes[name], np.float32)
        if name.endswith(".bias"):
            return np.zeros(self.shapes[name], np.float32)
        rng = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        shape = self.shapes[name]  # Hugging Face layout: the last axis is the input
        return rng.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)


Tensors = RandomTensors | GGUFTensors | SafetensorsFolder


def _load(
    tensors: Tensors,
    abstract: Mapping[str, Any],
    shardings: Mapping[str, Any],
    plan: "list[_Leaf]",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    total, done, arrays = sum(len(leaf.names) for leaf in plan), 0, {}
    where = {_path(entries): s for entries, s in jax.tree_util.tree_flatten_with_path(shardings)[0]}
    quiet = True if progress is not None or jax.process_index() else None  # None: quiet unless stderr is a terminal
    with tqdm.tqdm(total=total, desc="weights", unit="tensor", delay=2, leave=False, disable=quiet) as bar:
        for leaf in plan:
            if leaf.dtype == jnp.int8:
                scale = (*leaf.path[:-1], f"{leaf.path[-1]}_scale")
                arrays[leaf.path], arrays[scale] = _load_int8(tensors, leaf, where[leaf.path], where[scale])
            else:
                arrays[leaf.path] = _load_leaf(tensors, leaf, where[leaf.path])
            done += len(leaf.names)
            bar.update(len(leaf.names))
            if progress is not None:
                progress(done, total)
    return jax.tree.unflatten(jax.tree.structure(abstract), [arrays[path] for path in where])


def open_tensors(files: ModelFiles, heads: int, kv_heads: int) -> GGUFTensors | SafetensorsFolder:
    """The tensors of a Hugging Face folder or a GGUF file, under Hugging Face names."""
    assert files.path is not None
    return GGUFTensors(files.path, heads, kv_heads) if files.kind == "gguf" else SafetensorsFolder(files.path)


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
        fields = read_config(files.path)
    digest.update(json.dumps(fields, sort_keys=True, default=str).encode())
    # No config is needed to look at stored bytes, so that this works for any family, encoders included.
    tensors = open_tensors(files, 1, 1)
    for name in sorted(tensors.shapes):
        digest.update(f"{name} {tensors.shapes[name]} {tensors.dtype(name)}".encode())
        size, piece = tensors.nbytes(name), _SAMPLE_BYTES // _SAMPLE_PIECES
        if size <= _SAMPLE_BYTES:
            digest.update(tensors.raw_bytes(name, 0, size))
            continue
        for start in np.linspace(0, size - piece, _SAMPLE_PIECES).astype(int).tolist():
            digest.update(tensors.raw_bytes(name, start, start + piece))
    return digest.hexdigest()


class _Leaf(NamedTuple):
    """A leaf of the tree: the tensors that make it, and whether they are stacked along a leading axis."""

    path: tuple[str, ...]
    names: list[str]
    stacked: bool
    shape: tuple[int, ...]
    dtype: Any


def _plan(abstract: Mapping[str, Any], n_frozen: int) -> list[_Leaf]:
    plan = []
    for entries, leaf in jax.tree_util.tree_flatten_with_path(abstract)[0]:
        path = _path(entries)
        group, *rest = path
        if not rest:
            plan.append(_Leaf(path, [_TOP[group]], False, leaf.shape, leaf.dtype))
            continue
        if rest[0].endswith("_scale"):  # comes with its linear
            continue
        first = {"frozen_layers": 0, "adapted_layers": n_frozen}[group]
        names = [layer_tensor(rest[0], first + i) for i in range(leaf.shape[0])]
        plan.append(_Leaf(path, names, True, leaf.shape, leaf.dtype))
    return plan


def _path(entries: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(str(entry.key) for entry in entries)


def layer_tensor(leaf: str, layer: int) -> str:
    """The Hugging Face name of a layer's parameter, e.g. (`q_bias`, 3) -> model.layers.3.self_attn.q_proj.bias."""
    if leaf in _NORMS:
        return f"model.layers.{layer}.{_NORMS[leaf]}.weight"
    linear, bias = leaf.removesuffix("_bias").removesuffix("_scale"), leaf.endswith("_bias")
    return f"model.layers.{layer}.{_LINEARS[linear]}.{'bias' if bias else 'weight'}"


def _expected_shapes(plan: list[_Leaf]) -> dict[str, tuple[int, ...]]:
    """The shapes that a file has: linears are stored [out, in], and kernels here are [in, out]."""
    return {name: leaf.shape[1:][::-1] if leaf.stacked else leaf.shape for leaf in plan for name in leaf.names}


def _check(tensors: Tensors, config: DecoderConfig, plan: list[_Leaf], source: str) -> None:
    expected = _expected_shapes(plan)
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


def _check_head(tensors: Tensors, source: str) -> None:
    """A tied model may repeat the embedding as its head; one that has another head is not tied."""
    head, embed = _TOP["unembed"], _TOP["embed"]
    if head not in tensors.shapes:
        return
    same = tensors.shapes[head] == tensors.shapes[embed]
    if same:
        stored_VD, wanted_VD = tensors.read(head), tensors.read(embed)
        rows = tensors.shapes[head][0]
        parts = [slice(i, min(i + _HEAD_ROWS, rows)) for i in range(0, rows, _HEAD_ROWS)]
        same = all(np.array_equal(stored_VD[part], wanted_VD[part]) for part in parts)
    if not same:
        raise CumaError(
            f"{source}: config.json says that the head is the embedding (tie_word_embeddings), but the weights have "
            f"another one, {head}. If the file is right, write false for tie_word_embeddings in config.json; if "
            f"config.json is right, take {head} out of the file"
        )


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


def _load_leaf(tensors: Tensors, leaf: _Leaf, sharding: jax.sharding.Sharding) -> jax.Array:
    _, names, stacked, shape, dtype = leaf
    indices = {_bounds(index, shape) for index in sharding.addressable_devices_indices_map(shape).values()}
    # Tensors are the outer loop and shards the inner one, so that a quantised tensor is dequantised once.
    buffers = {bounds: np.empty([stop - start for start, stop in bounds], dtype) for bounds in indices}
    for layer, name in enumerate(names):
        wanted = [b for b in buffers if not stacked or b[0][0] <= layer < b[0][1]]
        values = tensors.read(name) if wanted else None
        for bounds in wanted:
            assert values is not None
            if stacked:
                stored = check_finite(values[tuple(slice(*b) for b in reversed(bounds[1:]))], tensors, name)
                transpose_into(buffers[bounds][layer - bounds[0][0]], stored)
            else:
                buffers[bounds][...] = check_finite(values[tuple(slice(*b) for b in bounds)], tensors, name)
    return jax.make_array_from_callback(shape, sharding, lambda index: buffers[_bounds(index, shape)])


def _load_int8(
    tensors: Tensors, leaf: _Leaf, sharding: jax.sharding.Sharding, scale_sharding: jax.sharding.Sharding
) -> tuple[jax.Array, jax.Array]:
    """A stack of linears in int8, and its scales.

    The scale is of all inputs of an output, so where the mesh splits the inputs, every process still reads whole rows.
    """
    shape = leaf.shape
    indices = {_bounds(index, shape) for index in sharding.addressable_devices_indices_map(shape).values()}
    buffers = {bounds: np.empty([stop - start for start, stop in bounds], np.int8) for bounds in indices}
    outputs = {bounds[2] for bounds in indices}
    scale_LO = np.ones((shape[0], shape[2]), np.float32)  # only the outputs of this process are filled in
    for layer, name in enumerate(leaf.names):
        stored_OI = tensors.read(name)
        for start, stop in outputs:
            scale_LO[layer, start:stop] = output_scales(check_finite(stored_OI[start:stop], tensors, name))
        for ((first, last), inputs, (start, stop)), buffer in buffers.items():
            if first <= layer < last:
                part_OI = stored_OI[start:stop, slice(*inputs)]
                quantise_into(buffer[layer - first], part_OI, scale_LO[layer, start:stop])
    weights = jax.make_array_from_callback(shape, sharding, lambda index: buffers[_bounds(index, shape)])
    return weights, jax.make_array_from_callback(scale_LO.shape, scale_sharding, lambda index: scale_LO[index])


def transpose_into(out: np.ndarray, stored: np.ndarray) -> None:
    """Writes `stored.T` into `out`, cast to its dtype; by blocks of rows, four times as fast as numpy's own."""
    if out.ndim == 1:
        out[...] = stored
        return
    for row in range(0, len(stored), 64):
        out[:, row : row + 64] = stored[row : row + 64].T


def _bounds(index: tuple[slice, ...] | None, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    assert index is not None
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
