"""Checkpoints: adapters, optimiser, step, key and data position, with what they belong to.

Orbax writes to a temporary folder and renames it when it is whole, so a half-written checkpoint is never seen.
The base is not saved; its fingerprint is, and a checkpoint of another base or another adapter shape is refused.
"""

import json
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from cuma_jax.config import to_dict
from cuma_jax.run.run import Run
from cuma_jax.run.saved_adapters import FOLDER, best_step, shape_differences, tensor_shapes
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.processes import decide
from cuma_jax.training.step import TrainState

Tree = Any


class Checkpoints:
    """The checkpoints of one run: the newest `train.keep`, and the best by validation loss.

    Args:
        run_dir: folder of the run.
        run: what the checkpoints belong to.
        read_only: never write or delete.
    """

    def __init__(self, run_dir: pathlib.Path, run: Run, read_only: bool = False):
        self._folder, self._run = (run_dir / FOLDER).absolute(), run
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
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, state: TrainState, validation_loss: float | None) -> None:
        """Saves `state` (all processes call this); `validation_loss` in nats, where it is known."""
        step = int(jax.device_get(state.step))
        if step in self._manager.all_steps():
            return
        metrics = None if validation_loss is None else {"validation_loss": float(validation_loss)}
        belongs = {
            "base": self._run.fingerprint,
            "adapters": tensor_shapes(self._run.adapter_shapes),
            "data_position": step,
            "config": to_dict(self._run.config),
        }
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), belongs=ocp.args.JsonSave(belongs))
        self._manager.save(step, args=args, metrics=metrics)

    def latest(self) -> int | None:
        """Step of the newest whole checkpoint, or None; what process 0 sees is so for all."""
        return json.loads(decide(json.dumps(self._manager.latest_step())))

    def best(self) -> int | None:
        """Step of the checkpoint with the lowest validation loss, or None where none has one."""
        return json.loads(decide(json.dumps(best_step(self._manager))))

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state saved at `step`, laid out as `abstract` says (any mesh, any number of processes).

        Raises:
            CumaError: the checkpoint belongs to another base or another adapter shape, or cannot be read.
        """
        where = self._folder / str(step)
        belongs = self._read(step, "belongs", ocp.args.JsonRestore())
        if belongs["base"] != self._run.fingerprint:
            raise CumaError(
                f"checkpoint {where} was trained on another base model (fingerprint {belongs['base'][:12]}, here "
                f"{self._run.fingerprint[:12]}); use the same model.source, or another run.dir"
            )
        here = tensor_shapes(self._run.adapter_shapes)
        if belongs["adapters"] != here:
            raise CumaError(f"checkpoint {where} has other adapters: {shape_differences(belongs['adapters'], here)}")
        return self._read(step, "state", ocp.args.StandardRestore(abstract))

    def _read(self, step: int, item: str, how: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
        except (OSError, ValueError, KeyError) as error:
            where, reason = self._folder / str(step), str(error).partition("\n")[0]
            raise CumaError(f"checkpoint {where} cannot be read ({reason}); delete that folder and resume") from error

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def _validation_loss(metrics: Any) -> float:
    return metrics["validation_loss"]
