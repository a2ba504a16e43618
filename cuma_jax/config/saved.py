"""The config that a run's folder holds, what the run is known by beside it, and which steps it has saved."""

import dataclasses
import os
import pathlib
import re
import typing
from typing import Any

from cuma_jax.config.fields import Place, declared
from cuma_jax.config.schema import Config, from_dict
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.json_files import is_sealed, read_json

CONFIG_FILE, IDENTITY_FILE, RESULTS_FILE = "config.json", "identity.json", "results.json"
CHECKPOINTS = "checkpoints"
"""Of a run's folder: its settings, what it is known by, its scores (`evaluation` writes them), and its saved steps."""
ANALYSIS_TABLES, MAPS = "analysis", "maps.parquet"
"""Tables of `analysis`, a file each, and the one with the places of groups."""
_WRITTEN = ("new folder", "new file")
"""Kinds of a `Place` that say where to write, not what is read."""


def local_folder(name: str, option: str) -> pathlib.Path:
    """The folder that an option names; a `CumaError` for an address of a bucket."""
    if "://" in name:
        raise CumaError(
            f"{option} is {name!r}; it must be a folder. Mount the bucket (for gs://: gcsfuse) and give the folder "
            "where it is mounted; see docs/distributed.md"
        )
    return pathlib.Path(name).expanduser()


def read_config(folder: pathlib.Path) -> Config:
    """The resolved config that was saved with a run; paths that are relative to where it was started are absolute,
    where this is another folder.

    They are looked for where training was started, and then, for a run that was moved or copied with its data, where
    that is by the place of its own folder: `run.dir` is runs/mine, so beside `runs`.

    Raises:
        CumaError: no run there, or a damaged file.
    """
    config, start = saved_config(folder), read_identity(folder).get("started_in", "")
    if start == os.getcwd():
        return config
    config = located(config, start) if start else config
    parts = pathlib.PurePath(config.run.dir or f"runs/{config.name}").parts
    above = folder.resolve().parts
    beside = os.path.join(*above[: -len(parts)], "") if above[-len(parts) :] == parts else ""
    return located(config, beside) if beside and beside != start else config


def located(config: Config, start: str) -> Config:
    """The config with the relative paths that exist in the folder `start` as absolute ones.

    Paths are the fields that are declared a `Place` which is read; a word of such a field is none, whatever a folder
    there is called.
    """
    for section in dataclasses.fields(config):
        values, there = getattr(config, section.name), {}
        if not dataclasses.is_dataclass(values):
            continue
        for name, (_, kind) in declared(typing.cast(Any, type(values))).items():
            value = getattr(values, name)
            if not isinstance(kind, Place) or kind.what in _WRITTEN or not value or value in kind.words:
                continue
            if os.path.exists(path := os.path.join(start, value)):
                there[name] = path
        if there:
            config = dataclasses.replace(
                config, **{section.name: dataclasses.replace(typing.cast(Any, values), **there)}
            )
    return config


def saved_config(folder: pathlib.Path) -> Config:
    """The same with paths as they were given."""
    path = folder / CONFIG_FILE
    try:
        values = read_json(path, "put the file back from a copy, or train anew in another folder")
    except FileNotFoundError:
        stages = [str(inner.parent) for inner in sorted(folder.glob(f"*/{CONFIG_FILE}"))]
        hint = f" Runs in it: {', '.join(stages)}" if stages else ""
        raise CumaError(f"{path} does not exist; is {folder} the folder of a run?{hint}") from None
    try:
        return from_dict(values)
    except CumaError as error:
        raise CumaError(f"{path}: {error}") from None


def read_identity(folder: pathlib.Path) -> dict[str, Any]:
    """What `write_identity` saved; empty for a run of a version that saved none.

    Raises:
        CumaError: a damaged file.
    """
    path, advice = folder / IDENTITY_FILE, "delete it: the run's data are then not compared with what they were"
    try:
        values = read_json(path, advice)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if not isinstance(values, dict) or not is_sealed(values):
        raise CumaError(f"{path} is damaged: it is not what was written; {advice}")
    return values


def saved_steps(folder: pathlib.Path) -> list[int]:
    """The steps that a run has saved, in order. A folder in which nothing is of a checkpoint is none."""
    found = [path for path in (folder / CHECKPOINTS).glob("*") if re.fullmatch("0|[1-9][0-9]*", path.name)]
    return sorted(int(path.name) for path in found if (path / "state").exists() or (path / "belongs").exists())
