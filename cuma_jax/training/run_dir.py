"""The folder of a run: whose it is, and what is in it."""

import json
import os
import pathlib
from typing import Any

from cuma_jax.cache import atomic_write
from cuma_jax.config import Config, from_dict, to_dict
from cuma_jax.errors import CumaError

CONFIG_FILE, METRICS_FILE = "config.json", "metrics.jsonl"
# Fields that may change between the start of a run and its resumption: they do not change what is learned.
_FREE = (
    *("run.", "mesh.", "evaluation.", "data.prefetch", "model.remat", "model.attention", "train.question_cache"),
    *("train.log_every", "train.save_every", "train.keep", "train.eval_every", "train.eval_batches"),
    "train.interference_every",
)


def run_dir(config: Config) -> pathlib.Path:
    """Folder of the run: `run.dir`, or runs/<name>."""
    return pathlib.Path(config.run.dir or f"runs/{config.name}").expanduser()


def read_config(folder: pathlib.Path) -> Config:
    """The resolved config that was saved with a run.

    Raises:
        CumaError: no run there, or a damaged file.
    """
    path = folder / CONFIG_FILE
    try:
        return from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CumaError(f"{path} does not exist; is {folder} the folder of a run?") from None
    except json.JSONDecodeError as error:
        raise CumaError(f"{path} is not valid JSON ({error})") from None


def open_run(config: Config) -> pathlib.Path:
    """Checks that the run's folder is new or belongs to this config; writes nothing.

    Raises:
        CumaError: a run with other settings is there, or resuming is switched off.
    """
    folder = run_dir(config)
    if folder.exists() and not folder.is_dir():
        raise CumaError(f"run.dir {folder} is a file; give a folder")
    if not (folder / CONFIG_FILE).exists():
        return folder
    if config.run.resume == "never":
        raise CumaError(f"run.dir {folder} holds a run already; choose another --run.dir, or --run.resume auto")
    old, new = _flat(to_dict(read_config(folder))), _flat(to_dict(config))
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
    atomic_write(folder / CONFIG_FILE, lambda path: _write_text(path, text))


def trim_metrics(folder: pathlib.Path, step: int) -> None:
    """Drops metrics after `step`, and a last line that was cut short: a resumed run writes them again."""
    path = folder / METRICS_FILE
    if path.exists():
        kept = "".join(json.dumps(line) + "\n" for line in read_metrics(folder) if line["step"] <= step)
        atomic_write(path, lambda part: _write_text(part, kept))


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


def _write_text(path: pathlib.Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _is_free(name: str) -> bool:
    return any(name == free or (free.endswith(".") and name.startswith(free)) for free in _FREE)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
