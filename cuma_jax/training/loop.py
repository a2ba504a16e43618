"""The training loop: batches in, metrics out one step late, checkpoints on the way.

The order of restoring, exactly:
1. the run's folder is checked against the config (run_dir.open_run), nothing is written;
2. everything that does not change while training is put together (run.build_run);
3. the newest whole checkpoint, if there is one, is checked against base and adapters and restored; else adapters are
   initialised and the optimiser starts at zero;
4. metrics after the restored step are dropped from metrics.jsonl;
5. the data stream starts at the restored step.
"""

import dataclasses
import pathlib
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from cuma_jax.config.saved import read_identity
from cuma_jax.data.pipeline import stream
from cuma_jax.profile_encoders.profile_table import FILE as TABLE_FILE
from cuma_jax.run.folder import cpu_cores, trim_metrics, write_config, write_identity
from cuma_jax.run.rows import training_source
from cuma_jax.run.run import Run
from cuma_jax.runtime.files import atomic_write
from cuma_jax.runtime.processes import asked_to_stop, process_count
from cuma_jax.runtime.sharding import with_shardings
from cuma_jax.training.checkpoints import Checkpoints
from cuma_jax.training.interference import while_training
from cuma_jax.training.interference_metrics import summaries
from cuma_jax.training.meter import Meter
from cuma_jax.training.metrics_log import MetricsLog, Progress
from cuma_jax.training.optimizer import make_optimizer, make_schedule
from cuma_jax.training.state import abstract_state, state_shardings
from cuma_jax.training.step import SupervisedSteps, TrainState, UpdateRule
from cuma_jax.training.trace import StepTrace

SPLIT_FILE = "split.parquet"
PLAIN_LINES = 20
"""Progress lines over a whole run, where there is no terminal for a bar."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """The end of training.

    Attributes:
        state: the last state.
        finished: False where a signal asked to stop; at the last step too, so that no scoring follows.
        seconds: time in the loop; None for a resumed run, whose earlier part is not known.
    """

    state: TrainState
    finished: bool
    seconds: float | None


class Trainer:
    """What training needs beside the run: its batches, the optimiser, and the objective's steps."""

    def __init__(self, run: Run):
        config, objective = run.config, run.objective
        self.run, self.batches = run, training_source(run)
        self.rows, self.total = len(self.batches.batcher), len(self.batches)
        self.about_rows = run.training.describe(self.batches.batcher, self.total * objective.rows_per_step(config))
        schedule = make_schedule(config.optimizer, self.total * objective.updates_per_step(config))
        optimizer = make_optimizer(config.optimizer, schedule)
        shardings = state_shardings(optimizer, run.adapter_shapes, run.adapter_shardings, run.mesh)
        self.rule = UpdateRule(optimizer, schedule, shardings)
        self.steps = objective.steps(run, self.batches, self.rule) or SupervisedSteps(run, self.rule)

    def abstract(self) -> Any:
        """Shapes and shardings of the state, for restoring."""
        return with_shardings(abstract_state(self.rule.optimizer, self.run.adapter_shapes), self.rule.shardings)

    def fresh(self) -> TrainState:
        """The state at step 0."""
        seed = self.run.config.train.seed
        adapters = self.run.init_adapters(seed)

        def start(adapters: Any) -> TrainState:
            key = jax.random.key_data(jax.random.fold_in(jax.random.key(seed), 1))
            return TrainState(jnp.zeros((), jnp.int32), adapters, self.rule.optimizer.init(adapters), key)

        return jax.jit(start, out_shardings=self.rule.shardings)(adapters)


def train(run: Run, folder: pathlib.Path) -> Trained:
    """Trains to the last step, or until SIGTERM; resumes from the newest checkpoint.

    Raises:
        CumaError: a checkpoint that does not belong here, or a loss that is not finite.
    """
    config, mesh, writes = run.config, run.mesh, jax.process_index() == 0
    interference = while_training(run)  # its rows are not only those that training draws
    run = run.objective.prepare(run, folder)
    trainer = Trainer(run)
    checkpoints = Checkpoints(folder, run)
    latest = checkpoints.latest()
    state = trainer.fresh() if latest is None else checkpoints.restore(latest, trainer.abstract())
    start, cores = latest or 0, cpu_cores()
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder, config)
        trim_metrics(folder, start)
        save_split(folder, run)
        run.objective.record(run, folder)
        if run.table is not None:
            run.table.save(folder)
        cores = read_identity(folder).get("cpu_cores", cpu_cores())
        write_identity(folder, run.contents, (SPLIT_FILE, *([TABLE_FILE] if run.table else ())))
    log = MetricsLog(folder, config.run, writes)
    progress = Progress(trainer.total, start, max(trainer.total // PLAIN_LINES, 1), writes)
    if not trainer.total:
        why = "adapter.kind is none" if config.adapter.kind == "none" else "train.steps and train.epochs are 0"
        progress.say(f"{why}: no steps are trained, the model is scored as it is")
    elif start == trainer.total:
        progress.say(f"{folder} is trained already ({start} steps); to train anew, delete it or give another --run.dir")
    elif start:
        progress.say(f"resuming {folder} at step {start} of {trainer.total}")
        if cores != cpu_cores() and mesh.devices.flat[0].platform == "cpu":
            progress.say(
                f"  it was begun on {cores} CPU cores and goes on with {cpu_cores()}: sums are taken in another order, "
                "so that losses may differ from those of an undisturbed run from the seventh digit on"
            )
    else:
        for text in trainer.about_rows:
            progress.say(text)

    began, validation, done, stopping = time.perf_counter(), None, start, False
    trace = StepTrace(folder, config.run.trace_steps, start, progress, writes)
    epochs_per_step = run.objective.rows_per_step(config) / trainer.rows
    meter = Meter(log, progress, config.train.log_every, trainer.total, config.train.batch_size, epochs_per_step)
    with _stop_on_sigterm() as stop, jax.set_mesh(mesh), jax.transfer_guard("disallow"):
        if not trainer.total and latest is None:  # a checkpoint like any other, so that readers need no special case
            checkpoints.save(state, trainer.steps.validate(state.adapters).get("loss"))
        for bucket, batch in stream(trainer.batches, start) if trainer.total else ():
            with trace.step(done + 1):
                state, metrics = trainer.steps.step(state, bucket, batch)
            done += 1
            meter.push(done, metrics)
            if trainer.steps.synchronous:
                meter.flush()
            if trace.due(done):
                meter.flush()
                trace.stop()
                meter.restart_clock()
            last, validation = done == trainer.total, None
            if interference is not None and done % config.train.interference_every == 0:
                meter.flush()
                log.write({"step": done, "interference": summaries(interference(state.adapters))})
                meter.restart_clock()
            if last or (config.train.eval_every and done % config.train.eval_every == 0):
                meter.flush()
                validation = trainer.steps.validate(state.adapters)
                if validation:
                    log.write({"step": done, "eval": "validation", **validation})
                    progress.say(f"step {done}: validation loss {validation['loss']:.4f}")
                meter.restart_clock()
            stopping = stop.is_set() or asked_to_stop()
            if last or stopping or (config.train.save_every and done % config.train.save_every == 0):
                meter.flush()  # a state whose loss is not finite is not saved
                checkpoints.save(state, (validation or {}).get("loss"))
                meter.restart_clock()
            if stopping and not last:
                break
        meter.flush()
        trace.stop()
        checkpoints.close()  # a second SIGTERM must not end what the first asked to save
    progress.close()
    log.close()
    finished = done == trainer.total and not stopping
    return Trained(state, finished, None if start else round(time.perf_counter() - began, 1))


def save_split(folder: pathlib.Path, run: Run) -> None:
    """Writes who was held out, by ids (split.parquet), so that another program can use the same split."""
    atomic_write(folder / SPLIT_FILE, lambda part: run.split_table.to_parquet(part, index=False))


@contextmanager
def _stop_on_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets: the loop then saves and ends. Signals reach only the main thread.

    Where there are several processes, JAX's own handler hears SIGTERM from the start, so that they can agree.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    several = process_count() > 1
    before = signal.SIG_DFL if several else signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
