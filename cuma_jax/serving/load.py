"""Opens what was trained: a run's folder, with its bundle or with its data at hand, an export, or a hub name."""

import pathlib
import re
from typing import Any

from cuma_jax.config.checks import SPLITS
from cuma_jax.config.saved import CONFIG_FILE, local_folder, read_config, saved_steps
from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving.bundle.contents import Contents, contents_of
from cuma_jax.serving.bundle.files import has_adapters, has_bundle, read_contents, results_values
from cuma_jax.serving.model import Model
from cuma_jax.surveys.survey import Survey

_FILES = ["*.json", "*.safetensors", "*.parquet", "*.md"]
"""What a bundle on the hub is made of; nothing else is fetched."""


def load(source: str | pathlib.Path, checkpoint: str = "", start: bool = True) -> Model:
    """Opens what was trained, to ask it.

    Args:
        source: a run's folder, a bundle (`python -m cuma_jax.export --format bundle`), or the hub name of one.
        checkpoint: last or best; empty: as the run's `evaluation.checkpoint` says. A bundle has one.
        start: load base and adapters now; False: at the first question that needs them.

    Raises:
        CumaError: no such run, one that is not finished, or files that cannot be had; see `Model.start`.
    """
    folder = find_folder(source)
    contents = open_contents(folder)
    if checkpoint not in ("", "last", "best"):
        raise CumaError(f"checkpoint is {checkpoint!r}; it is last or best")
    exported = has_adapters(folder)
    chosen = contents.facts.get("checkpoint") if exported else contents.config.evaluation.checkpoint
    if exported and checkpoint and checkpoint != chosen:
        raise CumaError(f"{folder} is a bundle of the checkpoint {chosen}; leave checkpoint empty")
    model = Model(contents, folder, checkpoint or str(chosen))
    return model.start() if start else model


def find_folder(source: str | pathlib.Path) -> pathlib.Path:
    """The folder of a run or bundle, fetched from the hub if it is a name there; a `CumaError` where there is none."""
    folder = local_folder(str(source), "the run")
    if folder.is_dir():
        return folder
    hub = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", str(source)) and not folder.parent.exists()
    if not hub:
        raise CumaError(f"{folder} does not exist; give the folder of a run, or of an exported bundle")
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return pathlib.Path(huggingface_hub.snapshot_download(str(source), allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise CumaError(
            f"{source} is no folder here, and the hub does not give it ({reason}); check the name and the network"
        ) from None


def open_contents(folder: pathlib.Path) -> Contents:
    """What a run's folder knows without the model: its bundle, or for a run of before its data, read again.

    Raises:
        CumaError: no run, one that is not finished, a damaged file, or data that are not at hand.
    """
    if has_bundle(folder):
        return read_contents(folder)
    config = read_config(folder)
    results = results_values(folder)
    if has_adapters(folder):
        raise CumaError(f"{folder} is an export, but its folder bundle is missing or of another version; export again")
    steps = saved_steps(folder)
    if not steps:
        raise CumaError(f"{folder} has no checkpoint yet; train it first (the command that made {CONFIG_FILE} there)")
    unfinished = results.get("about", {}).get(
        "unfinished", bool(config.train.steps and max(steps) < config.train.steps)
    )
    if unfinished:
        of = f" of {config.train.steps}" if config.train.steps else ""
        raise CumaError(f"{folder} is not finished: it is at step {max(steps)}{of}; the same command resumes it")
    from cuma_jax.data.load import read_data

    def table() -> Any:
        from cuma_jax.profile_encoders.profile_table import FILE, ProfileTable

        return ProfileTable.load(folder) if (folder / FILE).exists() else None

    data = read_data(config)

    def shots() -> Any:
        from cuma_jax.data.shots import build_shots

        if not config.profile.shots or not isinstance(data.source, Survey):
            return None
        train_A = data.split_N == SPLITS.index("train")
        return build_shots(data.source, data.profiles, train_A, config.profile.shots, config.data.split_seed)

    return contents_of(config, data, results, table, shots=shots).contents
