"""One trial of a comparison: a variant with one seed. It is an ordinary run folder, with a record of how it went."""

import dataclasses
import hashlib
import json
import pathlib
import typing
from typing import Any, Literal

import numpy as np

from cuma_jax.analysis.run import ANALYSIS_FILE
from cuma_jax.config import Config, to_dict
from cuma_jax.config.comparison import Comparison, Variant
from cuma_jax.config.saved import CONFIG_FILE, RESULTS_FILE
from cuma_jax.evaluation.results import SCHEMA
from cuma_jax.run.folder import open_run, read_metrics
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import write_text
from cuma_jax.runtime.json_files import read_json

RECORD_FILE = "cell.json"
Status = Literal["finished", "stopped", "missing", "refused", "failed", "other settings"]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A variant with one seed (of initialisation, data order and dropout): a run's config and folder."""

    variant: Variant
    seed: int
    config: Config
    folder: pathlib.Path

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"{self.variant.name} seed {self.seed}"


def all_trials(comparison: Comparison, names: tuple[str, ...] = (), seeds: tuple[int, ...] = ()) -> list[Trial]:
    """The trials of a comparison, or some of them (see `Comparison.trials`), in the order they are run."""
    return [
        Trial(v, seed, config := comparison.config(v, seed), pathlib.Path(config.run.dir).expanduser())
        for v, seed in comparison.trials(names, seeds)
    ]


def status(trial: Trial) -> tuple[Status, str]:
    """Where a trial stands, from what is on disk, and why where that is not plain.

    Finished means: a run of exactly these settings is there, and its results.json is the one that this comparison
    wrote for these evaluation settings. A run that was scored again by hand with others counts as stopped.
    """
    try:
        open_run(trial.config)
    except CumaError as error:
        return "other settings", str(error)
    record = read_record(trial)
    if record is None or record.get("evaluation") != evaluation_key(trial.config):
        return ("stopped" if (trial.folder / CONFIG_FILE).exists() else "missing"), ""
    if record["status"] != "finished":
        return record["status"], record.get("error", "")
    same = record.get("results") == file_key(trial.folder / RESULTS_FILE)
    return ("finished", "") if same else ("stopped", "results.json is not the one that this comparison wrote")


def read_record(trial: Trial) -> dict[str, Any] | None:
    """What was noted at the end of the trial's last run; None where it never ended, or the note is damaged."""
    record = _read(trial.folder / RECORD_FILE) or {}
    known = record.get("status") in typing.get_args(Status) and isinstance(record.get("seconds"), int | float)
    return record if known else None


def read_analysis(trial: Trial) -> dict[str, Any] | None:
    """What `python -m cuma_jax.analyze` found of the trial; None where it was not run, or of an earlier checkpoint."""
    found, record = _read(trial.folder / ANALYSIS_FILE), read_record(trial)
    return found if found and record and found.get("step") == record.get("steps") else None


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        found = read_json(path)
    except (FileNotFoundError, CumaError):  # the trial goes on, and writes it anew
        return None
    return found if isinstance(found, dict) else None


def write_record(trial: Trial, outcome: Status, seconds: float, **more: Any) -> dict[str, Any]:
    """Notes how a trial ended, and what it cost: wall-clock seconds of this run, with assembling and compiling.

    `more` is kept as it is.
    """
    before = read_record(trial) or {}
    record = {"status": outcome, "evaluation": evaluation_key(trial.config), "seconds": round(seconds, 1), **more}
    if outcome == "finished":
        record |= {"results": file_key(trial.folder / RESULTS_FILE), **_costs(trial, before)}
    write_text(trial.folder / RECORD_FILE, json.dumps(record, indent=1) + "\n")
    return record


def _costs(trial: Trial, before: dict[str, Any]) -> dict[str, Any]:
    """Training seconds (from the speed where the run was interrupted), seconds a step, steps, evaluation seconds."""
    about = json.loads((trial.folder / RESULTS_FILE).read_text(encoding="utf-8"))["about"]
    lines = [line for line in read_metrics(trial.folder) if line.get("examples_per_s")]
    steps = max((line["step"] for line in lines), default=0)
    speed = [line["examples_per_s"] for line in lines]
    per_step = trial.config.train.batch_size / float(np.median(speed)) if speed else None
    seconds, estimated = about.get("training_seconds"), False
    if seconds is None:  # scored again, or gone on from a checkpoint: only the last part was on the clock
        seconds, estimated = before.get("training_seconds"), before.get("training_estimated", False)
    if seconds is None and per_step is not None:
        seconds, estimated = round(per_step * steps, 1), True
    return {
        "steps": steps,
        "training_seconds": seconds,
        "training_estimated": estimated,
        "seconds_per_step": per_step,
        "evaluation_seconds": about.get("evaluation_seconds"),
        "trainable_parameters": about.get("trainable_parameters"),
    }


def evaluation_key(config: Config) -> str:
    """Tells evaluation settings and forms of results.json apart; settings that only change the speed are left out."""
    values = to_dict(config)["evaluation"] | {"schema": SCHEMA}
    values.pop("batch_size")
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=list).encode()).hexdigest()[:16]


def file_key(path: pathlib.Path) -> str:
    """Tells the contents of files apart; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
