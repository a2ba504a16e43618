"""From the metrics of steps to the lines of the log: read late, averaged over the steps of a line, checked."""

import time
from typing import Any

import jax
import numpy as np

from cuma_jax.runtime.errors import CumaError
from cuma_jax.training.metrics_log import Line, MetricsLog, Progress

_SUMMED = ("seconds_", "reply_tokens")
"""Metrics that are summed over the steps of a line."""


class Meter:
    """Reads metrics one step late, so that the device always has the next step to work on."""

    def __init__(
        self, log: MetricsLog, progress: Progress, every: int, steps: int, batch_size: int, epochs_per_step: float
    ):
        self._log, self._progress, self._every, self._steps, self._rows = log, progress, every, steps, batch_size
        self._epochs_a_step = epochs_per_step
        self._sums: dict[str, float] = {}
        self._pending: tuple[int, Any] | None = None
        self._tokens = self._counted = 0
        self._seconds, self._since = 0.0, time.perf_counter()

    def push(self, step: int, metrics: Any) -> None:
        """The metrics of `step` are on their way; reads those of the step before."""
        before, self._pending = self._pending, (step, metrics)
        self._read(before)

    def flush(self) -> None:
        """Reads what is on its way."""
        before, self._pending = self._pending, None
        self._read(before)

    def restart_clock(self) -> None:
        """Time spent outside training steps (validation, saving) does not count as training speed."""
        self._since = time.perf_counter()

    def _read(self, pending: tuple[int, Any] | None) -> None:
        if pending is None:
            return
        step, metrics = pending[0], jax.device_get(pending[1])
        if not np.isfinite(metrics["total"]) or not np.isfinite(metrics["gradient_norm"]):
            raise CumaError(
                f"training stopped: at step {step} the loss is {float(metrics['loss']):g} and the gradient norm "
                f"{float(metrics['gradient_norm']):g} (last finite step {step - 1}); lower optimizer.learning_rate, or "
                "set optimizer.clip, and run again: it resumes from the last checkpoint"
            )
        now = time.perf_counter()
        self._seconds += now - self._since
        self._since = now
        self._tokens += int(metrics["tokens"])
        self._counted += 1
        for name in metrics:
            if name.startswith(_SUMMED):
                self._sums[name] = self._sums.get(name, 0.0) + float(metrics[name])
        line: Line | None = None
        if step % self._every == 0 or step == self._steps or step == 1:
            # What there is depends on the objective; `total` is not logged, and tokens are as their speed.
            hidden = ("total", "tokens", *self._sums)
            line = {"step": step} | {name: float(x) for name, x in metrics.items() if name not in hidden}
            line["epoch"] = step * self._epochs_a_step
            line["tokens_per_s"] = self._tokens / self._seconds
            line["examples_per_s"] = self._counted * self._rows / self._seconds
            line |= shares_of_time(self._sums, self._seconds)
            self._log.write(line)
            self._sums = {}
            self._tokens = self._counted = 0
            self._seconds = 0.0
        self._progress.update(step, line)


def shares_of_time(sums: dict[str, float], seconds: float) -> dict[str, float]:
    """Where the time of some steps went, for objectives that say so.

    Args:
        sums: `seconds_*` of the steps' parts, and `reply_tokens`; empty: nothing is known.
        seconds: of these steps, by the clock.

    Returns:
        `time_*`, shares of the seconds, with `time_rest` for what is in no part; `reply_tokens_per_s`.
    """
    parts = {name.removeprefix("seconds_"): value for name, value in sums.items() if name.startswith("seconds_")}
    if not parts:
        return {}
    shares = {f"time_{name}": value / seconds for name, value in parts.items()}
    shares["time_rest"] = max(1.0 - sum(shares.values()), 0.0)
    return shares | {"reply_tokens_per_s": sums["reply_tokens"] / seconds}
