"""The mesh, the one table that maps logical axes to it, and the shardings of a tree.

Every weight and activation names its axes logically ('embed', 'heads', ...). This table alone says which mesh axis
each one is split over, so another layout is an edit here and nowhere else.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cuma_jax.runtime.errors import CumaError

MESH_AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

RULES: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
    ("batch", BATCH_AXES),
    ("embed", "fsdp"),
    ("vocab", "tensor"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("mlp", "tensor"),
    ("act_embed", None),
    ("seq", None),
    ("layers", None),
    ("experts", None),
    ("rank", None),
    ("router_hidden", None),
    ("profile", None),
)


class MeshShape(Protocol):
    """Devices along each axis, as `config.MeshConfig` has them; 0 for data: all that the others leave."""

    @property
    def data(self) -> int: ...  # noqa: D102
    @property
    def fsdp(self) -> int: ...  # noqa: D102
    @property
    def tensor(self) -> int: ...  # noqa: D102


def make_mesh(config: MeshShape, devices: list[jax.Device] | None = None) -> Mesh:
    """The (data, fsdp, tensor) mesh over all devices.

    Devices in several slices (TPU slices joined by the data-centre network, GPU machines) are laid out so that only the
    data axis crosses the network: a gradient is small, weights and activations are not.

    Raises:
        CumaError: as `data_ways`, or the data axis is not a multiple of the number of TPU slices.
    """
    devices = jax.devices() if devices is None else devices
    data = data_ways(config, len(devices), "here")
    slices = len({getattr(device, "slice_index", None) for device in devices})
    if data % slices and devices[0].platform == "tpu":
        raise CumaError(
            f"mesh.data is {data}, which is not divisible by the {slices} slices here; only the data axis may cross "
            f"the network between slices: make fsdp x tensor at most {len(devices) // slices}, the devices of one slice"
        )
    shape = (data, config.fsdp, config.tensor)
    if slices == 1 or data % slices:
        # Split: an axis of 32 may be a side of 16 and half of another.
        split = devices[0].platform == "tpu"
        grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=split)
    else:
        grid = mesh_utils.create_hybrid_device_mesh(
            (data // slices, *shape[1:]), (slices, 1, 1), devices, allow_split_physical_axes=True
        )
    # Auto: the compiler propagates shardings; Linen's logical constraints need it (the default became Explicit).
    return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def data_ways(config: MeshShape, devices: int, where: str) -> int:
    """Size of the data axis: `mesh.data`, or where it is 0 what the other axes leave of the devices.

    Raises:
        CumaError: the product of the axes is not the number of devices; `where` ends "the 8 devices ...".
    """
    fixed = config.fsdp * config.tensor
    data = config.data or max(devices // fixed, 1)
    if data * fixed != devices:
        raise CumaError(
            f"mesh data={config.data or 'auto'} x fsdp={config.fsdp} x tensor={config.tensor} does not use exactly the "
            f"{devices} devices {where}; set --mesh.data, --mesh.fsdp, --mesh.tensor so that their product is "
            f"{devices} (0 for data means: what is left)"
        )
    return data


def check_divisible(mesh: Mesh, sizes: Mapping[str, tuple[str, int]]) -> None:
    """Raises a `CumaError`, before anything is compiled, for a size that its logical axis' mesh axes do not divide.

    `sizes`: description -> (logical axis, size), e.g. `{"train.batch_size": ("batch", 16)}`.
    """
    for name, (axis, size) in sizes.items():
        mesh_axes = dict(RULES)[axis] or ()
        mesh_axes = (mesh_axes,) if isinstance(mesh_axes, str) else mesh_axes
        ways = int(np.prod([mesh.shape[a] for a in mesh_axes]))
        if size % ways:
            split = " x ".join(f"mesh.{a}={mesh.shape[a]}" for a in mesh_axes)
            raise CumaError(
                f"{name} is {size}, which is not divisible by {ways} ({split}); "
                f"change {name} to a multiple of {ways}, or the mesh"
            )


def spec_of(axes: tuple[str | None, ...]) -> PartitionSpec:
    """The PartitionSpec of logical `axes`; a `ValueError` for an unknown one, or for two on the same mesh axis."""
    rules: dict[str | None, Any] = {None: None, **dict(RULES)}
    if unknown := [axis for axis in axes if axis not in rules]:
        raise ValueError(f"logical axis {unknown[0]!r} is not in sharding.RULES")
    parts = [rules[axis] for axis in axes]
    used = [a for part in parts if part for a in ((part,) if isinstance(part, str) else part)]
    if len(set(used)) != len(used):
        raise ValueError(f"logical axes {axes} put two dimensions of one array on the same mesh axis: {parts}")
    return PartitionSpec(*parts)


def tree_shardings(boxed: Any, mesh: Mesh) -> Any:
    """Shardings of a tree of (boxed) abstract arrays, from the logical axes in their boxes; unboxed leaves replicate.

    A dimension that is not divisible by the mesh axes it is split over is a `CumaError`.
    """

    def one(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        if not isinstance(leaf, nn.LogicallyPartitioned):
            return NamedSharding(mesh, PartitionSpec())
        sharding = NamedSharding(mesh, spec_of(leaf.names))
        try:
            sharding.shard_shape(leaf.value.shape)
        except ValueError:
            raise CumaError(
                f"weight {jax.tree_util.keystr(path)} of shape {leaf.value.shape} with axes {leaf.names} does not "
                f"divide over the mesh {dict(mesh.shape)}; choose mesh.fsdp and mesh.tensor that divide it"
            ) from None
        return sharding

    return jax.tree_util.tree_map_with_path(one, boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned))


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """Abstract arrays that also say where they live."""
    return jax.tree.map(
        lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes, shardings
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding that keeps a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding that splits the first axis over data and fsdp."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Global arrays from this process's rows of a batch."""
    sharding = batch_sharding(mesh)
    with jax.transfer_guard_host_to_device("allow"):  # with several processes, JAX counts this as implicit
        return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def put_tree(tree: Any, shardings: Any) -> Any:
    """Arrays on the devices from numpy leaves that every process has; each device gets its own part only."""
    return jax.tree.map(
        lambda leaf, at: jax.make_array_from_callback(leaf.shape, at, lambda index: leaf[index]), tree, shardings
    )


def put_whole(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """A copy of `array`, which every process has, on every device (`jax.device_put` would gather all of them first)."""
    return put_tree(array, replicated(mesh))


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """The rows of a global batch that this process' devices hold, int [B'], in order.

    Not always side by side: on a TPU slice a mesh follows the chips' rows, and a host has a square of them.
    """
    indices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in indices if index is not None]))


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Asks the compiler to lay `x` out by its logical axes (no effect outside a mesh)."""
    return nn.with_logical_constraint(x, axes, rules=RULES)
