"""The config that a run's folder holds."""

import json
import pathlib

from cuma_jax.config.schema import Config, from_dict
from cuma_jax.runtime.errors import CumaError

CONFIG_FILE = "config.json"


def local_folder(name: str, option: str) -> pathlib.Path:
    """The folder that an option names; a `CumaError` for an address of a bucket."""
    if "://" in name:
        raise CumaError(
            f"{option} is {name!r}; it must be a folder. Mount the bucket (for gs://: gcsfuse) and give the folder "
            "where it is mounted; see docs/distributed.md"
        )
    return pathlib.Path(name).expanduser()


def read_config(folder: pathlib.Path) -> Config:
    """The resolved config that was saved with a run; a `CumaError` where there is none, or a damaged file."""
    path = folder / CONFIG_FILE
    try:
        return from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        stages = [str(inner.parent) for inner in sorted(folder.glob(f"*/{CONFIG_FILE}"))]
        hint = f" Runs in it: {', '.join(stages)}" if stages else ""
        raise CumaError(f"{path} does not exist; is {folder} the folder of a run?{hint}") from None
    except json.JSONDecodeError as error:
        raise CumaError(f"{path} is not valid JSON ({error})") from None
