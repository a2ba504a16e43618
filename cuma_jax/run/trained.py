"""What a run has learned: the adapters of one of its checkpoints, on the devices."""

import dataclasses
import json
import pathlib
from typing import Any

from cuma_jax.run.rows import rows_of, total_steps
from cuma_jax.run.run import Run
from cuma_jax.run.saved_adapters import find_step, read_adapters
from cuma_jax.runtime.processes import decide

Tree = Any


@dataclasses.dataclass(frozen=True)
class CheckpointInfo:
    """Which state of a run is scored or asked.

    Attributes:
        checkpoint: `last` or `best`.
        step: the step it was saved at.
        latest: the step that training has come to.
        steps: the step that training ends at.
    """

    checkpoint: str
    step: int
    latest: int
    steps: int

    def about(self) -> dict[str, Any]:
        """What results.json says of it: `checkpoint` in words, `step`, `steps`, and whether training is unfinished."""
        return {
            "checkpoint": f"{self.checkpoint}, step {self.step} of {self.steps}",
            "step": self.step,
            "steps": self.steps,
            "unfinished": self.latest < self.steps,
        }


def load_adapters(run: Run, folder: pathlib.Path, which: str) -> tuple[Tree, CheckpointInfo]:
    """The adapters of a run's newest (`last`) or best checkpoint, each shard on its device. All processes call this.

    The optimiser's state is not read.

    Raises:
        CumaError: there is no such checkpoint, it does not belong to the run, or it cannot be read.
    """
    # What process 0 sees on the disk is so for all.
    step, latest = json.loads(decide(json.dumps(find_step(folder, which))))
    adapters = read_adapters(folder, step, run.abstract_adapters, run.fingerprint).adapters
    return adapters, CheckpointInfo(which, step, latest, total_steps(run, rows_of(run, "train")))
