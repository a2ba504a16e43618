"""A few training steps under JAX's profiler, where speed is to be looked at (`run.trace_steps`)."""

import contextlib
import pathlib
import shlex
from collections.abc import Iterator

import jax

from cuma_jax.training.metrics_log import Progress

FOLDER = "trace"
FIRST = 10
"""The first step traced, counted from where this process began: the ones before it compile."""


class StepTrace:
    """Traces `steps` steps into the run's folder, or as many as there are from the tenth on.

    Args:
        steps: steps to trace; 0: none.
        start: steps done before this process.
        progress: where to say what was written.
        active: whether this process writes; one process' devices are enough to see what a step is made of.
    """

    def __init__(self, folder: pathlib.Path, steps: int, start: int, progress: Progress, active: bool):
        self._folder, self._progress = folder / FOLDER, progress
        self._first = start + FIRST if active and steps else 0
        self._last, self._running, self._done = start + FIRST + steps - 1, False, start

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around the call that starts step `number`."""
        if number == self._first:
            # Python calls are left out: they are many, and what a step is made of is on the devices.
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True, profiler_options=options)
            self._running = True
        with jax.profiler.StepTraceAnnotation("train_step", step_num=number):
            yield
        self._done = number

    def due(self, number: int) -> bool:
        """Whether `number` is the last step to trace: the caller waits for its metrics, then calls `stop`."""
        return self._running and number == self._last

    def stop(self) -> None:
        """Writes the trace, if one is being taken, and says where it is."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            self._progress.say(
                f"trace of steps {self._first} to {self._done} in {self._folder}: open its perfetto_trace.json.gz at "
                f"https://ui.perfetto.dev, or: pip install xprof; xprof --logdir {shlex.quote(str(self._folder))}"
            )
        elif self._done < self._first:
            self._progress.say(
                f"run.trace_steps: no trace, because fewer than {FIRST} steps ran here (the trace begins at the tenth)"
            )
