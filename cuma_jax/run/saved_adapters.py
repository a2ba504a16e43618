"""The one reader of checkpoints: which steps a run has saved, and the adapters or the whole state of one.

A checkpoint is a folder `checkpoints/STEP` of the run: `state` (adapters, optimiser, step, key), and `belongs`, which
says of which base and which adapters it is. Orbax gives it its name when it is whole.
"""

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
        adapters: as asked for: numpy leaves, or on the devices.
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


def has_checkpoint(run_dir: pathlib.Path) -> bool:
    """Whether a run has saved anything."""
    return any(path.name.isdigit() for path in (run_dir / FOLDER).glob("*"))


def find_step(run_dir: pathlib.Path, which: str) -> tuple[int, int]:
    """The step of the newest whole checkpoint (`last`), or of that with the lowest validation loss (`best`); and the
    newest one's.

    Raises:
        CumaError: there is none.
    """
    latest = best = None
    if has_checkpoint(run_dir):
        options = ocp.CheckpointManagerOptions(read_only=True, cleanup_tmp_directories=False, create=False)
        with ocp.CheckpointManager((run_dir / FOLDER).absolute(), options=options) as manager:
            latest, best = manager.latest_step(), best_step(manager)
    step = latest if which == "last" else best
    if step is None or latest is None:
        what = "validated checkpoint (--checkpoint last takes the newest)" if latest else "checkpoint"
        raise CumaError(f"{run_dir} has no {what} yet; train it first")
    return step, latest


def best_step(manager: ocp.CheckpointManager) -> int | None:
    """Step of the checkpoint with the lowest validation loss, or None where none has one."""
    found = {
        step: info["validation_loss"]
        for step in manager.all_steps()
        if (info := manager.metrics(step)) and "validation_loss" in info
    }
    return min(found, key=found.__getitem__) if found else None


def read_adapters(run_dir: pathlib.Path, step: int, like: Tree = None, base: str = "") -> SavedAdapters:
    """The adapters saved at a step, and nothing else of it.

    Args:
        step: from `find_step`.
        like: abstract arrays with their shardings, onto which they are read, on any mesh; None: into host memory.
        base: fingerprint of the base that they must belong to, where `like` is given.

    Raises:
        CumaError: see `read_state`.
    """
    belongs = _read_belongs(run_dir, step)
    if like is None:
        shapes = _restoring(run_dir, step, lambda state: _metadata(state)["adapters"])
        like = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
        return SavedAdapters(step, _read(run_dir, step, {"adapters": like}, partial=True)["adapters"], belongs["base"])
    check_belongs(run_dir, step, base, like)
    adapters = _read(run_dir, step, {"adapters": like}, partial=True)["adapters"] if jax.tree.leaves(like) else like
    return SavedAdapters(step, adapters, belongs["base"])


def read_state(run_dir: pathlib.Path, step: int, like: Tree, base: str) -> Tree:
    """The whole state saved at a step, as training needs it to go on; `like.adapters` are the run's.

    Raises:
        CumaError: the checkpoint belongs to another base or other adapters, or cannot be read.
    """
    check_belongs(run_dir, step, base, like.adapters)
    return _read(run_dir, step, like)


def check_belongs(run_dir: pathlib.Path, step: int, base: str, adapters: Tree) -> None:
    """Raises a `CumaError` for a checkpoint of another base than `base`, or of adapters of other shapes."""
    where, belongs = _folder(run_dir, step), _read_belongs(run_dir, step)
    if belongs["base"] != base:
        raise CumaError(
            f"checkpoint {where} was trained on another base model (fingerprint {belongs['base'][:12]}, here "
            f"{base[:12]}); use the same model.source, or another run.dir"
        )
    if belongs["adapters"] != (here := tensor_shapes(adapters)):
        raise CumaError(f"checkpoint {where} has other adapters: {shape_differences(belongs['adapters'], here)}")


def _folder(run_dir: pathlib.Path, step: int) -> pathlib.Path:
    return (run_dir / FOLDER / str(step)).absolute()


def _restoring(run_dir: pathlib.Path, step: int, read: Any, item: str = "state") -> Any:
    """`read(folder)` of an item of a checkpoint; what is damaged becomes one message."""
    where = _folder(run_dir, step)
    try:
        return read(where / item)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise CumaError(f"checkpoint {where} cannot be read ({reason}); delete that folder and resume") from error


def _read_belongs(run_dir: pathlib.Path, step: int) -> dict[str, Any]:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return _restoring(run_dir, step, reader.restore, "belongs")


def _read(run_dir: pathlib.Path, step: int, like: Tree, partial: bool = False) -> Tree:
    how = ocp.args.PyTreeRestore(
        item=like, restore_args=ocp.checkpoint_utils.construct_restore_args(like), partial_restore=partial
    )
    with ocp.PyTreeCheckpointer() as reader:
        return _restoring(run_dir, step, lambda state: reader.restore(state, args=how))


def _metadata(state: pathlib.Path) -> Tree:
    with ocp.StandardCheckpointer() as reader:
        return reader.metadata(state).item_metadata.tree
