"""The adapters of a run's checkpoint alone, in host memory: what other programs and other runs want of it."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from cuma_jax.runtime.errors import CumaError

FOLDER = "checkpoints"
Tree = Any


@dataclasses.dataclass(frozen=True)
class SavedAdapters:
    """What a checkpoint holds beside the optimiser.

    Attributes:
        step: optimiser steps taken.
        adapters: numpy leaves.
        base: fingerprint of the base they belong to.
    """

    step: int
    adapters: Tree
    base: str


def tensor_shapes(tree: Tree) -> dict[str, list[int]]:
    """Shape of every tensor of a tree by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): list(leaf.shape) for path, leaf in leaves}


def shape_differences(there: dict[str, list[int]], here: dict[str, list[int]]) -> str:
    """Where two sets of adapters differ, in words (six at most); empty where they do not."""
    both = there.keys() & here.keys()
    wrong = [f"{k} is {there[k]} there and {here[k]} here" for k in both if there[k] != here[k]]
    only = [f"{k} is only there" for k in there.keys() - here.keys()]
    only += [f"{k} is only here" for k in here.keys() - there.keys()]
    return "; ".join(sorted(wrong + only)[:6])


def best_step(manager: ocp.CheckpointManager) -> int | None:
    """Step of the checkpoint with the lowest validation loss, or None where none has one."""
    found = {
        step: info["validation_loss"]
        for step in manager.all_steps()
        if (info := manager.metrics(step)) and "validation_loss" in info
    }
    return min(found, key=found.__getitem__) if found else None


def has_checkpoint(run_dir: pathlib.Path) -> bool:
    """Whether a run has saved anything."""
    return any(path.name.isdigit() for path in (run_dir / FOLDER).glob("*"))


def read_adapters(run_dir: pathlib.Path, which: str = "last") -> SavedAdapters:
    """Reads the newest checkpoint (`last`), or the one with the lowest validation loss (`best`).

    Raises:
        CumaError: there is none, or it cannot be read.
    """
    if not has_checkpoint(run_dir):
        raise CumaError(f"{run_dir} has no checkpoint yet; train it first")
    folder = (run_dir / FOLDER).absolute()
    options = ocp.CheckpointManagerOptions(read_only=True, cleanup_tmp_directories=False, create=False)
    with ocp.CheckpointManager(folder, options=options) as manager:
        step = manager.latest_step()
        if which == "best":
            step = best_step(manager)
            if step is None:
                raise CumaError(f"{run_dir} has no validated checkpoint (--checkpoint last takes the newest)")
    assert step is not None
    try:
        with ocp.StandardCheckpointer() as reader:
            shapes = reader.metadata(folder / str(step) / "state").item_metadata.tree["adapters"]
        target = {"adapters": _numpy(shapes)}
        with ocp.PyTreeCheckpointer() as reader:
            how = ocp.checkpoint_utils.construct_restore_args(target)
            state = reader.restore(
                folder / str(step) / "state",
                args=ocp.args.PyTreeRestore(item=target, restore_args=how, partial_restore=True),
            )
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            belongs = reader.restore(folder / str(step) / "belongs")
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise CumaError(f"checkpoint {folder / str(step)} cannot be read ({reason})") from error
    return SavedAdapters(step, state["adapters"], belongs["base"])


def _numpy(shapes: Tree) -> Tree:
    if isinstance(shapes, dict):
        return {name: _numpy(value) for name, value in shapes.items()}
    return np.zeros(shapes.shape, shapes.dtype)
