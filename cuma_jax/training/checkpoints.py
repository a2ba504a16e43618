"""Checkpoints: adapters, optimiser, step, key and data position, with what they belong to.

Orbax writes to a temporary folder and renames it when it is whole, so a half-written checkpoint is never seen.
The base is not saved; its fingerprint is. `run.saved_adapters` reads what is written here.
"""

import json
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from cuma_jax.config import to_dict
from cuma_jax.run.run import Run
from cuma_jax.run.saved_adapters import FOLDER, read_state, tensor_shapes
from cuma_jax.runtime.processes import decide
from cuma_jax.training.step import TrainState

Tree = Any


class Checkpoints:
    """The checkpoints of one run: the newest `train.keep`, and the best by validation loss."""

    def __init__(self, run_dir: pathlib.Path, run: Run):
        self._run_dir, self._run = run_dir, run
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
        self._manager = ocp.CheckpointManager((run_dir / FOLDER).absolute(), options=options)

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

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state saved at `step`, laid out as `abstract` says (any mesh, any number of processes).

        Raises:
            CumaError: the checkpoint belongs to another base or another adapter shape, or cannot be read.
        """
        return read_state(self._run_dir, step, abstract, self._run.fingerprint)

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def _validation_loss(metrics: Any) -> float:
    return metrics["validation_loss"]
