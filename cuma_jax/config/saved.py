"""The config that a run's folder holds, and what the run is known by beside it."""

import dataclasses
import os
import pathlib
from typing import Any

from cuma_jax.config.schema import Config, from_dict
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.json_files import is_sealed, read_json

CONFIG_FILE, IDENTITY_FILE = "config.json", "identity.json"
_PATHS = {"data": ("path", "raw", "wvb", "split"), "model": ("source", "tokenizer"), "profile": ("encoder", "context"),
          "adapter": ("init_from",)}  # fmt: skip
"""Fields that may hold a path."""


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

    Raises:
        CumaError: no run there, or a damaged file.
    """
    start = read_identity(folder).get("started_in", "")
    return located(saved_config(folder), start) if start not in ("", os.getcwd()) else saved_config(folder)


def located(config: Config, start: str) -> Config:
    """The config with the relative paths that exist in the folder `start` as absolute ones."""
    for section, names in _PATHS.items():
        values = getattr(config, section)
        found = {name: os.path.join(start, value) for name in names if (value := getattr(values, name))}
        there = {name: path for name, path in found.items() if os.path.exists(path)}
        config = dataclasses.replace(config, **{section: dataclasses.replace(values, **there)})
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
