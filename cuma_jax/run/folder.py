"""The folder of a run: whose it is, and what is in it."""

import contextlib
import json
import os
import pathlib
import time
import uuid
from typing import Any

from cuma_jax.config import Config, to_dict
from cuma_jax.config.saved import CONFIG_FILE, local_folder, read_config
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import write_text
from cuma_jax.runtime.processes import barrier, decide, flat, gather, process_count, process_index

METRICS_FILE = "metrics.jsonl"
_SEEN_S = 20.0
"""How long a file may take to be seen by another host."""
# Fields that may change between the start of a run and its resumption: they do not change what is learned.
_FREE = (
    *("run.", "mesh.", "evaluation.", "model.remat", "model.attention", "train.question_cache"),
    *("train.log_every", "train.save_every", "train.keep", "train.eval_every", "train.eval_batches"),
    *("train.interference_every", "reward.max_failed", "judge.url", "judge.key_env", "judge.concurrency"),
    *("judge.requests_per_minute", "judge.max_requests", "judge.timeout", "judge.retries", "judge.max_failed"),
)


def run_dir(config: Config) -> pathlib.Path:
    """Folder of the run: `run.dir`, or runs/<name>; a `CumaError` for an address of a bucket."""
    return local_folder(config.run.dir or f"runs/{config.name}", "run.dir")


def check_shared(folder: pathlib.Path) -> None:
    """Checks that all processes see one folder: each writes its part of a checkpoint there. Leaves nothing behind.

    Raises:
        CumaError: names the processes that do not see what process 0 writes.
    """
    if process_count() == 1:
        return
    mark = folder / f".seen-{decide(uuid.uuid4().hex)}"
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    if process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    barrier()
    until = time.monotonic() + _SEEN_S
    # Listing a folder, unlike asking for a file, makes a network disk look again.
    while not (seen := folder.is_dir() and mark.name in os.listdir(folder)) and time.monotonic() < until:
        time.sleep(0.5)
    blind = [i for i, sees in enumerate(gather("seen" if seen else "")) if not sees]
    if process_index() == 0:
        mark.unlink()
        with contextlib.suppress(OSError):  # somebody else has put something there
            for parent in made:
                parent.rmdir()
    if blind:
        raise CumaError(
            f"run.dir {folder.absolute()} is not one folder for all processes: what process 0 writes, "
            f"{_named(blind)} {'does' if len(blind) == 1 else 'do'} not see. Give a folder on a disk that all hosts "
            "share (NFS, Filestore, or a mounted bucket)"
        )
    barrier()


def _named(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return f"process {shown}" if len(numbers) == 1 else f"processes {shown}"


def open_run(config: Config) -> pathlib.Path:
    """Checks that the run's folder is new or belongs to this config; writes nothing.

    Raises:
        CumaError: a run with other settings is there.
    """
    folder = run_dir(config)
    if folder.exists() and not folder.is_dir():
        raise CumaError(f"run.dir {folder} is a file; give a folder")
    if not (folder / CONFIG_FILE).exists():
        return folder
    old, new = (flat(json.loads(json.dumps(to_dict(c)))) for c in (read_config(folder), config))
    changed = [f"{k} was {old.get(k)!r}, now {new.get(k)!r}" for k in new if old.get(k) != new[k] and not _is_free(k)]
    if changed:
        raise CumaError(
            f"run.dir {folder} holds a run with other settings ({'; '.join(changed)}); "
            "choose another --run.dir, or delete that folder"
        )
    return folder


def write_config(folder: pathlib.Path, config: Config) -> None:
    """Saves the resolved config with the run."""
    text = json.dumps(to_dict(config), indent=1) + "\n"
    write_text(folder / CONFIG_FILE, text)


def trim_metrics(folder: pathlib.Path, step: int) -> None:
    """Drops metrics after `step`, and a last line that was cut short: a resumed run writes them again."""
    path = folder / METRICS_FILE
    if path.exists():
        kept = "".join(json.dumps(line) + "\n" for line in read_metrics(folder) if line["step"] <= step)
        write_text(path, kept)


def read_metrics(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that was cut short is left out."""
    path = folder / METRICS_FILE
    if not path.exists():
        return []
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True)):
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError as error:
            if line.endswith("\n"):
                raise CumaError(f"{path}, line {number + 1} is not valid JSON ({error})") from None
    return lines


def _is_free(name: str) -> bool:
    return any(name == free or (free.endswith(".") and name.startswith(free)) for free in _FREE)
