"""The folder of a run: whose it is, and what is in it."""

import contextlib
import json
import os
import pathlib
import time
import uuid
from collections.abc import Sequence
from typing import Any

from cuma_jax.config import Config, to_dict
from cuma_jax.config.saved import (
    CONFIG_FILE,
    IDENTITY_FILE,
    RESULTS_FILE,
    local_folder,
    located,
    read_identity,
    saved_config,
)
from cuma_jax.run.saved_adapters import has_checkpoint
from cuma_jax.runtime.errors import CumaError, os_error_text
from cuma_jax.runtime.files import content_key, write_text
from cuma_jax.runtime.json_files import sealed
from cuma_jax.runtime.processes import barrier, decide, flat, gather, process_count, process_index

METRICS_FILE = "metrics.jsonl"
CHAT_TEMPLATE = "chat template"
"""The part of the contents that is of the tokenizer's files, not of the data."""
_KEPT = ("started_in", "cpu_cores")
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


def check_data_path(folder: pathlib.Path | None, config: Config) -> None:
    """Checks that the data of a trained run are found from here.

    Raises:
        CumaError: a path of theirs is relative to another folder.
    """
    if not folder or not has_checkpoint(folder):
        return
    context = "" if config.profile.context == "gapminder" else config.profile.context
    for name, value in (("data.path", config.data.path), ("profile.context", context)):
        path = pathlib.Path(value).expanduser()
        if value and not path.is_absolute() and not path.exists():
            start = read_identity(folder).get("started_in")
            raise CumaError(
                f"{name} of {folder / CONFIG_FILE} is {value!r}, relative to the folder in which training was "
                f"started{f' ({start})' if start else ''}, and is not there; give the command in a folder where it is"
            )


def open_run(config: Config) -> pathlib.Path:
    """Checks that the run's folder is new or belongs to this config; writes nothing.

    Raises:
        CumaError: a run with other settings is there.
    """
    folder = run_dir(config)
    if folder.exists() and not folder.is_dir():
        raise CumaError(f"run.dir {folder} is a file; give a folder")
    # Begun, and nothing came of it: at a loss that is not finite, for one.
    scored = (folder / RESULTS_FILE).exists()
    in_vain = (folder / METRICS_FILE).exists() and not has_checkpoint(folder) and not scored
    if not (folder / CONFIG_FILE).exists() or in_vain:
        return folder
    check_files(folder)
    saved = located(saved_config(folder), read_identity(folder).get("started_in", os.getcwd()))
    old, new = (flat(json.loads(json.dumps(to_dict(c)))) for c in (saved, located(config, os.getcwd())))
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


def write_identity(folder: pathlib.Path, known: dict[str, list[Any]], files: Sequence[str]) -> None:
    """Saves what a run is known by beside its config: keys of its data, and of `files` of its folder; and where, and on
    how many cores, it was started; of a run that is resumed, where it was at first."""
    old = read_identity(folder) if has_checkpoint(folder) else {}  # one begun in vain starts here
    values = {"started_in": os.getcwd(), "cpu_cores": cpu_cores()} | {k: old[k] for k in _KEPT if k in old}
    values |= {"contents": known, "files": {name: _file_key(folder / name) for name in files}}
    write_text(folder / IDENTITY_FILE, json.dumps(sealed(values), indent=1) + "\n")


def check_contents(folder: pathlib.Path | None, config: Config, known: dict[str, list[Any]]) -> None:
    """Checks that data, as `data.contents` has them, are those of the run in `folder`, where it has any.

    Raises:
        CumaError: others; says what differs.
    """
    old = read_identity(folder).get("contents", {}) if folder and has_checkpoint(folder) else {}
    differ = [part for part, now in known.items() if part in old and old[part] != now]
    if differ == [CHAT_TEMPLATE]:
        raise CumaError(
            f"{folder} holds a run that was trained with another tokenizer or chat template than "
            f"{config.model.tokenizer or config.model.source} has now. Put the former tokenizer files back "
            "(model.source, model.tokenizer), or train with these in another folder (--run.dir)"
        )
    if differ:
        data, wrong = config.data, [_difference(part, old[part][0], known[part][0]) for part in differ]
        raise CumaError(
            f"{folder} holds a run that was trained on other data than {data.source} "
            f"{data.path or ''}{' ' if data.path else ''}gives now: {'; '.join(wrong)} differ. Put the former data "
            "back (data.path, data.split), or train on these in another folder (--run.dir)"
        )


def _difference(part: str, then: Any, now: Any) -> str:
    if part == CHAT_TEMPLATE:
        return part
    many = f"{then} then, {now} now" if then != now else f"as many, {now}, but with other contents or in another order"
    return f"{part} ({many})"


def check_files(folder: pathlib.Path) -> None:
    """Checks files of a run that go on being used against what was written.

    Raises:
        CumaError: one is damaged.
    """
    for name, key in read_identity(folder).get("files", {}).items():
        if (folder / name).is_file() and _file_key(folder / name) != key:
            raise CumaError(f"{folder / name} is damaged: it is not what was written; delete it, and run the same "
                            "command again: it writes the file anew")  # fmt: skip


def cpu_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _file_key(path: pathlib.Path) -> str:
    try:
        return content_key(path.read_bytes())
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise CumaError(os_error_text(error, path)) from None


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
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CumaError(os_error_text(error, path)) from None
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        try:
            found = json.loads(line)
            if not isinstance(found, dict) or not isinstance(found.get("step"), int):
                raise ValueError("no object with a step")
            lines.append(found)
        except (ValueError, RecursionError) as error:
            if line.endswith(b"\n") or line.strip(b"\0")[:1] not in (b"", b"{"):  # not one that was cut short
                raise CumaError(
                    f"{path} is damaged: line {number} is not valid JSON of a step ({error}); delete that line, or the "
                    "file: only the curves of report.html are made of it"
                ) from None
    return lines


def _is_free(name: str) -> bool:
    return any(name == free or (free.endswith(".") and name.startswith(free)) for free in _FREE)
