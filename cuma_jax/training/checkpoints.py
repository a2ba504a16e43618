"""Checkpoints: adapters, optimiser, step, key and data position, with what they belong to.

Orbax writes to a temporary folder and renames it when it is whole, so a half-written checkpoint is never seen.
The base is not saved; its fingerprint is. `run.saved_adapters` reads what is written here.
"""

import contextlib
import json
import pathlib
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from cuma_jax.config import to_dict
from cuma_jax.config.saved import CHECKPOINTS, saved_steps
from cuma_jax.run.run import Run
from cuma_jax.run.saved_adapters import check_saved, read_state, tensor_shapes
from cuma_jax.runtime.checksums import checksums
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.json_files import sealed
from cuma_jax.runtime.lock import check_owner
from cuma_jax.runtime.processes import barrier, decide, process_index
from cuma_jax.training.step import TrainState

Tree = Any


class Checkpoints:
    """The checkpoints of one run: the newest `train.keep`, and the best by validation loss."""

    def __init__(self, run_dir: pathlib.Path, run: Run):
        self._run_dir, self._run = run_dir, run
        check_saved(run_dir)
        if process_index() == 0:
            self._tidy()
        barrier()
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(run.config.train.keep),
                preservation_policy.BestN(
                    get_metric_fn=_validation_loss, reverse=True, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=_validation_loss,  # without it Orbax writes no metrics, whatever the policy reads
            best_mode="min",
            cleanup_tmp_directories=True,
        )
        with self._writing():
            self._manager = ocp.CheckpointManager((run_dir / CHECKPOINTS).absolute(), options=options)

    def save(self, state: TrainState, validation_loss: float | None) -> None:
        """Saves `state` (all processes call this); `validation_loss` in nats, where it is known.

        Raises:
            CumaError: this checkpoint, or the one before it, cannot be written; or another process trains here by now.
        """
        check_owner(self._run_dir)
        step = int(jax.device_get(state.step))
        if step in self._manager.all_steps():
            return
        metrics = None if validation_loss is None else {"validation_loss": float(validation_loss)}
        belongs = {
            "base": self._run.fingerprint,
            "adapters": tensor_shapes(self._run.adapter_shapes),
            "data_position": step,
            "config": to_dict(self._run.config),
            "validation_loss": (metrics or {}).get("validation_loss"),
            "checksums": checksums(state),
        }
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), belongs=ocp.args.JsonSave(sealed(json.loads(json.dumps(belongs))))
        )
        with self._writing():
            self._manager.save(step, args=args, metrics=metrics)

    def latest(self) -> int | None:
        """Step of the newest whole checkpoint, or None; what process 0 sees is so for all."""
        return json.loads(decide(json.dumps(max(saved_steps(self._run_dir), default=None))))

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state saved at `step`, laid out as `abstract` says (any mesh, any number of processes).

        Raises:
            CumaError: the checkpoint belongs to another base or another adapter shape, or cannot be read.
        """
        return read_state(self._run_dir, step, abstract, self._run.fingerprint)

    def close(self) -> None:
        """Waits until everything is written.

        Raises:
            CumaError: a checkpoint cannot be written.
        """
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """What the disk refuses becomes one message, and what is half written goes. Orbax writes in the background, so
        that a refusal may be heard of late."""
        try:
            yield
        except (CumaError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:
            folder, whole = self._run_dir / CHECKPOINTS, saved_steps(self._run_dir)
            if not (refused := _refusal(error)):
                raise
            for part in folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(part, ignore_errors=True)
            kept = f"Checkpoint {whole[-1]} is the newest whole one" if whole else "There is none yet"
            raise CumaError(
                f"a checkpoint cannot be written into {folder.absolute()}: {refused[0]}. {kept}; {refused[1]} and run "
                "the same command again"
            ) from None

    def _tidy(self) -> None:
        """Moves folders that look like checkpoints, and are none, out of Orbax's way: it would write none before."""
        folder, whole = self._run_dir / CHECKPOINTS, saved_steps(self._run_dir)
        for path in folder.glob("*"):
            if path.name.isdigit() and path.name not in map(str, whole):
                aside = path.rename(path.with_name(f"{path.name}.no-checkpoint-{uuid.uuid4().hex[:6]}"))
                print(f"{path} is no checkpoint; it is called {aside.name} now", file=sys.stderr)


def _refusal(error: BaseException) -> tuple[str, str] | None:
    """Why the disk takes no more, and what to do; None for another error."""
    text = str(error)
    if re.search("RESOURCE_EXHAUSTED|No space left|File too large|[Qq]uota", text):
        return "the disk is full", "free space"
    if re.search("PERMISSION_DENIED|Permission denied|Read-only|not permitted", text):
        return "permission denied, or mounted read-only", "make it writable"
    return (text.partition("\n")[0][:200], "put that right") if isinstance(error, OSError) else None


def _validation_loss(metrics: Any) -> float:
    return metrics["validation_loss"]
