"""The adapters of an exported bundle: one safetensors file, with what says of which base they are."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from cuma_jax.run.run import Run
from cuma_jax.run.saved_adapters import shape_differences, tensor_shapes
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import undamaged
from cuma_jax.runtime.sharding import put_tree
from cuma_jax.serving.bundle.files import ADAPTERS

Tree = Any


def save_adapters(adapters: Tree, folder: pathlib.Path, base: str, step: int) -> None:
    """Writes adapters (numpy leaves) of a base by its fingerprint."""
    leaves = jax.tree_util.tree_leaves_with_path(adapters)
    arrays = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.ascontiguousarray(leaf) for path, leaf in leaves
    }
    safetensors.numpy.save_file(arrays, folder / ADAPTERS, {"about": json.dumps({"base": base, "step": step})})
    (folder / ADAPTERS).chmod(0o644)


def load_adapters(run: Run, folder: pathlib.Path) -> Tree:
    """The adapters on the run's devices; a `CumaError` for another base, other shapes, or a damaged file."""
    path = folder / ADAPTERS
    with undamaged(path, "export the run again"), safetensors.safe_open(path, "numpy") as file:
        base = str(json.loads(file.metadata()["about"])["base"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if base != run.fingerprint:
        raise CumaError(
            f"{path} was trained on another base model (fingerprint {base[:12]}, here "
            f"{run.fingerprint[:12]}); give the model that config.json names"
        )
    here, there = tensor_shapes(run.adapter_shapes), {name: list(array.shape) for name, array in arrays.items()}
    if here != there:
        raise CumaError(f"{path} has other adapters: {shape_differences(there, here)}")
    leaves = jax.tree_util.tree_map_with_path(
        lambda path, _: arrays[jax.tree_util.keystr(path, simple=True, separator="/")], run.adapter_shapes
    )
    return put_tree(leaves, run.adapter_shardings)
