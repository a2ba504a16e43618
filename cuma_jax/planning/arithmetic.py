"""Memory, traffic and time of a train step from shapes alone: what ranks meshes, and all there is for a GPU elsewhere.

What stands in memory all through a step (frozen weights, adapters, their two moments, tables) is exact. What a step
needs on the way is a model of the compiled program: what the layers save for the backward pass (by `model.remat`), one
layer's own working set, gathered weights, logits. docs/plan.md compares it with what XLA allots.

Symbols: r rows a device and micro-batch, n = r T its tokens, L layers, t the tensor axis, f the fsdp axis.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import AbstractMesh, AxisType

from cuma_jax.config import Config, MeshConfig
from cuma_jax.losses.linear_cross_entropy import chunk_positions
from cuma_jax.models.families import DecoderConfig, layer_params, num_params
from cuma_jax.planning.chips import Chip
from cuma_jax.planning.hlo import Collective
from cuma_jax.planning.program import boxed_variables, profile_width, supervised, variables_of
from cuma_jax.run.objective import objective_of
from cuma_jax.runtime.sharding import MESH_AXES, tree_shardings


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes on one device.

    Attributes:
        base: frozen weights.
        adapters: trainable weights and the optimiser's two moments of each.
        tables: profile vectors, and the batch.
        saved: what the forward pass keeps for the backward pass.
        working: gradients, gathered weights, one layer's intermediate results, logits.
    """

    base: int
    adapters: int
    tables: int
    saved: int
    working: int

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return self.base + self.adapters + self.tables + self.saved + self.working


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of a step that each part of the machine needs; the longest is the prediction."""

    compute: float
    memory: float
    interconnect: float

    @property
    def step(self) -> float:
        """The roofline: all three at once, none waiting for another."""
        return max(self.compute, self.memory, self.interconnect)

    @property
    def bound(self) -> str:
        """What the step waits for."""
        return max(("compute", "memory", "interconnect"), key=lambda name: getattr(self, name))


def useful_flops(shape: DecoderConfig, tokens: int) -> float:
    """4 N n: forward, and backward to the activations, of a frozen base; adapters and recomputation do not count."""
    return 4.0 * num_params(shape) * tokens


def abstract_mesh(mesh: MeshConfig) -> AbstractMesh:
    """A mesh without devices, for shapes."""
    return AbstractMesh((mesh.data, mesh.fsdp, mesh.tensor), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


@functools.lru_cache(maxsize=1024)
def _resident(config: Config, shape: DecoderConfig, mesh: MeshConfig) -> tuple[int, int]:
    """Bytes of the frozen weights and of the adapters on one device."""
    boxed = boxed_variables(config, shape)
    shapes, shardings = nn.meta.unbox(boxed), tree_shardings(boxed, abstract_mesh(mesh))  # type: ignore[arg-type]
    base, adapters = (shard_bytes(shapes[name], shardings[name]) for name in ("params", "adapters"))
    return base, adapters


def shard_bytes(shapes: Any, shardings: Any) -> int:
    """Bytes of a tree of abstract arrays on one device."""
    sizes = jax.tree.map(lambda s, at: math.prod(at.shard_shape(s.shape)) * s.dtype.itemsize, shapes, shardings)
    return sum(jax.tree.leaves(sizes))


def memory(config: Config, shape: DecoderConfig, mesh: MeshConfig, length: int, profiles: int) -> Need:
    """What a step needs on each device of a mesh, all axes given; a `CumaError` for a weight it does not divide."""
    base, adapters = _resident(variables_of(config), shape, mesh)
    rows = config.train.batch_size // config.train.micro_batches // (mesh.data * mesh.fsdp)
    tables = profiles * profile_width(config) * 4 + config.train.batch_size // (mesh.data * mesh.fsdp) * length * 4
    item = 4 if config.model.dtype == "float32" else 2
    layers = min(config.adapter.layers, shape.layers) or shape.layers
    saved = layers * _saved(config, shape, mesh.tensor, rows, length, item)
    working = 2 * adapters // 3 if config.adapter.kind != "none" else 0  # the gradient, and the update beside it
    working += _layer(shape, mesh, rows, length, item) + _logits(config, shape, mesh, rows, length, item)
    return Need(base, 3 * adapters, tables, saved, working)


def _saved(config: Config, shape: DecoderConfig, t: int, rows: int, length: int, item: int) -> int:
    """Bytes that one layer keeps for the backward pass."""
    n, adapter = rows * length, config.adapter
    widths = {"q": shape.heads * shape.head_dim, "k": shape.kv_heads * shape.head_dim, "gate": shape.ffn,
              "v": shape.kv_heads * shape.head_dim, "up": shape.ffn}  # fmt: skip
    whole = {"o": shape.width, "down": shape.width}
    carry = n * shape.width * item
    if config.model.remat == "full":
        return carry
    columns = sum(widths.values()) / t + sum(whole.values())
    if adapter.kind == "lora":
        columns += sum((widths[name] / t if name in widths else whole[name]) for name in adapter.targets)
        columns += len(adapter.targets) * max(adapter.experts, 1) * adapter.rank
    routed = config.router.inputs not in ("none", "lookup")
    products = n * columns * item + routed * n * config.router.hidden_dim * 4
    if config.model.remat == "dots":
        return int(carry + products)
    # Everything: norms in float32 and their results, activations of the MLP, keys and queries turned, scores.
    around = n * (10 * shape.width * item + 3 * shape.ffn / t * item + 4 * (widths["q"] + widths["k"]) / t * item)
    scores = rows * shape.heads / t * length * length * (4 + item)
    return int(carry + products + around + scores)


def _layer(shape: DecoderConfig, mesh: MeshConfig, rows: int, length: int, item: int) -> int:
    """One layer's intermediate results in the backward pass, and its gathered weights with half of the next's."""
    n = rows * length
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    weights = (2 * shape.width * q + 2 * shape.width * kv + 3 * shape.width * shape.ffn) * item // mesh.tensor
    gathered = weights * 3 // 2 if mesh.fsdp > 1 else 0
    mlp = n * shape.ffn // mesh.tensor * (4 + 2 * item)
    scores = rows * shape.heads // mesh.tensor * length * length * (4 + item)
    return gathered + max(mlp, scores) + 4 * n * shape.width * 4


def _logits(config: Config, shape: DecoderConfig, mesh: MeshConfig, rows: int, length: int, item: int) -> int:
    """Logits of the positions held at once, and the unembedding where its columns are gathered for them."""
    if not objective_of(config).reads_vocabulary:
        return 0
    positions = min(supervised(config, length), chunk_positions(rows))
    gathered = shape.vocab * shape.width * item // mesh.tensor if mesh.fsdp > 1 else 0
    return rows * positions * shape.vocab // mesh.tensor * (4 + item) + gathered


def times(
    config: Config, shape: DecoderConfig, mesh: MeshConfig, chip: Chip, length: int, flops: float, slices: int = 1
) -> Times:
    """Predicted seconds, from shapes.

    Args:
        length: T.
        flops: of the whole step over all devices; see `program_flops`.
        slices: of the machine; the data axis crosses their network.
    """
    devices = mesh.data * mesh.fsdp * mesh.tensor
    return Times(
        flops / devices / chip.flops,
        _hbm_bytes(config, shape, mesh, length) / chip.hbm_speed,
        sum(interconnect(config, shape, mesh, chip, length, slices).values()),
    )


def program_flops(config: Config, shape: DecoderConfig, length: int) -> float:
    """Operations of a step: 4 n for every weight of the layers, attention, experts, and logits where they are read.

    Of a layer run again (remat full) the last product, down, is not: nothing in the backward pass reads it.
    """
    rows, adapter = config.train.batch_size, config.adapter
    forward = 2.0 * layer_params(shape) * rows * length
    down = 2.0 * shape.layers * shape.width * shape.ffn * rows * length
    scores = 4.0 * shape.layers * rows * length**2 * shape.heads * shape.head_dim
    layers = min(adapter.layers, shape.layers) or shape.layers
    experts = 2.0 * layers * rows * length * max(adapter.experts, 1) * adapter.rank * 2 * shape.width
    extra = experts * len(adapter.targets) if adapter.kind == "lora" else 0.0
    logits = 2.0 * rows * supervised(config, length) if objective_of(config).reads_vocabulary else 0.0
    total = 2 * forward + 3 * scores + 3 * extra + 2 * logits * shape.vocab * shape.width
    if config.model.remat != "none":
        total += scores
    if config.model.remat == "full":
        total += forward - down + extra
    if config.train.micro_batches > 1:  # a micro-batch's forward pass is run again as a whole
        total += forward + scores + extra
    return total


def _base_bytes(config: Config, shape: DecoderConfig) -> float:
    per = 1 if config.model.quantize == "int8" else 4 if config.model.dtype == "float32" else 2
    return per * layer_params(shape)


def _hbm_bytes(config: Config, shape: DecoderConfig, mesh: MeshConfig, length: int) -> float:
    """Bytes read and written: weights once a pass (and written once more where they are gathered), activations."""
    parts = config.train.micro_batches
    passes = 2 + (config.model.remat == "full") + (parts > 1)
    weights = passes * parts * _base_bytes(config, shape) / mesh.tensor * (2 if mesh.fsdp > 1 else 1)
    rows = config.train.batch_size // (mesh.data * mesh.fsdp)
    item = 4 if config.model.dtype == "float32" else 2
    kept = shape.layers * _saved(config, shape, mesh.tensor, rows, length, item)
    around = shape.layers * rows * length * (12 * shape.width + 6 * shape.ffn / mesh.tensor) * item
    return weights + 2 * kept + passes * around


def interconnect(
    config: Config, shape: DecoderConfig, mesh: MeshConfig, chip: Chip, length: int, slices: int = 1
) -> dict[str, float]:
    """Seconds on the wires, by mesh axis."""
    item = 4 if config.model.dtype == "float32" else 2
    speed = chip.link * chip.links
    d, f, t, parts = mesh.data, mesh.fsdp, mesh.tensor, config.train.micro_batches
    gathers = 2 + (parts > 1)  # forward and backward pass; a micro-batch's forward pass is run again
    fsdp = gathers * parts * _base_bytes(config, shape) / t * (f - 1) / f / speed
    rows = config.train.batch_size // (d * f)
    # After o and after down, forward; as much for the gradients of the inputs, backward; all-reduce is two passes.
    passes = 4 + 2 * (config.model.remat == "full" or parts > 1)
    tensor = passes * shape.layers * rows * length * shape.width * item * 2 * (t - 1) / t / speed
    adapters = 8 * config.adapter.experts * config.adapter.rank * len(config.adapter.targets) * shape.width
    gradient = shape.layers * adapters * 2 * (d - 1) / d / f
    return {"fsdp": fsdp, "tensor": tensor, "data": gradient / (chip.network if slices > 1 else speed)}


def interconnect_seconds(items: Iterable[Collective], mesh: MeshConfig, chip: Chip, slices: int = 1) -> float:
    """Seconds on the wires of a compiled program's collectives, one after another.

    Between slices XLA adds up inside each slice first: what crosses is a chip's share of the array.
    """
    seconds, inside = 0.0, {mesh.fsdp, mesh.tensor, mesh.fsdp * mesh.tensor}
    for item in items:
        if slices > 1 and item.group % slices == 0 and item.group not in inside:
            share = item.times * item.bytes / (item.group // slices)
            seconds += 2 * share * (slices - 1) / slices / chip.network
        seconds += item.moved / (chip.link * chip.links)
    return seconds
