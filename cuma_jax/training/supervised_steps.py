"""Training steps that are one compiled program: batches in, state and metrics out; and their validation."""

from typing import Any

import jax
import numpy as np

from cuma_jax.data.batches import Batch
from cuma_jax.run.rows import validation_source
from cuma_jax.run.run import Run
from cuma_jax.runtime.sharding import put_batch
from cuma_jax.training.step import TrainState, UpdateRule, make_eval_step, make_train_step


class SupervisedSteps:
    """See `run.objective.Steps`.

    Args:
        run: a config made real.
        rule: how gradients become updates.
    """

    synchronous = False

    def __init__(self, run: Run, rule: UpdateRule):
        self._run, self._complete = run, run.objective.completer(run)
        held_out = validation_source(run)
        self._held_out = [] if held_out is None else [held_out[i] for i in range(len(held_out))]
        sums = run.objective.sums
        self.train_step = make_train_step(run.train_decoder, run.config, sums, rule, run.mesh, run.base_shardings)
        self.eval_step = make_eval_step(
            run.decoder, run.config, sums, run.mesh, run.adapter_shardings, run.base_shardings
        )

    def step(self, state: TrainState, bucket: int, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        """One step on this process's part of a batch; the old state's buffers are reused."""
        tables = self._run.training.tables[bucket]
        placed = self._complete(tables, put_batch(batch, self._run.mesh))
        return self.train_step(state, self._run.base, tables, placed)

    def validate(self, adapters: Any) -> dict[str, float]:
        """Mean loss and accuracy over the validation batches; empty without validation."""
        totals: dict[str, np.ndarray] = {}
        for bucket, batch in self._held_out:
            tables = self._run.training.tables[bucket]
            placed = self._complete(tables, put_batch(batch, self._run.mesh))
            sums = jax.device_get(self.eval_step(adapters, self._run.base, tables, placed).objective)
            for name, s in sums.items():
                totals[name] = totals.get(name, np.zeros(2)) + np.array([s.total, s.count], np.float64)
        return {name: float(total / count) for name, (total, count) in totals.items()}
