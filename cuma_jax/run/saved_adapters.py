"""The one reader of checkpoints: which steps a run has saved, and the adapters or the whole state of one.

A checkpoint is a folder `checkpoints/STEP` of the run: `state` (adapters, optimiser, step, key), and `belongs`, which
says of which base and which adapters it is. Orbax gives it its name when it is whole.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from cuma_jax.config.saved import CHECKPOINTS, saved_steps
from cuma_jax.runtime.checksums import checksums
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.json_files import is_sealed

Tree = Any
_LOSS = "validation_loss"
_BEFORE_CHECKSUMS = {"base", "adapters", "data_position", "config"}


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
    return bool(saved_steps(run_dir))


def find_step(run_dir: pathlib.Path, which: str) -> tuple[int, int]:
    """The step of the newest whole checkpoint (`last`), or of that with the lowest validation loss (`best`); and the
    newest one's.

    Raises:
        CumaError: there is none, or one is damaged.
    """
    steps, losses = saved_steps(run_dir), {}
    if which == "best":
        losses = {step: loss for step in steps if (loss := _validation_loss(run_dir, step)) is not None}
    step = max(steps, default=None) if which == "last" else min(losses, key=losses.__getitem__, default=None)
    if step is None:
        what = "validated checkpoint (--checkpoint last takes the newest)" if steps else "checkpoint"
        raise CumaError(f"{run_dir} has no {what} yet; train it first")
    return step, steps[-1]


def check_saved(run_dir: pathlib.Path) -> None:
    """Checks what all checkpoints of a run say of themselves; their arrays are checked when they are read.

    Raises:
        CumaError: one is damaged.
    """
    for step in saved_steps(run_dir):
        loss = _validation_loss(run_dir, step)
        if loss is not None and loss != _orbax_loss(run_dir, step):
            raise _damaged(run_dir, step, "metrics/metrics is not what was written")


def _validation_loss(run_dir: pathlib.Path, step: int) -> float | None:
    belongs = _read_belongs(run_dir, step)
    return belongs[_LOSS] if "checksums" in belongs else _orbax_loss(run_dir, step)


def _orbax_loss(run_dir: pathlib.Path, step: int) -> float | None:
    """Where Orbax reads it, to say which checkpoints it keeps; versions before checksums wrote it nowhere else."""
    path = _folder(run_dir, step) / "metrics" / "metrics"
    return _reading(run_dir, step, lambda: json.loads(path.read_text())[_LOSS]) if path.is_file() else None


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
        like = _reading(run_dir, step, lambda: _numpy(_metadata(_folder(run_dir, step) / "state")["adapters"]))
    else:
        check_belongs(run_dir, step, base, like)
    return SavedAdapters(step, _read(run_dir, step, {"adapters": like}, partial=True)["adapters"], belongs["base"])


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
    return (run_dir / CHECKPOINTS / str(step)).absolute()


def _reading(run_dir: pathlib.Path, step: int, read: Callable[[], Any]) -> Any:
    """`read()` of a checkpoint; whatever is damaged becomes one message."""
    try:
        return read()
    except (CumaError, jax.errors.JaxRuntimeError):  # too large for the devices: no damage
        raise
    except Exception as error:  # a flipped byte meets any that JSON, Orbax, TensorStore and zstd have
        raise _damaged(run_dir, step, f"{str(error) or type(error).__name__}".partition("\n")[0][:300]) from None


def _damaged(run_dir: pathlib.Path, step: int, reason: str) -> CumaError:
    """What is said of a checkpoint that cannot be used, and which one can."""
    where, others = _folder(run_dir, step), [n for n in saved_steps(run_dir) if n != step]
    if not where.exists():
        return CumaError(f"checkpoint {where} was removed while it was read; does training go on there? Try again")
    if "permission" in reason.lower():
        return CumaError(f"checkpoint {where} cannot be read ({reason}); change its permissions")
    whole = next((n for n in reversed(others) if _is_whole(run_dir, n)), None)
    then = "no other is whole: delete that folder, and training begins anew"
    if whole is not None:
        then = f"that of step {whole} is whole: delete that folder ({where}), and the same command takes the other"
    return CumaError(f"checkpoint {where} cannot be read (it is damaged: {reason}); {then}")


def _is_whole(run_dir: pathlib.Path, step: int) -> bool:
    try:
        belongs, state = _belongs(_folder(run_dir, step)), _folder(run_dir, step) / "state"
        like = _numpy(_metadata(state))
        with ocp.PyTreeCheckpointer() as reader:
            return not _wrong(belongs, reader.restore(state, args=_as_like(like)))
    except Exception:
        return False


def _read_belongs(run_dir: pathlib.Path, step: int) -> dict[str, Any]:
    return _reading(run_dir, step, lambda: _belongs(_folder(run_dir, step)))


def _belongs(where: pathlib.Path) -> dict[str, Any]:
    """What a checkpoint says of itself; of versions before the one that added checksums: without."""
    belongs = json.loads((where / "belongs" / "metadata").read_text(encoding="utf-8"))
    if not (belongs.keys() == _BEFORE_CHECKSUMS or is_sealed(belongs)):
        raise ValueError("belongs/metadata is not what was written")
    return belongs


def _read(run_dir: pathlib.Path, step: int, like: Tree, partial: bool = False) -> Tree:
    """Arrays as `like` says, their values those that were saved."""
    if not jax.tree.leaves(like):
        return like
    with ocp.PyTreeCheckpointer() as reader:
        state = _folder(run_dir, step) / "state"
        found = _reading(run_dir, step, lambda: reader.restore(state, args=_as_like(like, partial)))
    if wrong := _wrong(_read_belongs(run_dir, step), found):
        raise _damaged(run_dir, step, f"{wrong} has other values than were saved")
    return found


def _as_like(like: Tree, partial: bool = False) -> Any:
    how = ocp.checkpoint_utils.construct_restore_args(like)
    return ocp.args.PyTreeRestore(item=like, restore_args=how, partial_restore=partial)


def _wrong(belongs: dict[str, Any], found: Tree) -> str:
    """The first array of a tree that is not what was saved, by its path; empty where all are."""
    if "checksums" not in belongs:
        return ""
    here, parts = checksums(found), set(found) if isinstance(found, dict) else None
    saved = {n: sums for n, sums in belongs["checksums"].items() if parts is None or n.partition("/")[0] in parts}
    return next((name for name in (saved | here) if saved.get(name) != here.get(name)), "")


def _metadata(state: pathlib.Path) -> Tree:
    with ocp.StandardCheckpointer() as reader:
        return reader.metadata(state).item_metadata.tree


def _numpy(shapes: Tree) -> Tree:
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
