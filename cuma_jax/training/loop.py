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
import math
import pathlib
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.data.batches import Batch
from cuma_jax.data.pairs import PairBatcher
from cuma_jax.data.pipeline import Gatherer, TrainBatches, epoch_steps, stream
from cuma_jax.objectives.grpo.prompt_layout import PromptLayout
from cuma_jax.objectives.grpo.step import Grpo, prompts_per_step
from cuma_jax.objectives.reference import Reference, check_reference, save_reference, with_reference_logps
from cuma_jax.run.folder import trim_metrics, write_config
from cuma_jax.run.layouts import PairLayout
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write
from cuma_jax.runtime.processes import asked_to_stop, process_count
from cuma_jax.runtime.sharding import local_rows, put_batch
from cuma_jax.surveys.splits import split_table
from cuma_jax.training.checkpoints import Checkpoints
from cuma_jax.training.interference import measure, while_training
from cuma_jax.training.meter import Meter
from cuma_jax.training.metrics_log import MetricsLog, Progress
from cuma_jax.training.optimizer import make_optimizer, make_schedule
from cuma_jax.training.state import abstract_state, state_shardings, with_shardings
from cuma_jax.training.step import TrainState, make_eval_step, make_train_step
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


def training_rows(run: Run, split: str) -> Gatherer:
    """The rows of a split as the objective wants them: cells, single answers, conversations, or pairs of replies."""
    mask_N = run.mask(split)
    if not mask_N.any():
        raise CumaError(f"the {split} split has no rows; check data.questions and the shares held out in data.*")
    return run.training.training_rows(mask_N)


def rows_per_step(run: Run) -> int:
    """Rows drawn for a step: `train.batch_size`, or the prompts that it writes so many replies to."""
    return prompts_per_step(run) if isinstance(run.training, PromptLayout) else run.config.train.batch_size


def total_steps(run: Run, batcher: Gatherer) -> int:
    """`train.steps`, or as many as `train.epochs` passes over the rows need; 0 where nothing is trained."""
    train, size = run.config.train, rows_per_step(run)
    if run.config.adapter.kind == "none":
        return 0
    exact = run.config.data.order == "epochs"
    one_pass = epoch_steps(batcher, size) if exact else len(batcher) / size
    return train.steps or max(math.ceil(train.epochs * one_pass), 1)


def training_source(run: Run) -> TrainBatches:
    """The batches that training draws."""
    batcher = training_rows(run, "train")
    train, data, size = run.config.train, run.config.data, rows_per_step(run)
    steps, local = total_steps(run, batcher), local_rows(run.mesh, size)
    return TrainBatches(batcher, size, steps, train.seed, local, data.order, data.questions_per_batch)


def validation_source(run: Run) -> TrainBatches | None:
    """The fixed batches of held-out rows that are validated on, drawn as training batches are; None without any.

    Prompts are not among them: see `grpo.Grpo.validate`.
    """
    train = run.config.train
    if isinstance(run.training, PromptLayout) or not train.eval_batches or not run.mask("validation").any():
        return None
    batcher, local = training_rows(run, "validation"), local_rows(run.mesh, train.batch_size)
    return TrainBatches(batcher, train.batch_size, train.eval_batches, train.seed, local)


def seen_pairs(run: Run) -> np.ndarray:
    """Numbers of the pairs that training and validation will see, each once; empty where rows are no pairs."""
    if not isinstance(run.training, PairLayout):
        return np.zeros(0, np.int64)
    found: list[np.ndarray] = []
    for source in (training_source(run), validation_source(run)):
        if source is not None:
            assert isinstance(source.batcher, PairBatcher)
            drawn = [source.draw(step)[1] for step in range(len(source))]
            found.append(source.batcher.index_N[np.unique(np.concatenate(drawn))])
    return np.unique(np.concatenate(found))


class Trainer:
    """What training needs beside the run: rows, schedule, optimiser and the jitted steps."""

    def __init__(self, run: Run):
        config, mesh = run.config, run.mesh
        self.run, self.reference = run, Reference(run)
        self.batches = training_source(run)
        self.rows, self.steps = len(self.batches.batcher), len(self.batches)
        self.about_rows = run.training.describe(self.batches.batcher, self.steps * rows_per_step(run))
        held_out = validation_source(run)
        self.validation = [] if held_out is None else [held_out[i] for i in range(len(held_out))]
        prompts = isinstance(run.training, PromptLayout)
        self.schedule = make_schedule(config.optimizer, self.steps * (config.grpo.updates if prompts else 1))
        self.optimizer = make_optimizer(config.optimizer, self.schedule)
        self.shardings = state_shardings(self.optimizer, run.adapter_shapes, run.adapter_shardings, mesh)
        self.train_step = make_train_step(
            run.train_decoder, config, self.optimizer, self.schedule, mesh, self.shardings, run.base_shardings
        )
        self.eval_step = make_eval_step(run.decoder, config, mesh, run.adapter_shardings, run.base_shardings)

        self.grpo: Grpo | None = None
        if prompts and self.steps:
            self.grpo = Grpo(run, self.batches.batcher, self.optimizer, self.schedule, self.shardings)

    def step(self, state: TrainState, bucket: int, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        """One step on this process's part of a batch; the old state's buffers are reused."""
        if self.grpo is not None:
            return self.grpo.step(state, bucket, batch)
        tables = self.run.training.tables[bucket]
        placed = self.reference.add(tables, put_batch(batch, self.run.mesh))
        return self.train_step(state, self.run.base, tables, placed)

    def abstract(self) -> Any:
        """Shapes and shardings of the state, for restoring."""
        return with_shardings(abstract_state(self.optimizer, self.run.adapter_shapes), self.shardings)

    def fresh(self) -> TrainState:
        """The state at step 0."""
        seed = self.run.config.train.seed
        adapters = self.run.init_adapters(seed)

        def start(adapters: Any) -> TrainState:
            key = jax.random.key_data(jax.random.fold_in(jax.random.key(seed), 1))
            return TrainState(jnp.zeros((), jnp.int32), adapters, self.optimizer.init(adapters), key)

        return jax.jit(start, out_shardings=self.shardings)(adapters)

    def validate(self, adapters: Any) -> dict[str, float]:
        """Mean loss and accuracy over the validation batches; empty without validation."""
        if self.grpo is not None:
            return self.grpo.validate(adapters)
        totals: dict[str, np.ndarray] = {}
        for bucket, batch in self.validation:
            tables, placed = self.run.training.tables[bucket], put_batch(batch, self.run.mesh)
            placed = self.reference.add(tables, placed)
            sums = jax.device_get(self.eval_step(adapters, self.run.base, tables, placed).objective)
            for name, s in sums.items():
                totals[name] = totals.get(name, np.zeros(2)) + np.array([s.total, s.count], np.float64)
        return {name: float(total / count) for name, (total, count) in totals.items()}


def train(run: Run, folder: pathlib.Path) -> Trained:
    """Trains to the last step, or until SIGTERM; resumes from the newest checkpoint.

    Raises:
        CumaError: a checkpoint that does not belong here, or a loss that is not finite.
    """
    config, mesh, writes = run.config, run.mesh, jax.process_index() == 0
    check_reference(run, folder)
    interference = while_training(run)  # its rows are not only those that training draws
    run = with_reference_logps(run, seen_pairs(run))
    trainer = Trainer(run)
    checkpoints = Checkpoints(folder, run)
    latest = checkpoints.latest()
    state = trainer.fresh() if latest is None else checkpoints.restore(latest, trainer.abstract())
    start = latest or 0
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder, config)
        trim_metrics(folder, start)
        save_split(folder, run)
        save_reference(run, folder)
        if run.table is not None:
            run.table.save(folder)
    log = MetricsLog(folder, config.run, writes)
    progress = Progress(trainer.steps, start, max(trainer.steps // PLAIN_LINES, 1), writes)
    if not trainer.steps:
        progress.say("adapter.kind is none: no steps are trained, the model is scored as it is")
    elif start == trainer.steps:
        progress.say(f"{folder} is trained already ({start} steps); to train anew, delete it or give another --run.dir")
    elif start:
        progress.say(f"resuming {folder} at step {start} of {trainer.steps}")
    else:
        for text in trainer.about_rows:
            progress.say(text)

    began, validation, done, stopping = time.perf_counter(), None, start, False
    trace = StepTrace(folder, config.run.trace_steps, start, progress, writes)
    epochs_per_step = rows_per_step(run) / trainer.rows
    meter = Meter(log, progress, config.train.log_every, trainer.steps, config.train.batch_size, epochs_per_step)
    with _stop_on_sigterm() as stop, jax.set_mesh(mesh), jax.transfer_guard("disallow"):
        if not trainer.steps and latest is None:  # a checkpoint like any other, so that readers need no special case
            checkpoints.save(state, trainer.validate(state.adapters).get("loss"))
        for bucket, batch in stream(trainer.batches, start, config.data.prefetch) if trainer.steps else ():
            with trace.step(done + 1):
                state, metrics = trainer.step(state, bucket, batch)
            done += 1
            meter.push(done, metrics)
            if trainer.grpo is not None:
                meter.flush()  # its steps have ended when they return: the next one needs the host
            if trace.due(done):
                meter.flush()
                trace.stop()
                meter.restart_clock()
            last, validation = done == trainer.steps, None
            if interference is not None and done % config.train.interference_every == 0:
                meter.flush()
                log.write({"step": done, "interference": measure(interference, state.adapters)})
                meter.restart_clock()
            if last or (config.train.eval_every and done % config.train.eval_every == 0):
                meter.flush()
                validation = trainer.validate(state.adapters)
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
    finished = done == trainer.steps and not stopping
    return Trained(state, finished, None if start else round(time.perf_counter() - began, 1))


def save_split(folder: pathlib.Path, run: Run) -> None:
    """Writes who was held out, by ids (split.parquet), so that another program can use the same split."""
    table = split_table(run.units, run.config.data)
    atomic_write(folder / SPLIT_FILE, lambda part: table.to_parquet(part, index=False))


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
