"""Where adapters start: `adapter.init_from`, an adapter in the official format or a run of this package.

Checked twice: settings, files and base before anything is assembled; the profile vectors, which decide what a router's
columns mean, once they are known.
"""

import pathlib
import sys
from typing import Any

import jax
import numpy as np

from cuma_jax.config import Config, ProfileConfig, to_dict
from cuma_jax.config.saved import CONFIG_FILE, read_config
from cuma_jax.hub.model_files import ModelFiles, resolve
from cuma_jax.interop.formats.official_config import CONFIG_FILE as OFFICIAL_FILE
from cuma_jax.interop.formats.official_config import OfficialConfig, base_difference
from cuma_jax.interop.formats.official_config import read_config as read_official_config
from cuma_jax.interop.formats.official_fields import Fields, differences, run_fields, training_fields
from cuma_jax.interop.formats.official_folder import Official, read_official
from cuma_jax.interop.formats.official_tensors import official_slots, to_tree
from cuma_jax.models.families import DecoderConfig, decoder_config
from cuma_jax.models.weights import fingerprint
from cuma_jax.profile_encoders.profile_embedders import ProfileEmbedder
from cuma_jax.profile_encoders.profile_table import ProfileTable
from cuma_jax.run.saved_adapters import (
    SavedAdapters,
    find_step,
    has_checkpoint,
    read_adapters,
    shape_differences,
    tensor_shapes,
)
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir

Tree = Any
_FIELD = "adapter.init_from"
# What the adapters of a run do not depend on.
_FREE = {
    "adapter": ("init_from", "dropout", "prefix_length"),
    "router": ("dropout", "profile_scale"),
    "profile": ("dropout", "field_dropout", "in_prompt", "shots"),
}


def check_start(config: Config, run_dir: pathlib.Path) -> None:
    """Checks `adapter.init_from` before any long work; a run that has a checkpoint in `run_dir` does not need it.

    Raises:
        CumaError: no such adapters, or adapters of another base or of other settings; names the flags to set.
    """
    if not config.adapter.init_from or has_checkpoint(run_dir):
        return
    if config.adapter.kind == "none":
        raise CumaError(f"config field {_FIELD} is set, but adapter.kind is none: there is nothing to start")
    files = resolve(config.model.source, config.model.revision, str(cache_dir(config.run.cache_dir)))
    shape = decoder_config(files)
    found = _read(config, files, shape)
    if isinstance(found, Official):
        notes = differences(config, training_fields(found.config), shape)
        if notes:
            _say(f"{_FIELD}: trained there with {' '.join(notes)}; here it is otherwise")


def start_adapters(
    config: Config, files: ModelFiles, shape: DecoderConfig, shapes: Tree, table: ProfileTable | None
) -> Tree:
    """The adapters of `adapter.init_from`, numpy leaves of the shapes `shapes`.

    Args:
        files, shape: of the base.
        shapes: the run's adapters, abstract.
        table: the run's profile vectors, or None.

    Raises:
        CumaError: see `check_start`; or profile vectors of another width.
    """
    found, where = _read(config, files, shape), config.adapter.init_from
    width = 0 if table is None else table.width
    if isinstance(found, Official):
        there = found.config.demographic_embed_dim
        if there != width:
            raise CumaError(
                f"config field {_FIELD}: the routers of {where} read profile vectors of width {there} "
                f"(demographic_embed_dim), but the profile vectors of this run have {width}; "
                + _width_advice(config.profile, table, there)
            )
        slots = official_slots(config.adapter, config.router, shape, width)
        return to_tree(found.tensors, slots)
    if table is not None:
        _compare_tables(pathlib.Path(where), table)
    if wrong := shape_differences(tensor_shapes(found.adapters), tensor_shapes(shapes)):
        raise CumaError(f"config field {_FIELD}: {where} has other adapters: {wrong}")
    return found.adapters


def _width_advice(profile: ProfileConfig, table: ProfileTable | None, width: int) -> str:
    """What gives a run profile vectors of this width."""
    if table is None or not isinstance(table.embedder, ProfileEmbedder):
        return "set router.inputs, profile.granularity and profile.encoder as where the adapters were trained"
    encoder = int(table.embedder.encoder_info["width"])
    if profile.granularity == "profile" and profile.normalise == "whiten" and width <= encoder:
        return f"set profile.components to {width}"
    if width == encoder:  # of the whole profile in one vector, with every component of the encoder
        return f"set profile.granularity to profile and profile.normalise to none: the encoder's vectors have {width}"
    return f"set profile.encoder to the one they were trained with: its vectors have {width}, this one's {encoder}"


def _read(config: Config, files: ModelFiles, shape: DecoderConfig) -> Official | SavedAdapters:
    """The adapters of either kind, their base and settings checked."""
    folder = pathlib.Path(config.adapter.init_from).expanduser()
    if (folder / OFFICIAL_FILE).is_file():
        _check_official(config, read_official_config(folder), shape, folder)
        return read_official(folder, shape, config.model.source)
    if not (folder / CONFIG_FILE).is_file():
        raise CumaError(
            f"config field {_FIELD} is {config.adapter.init_from!r}: no adapter there. It must be a folder in the "
            f"official format ({OFFICIAL_FILE}, adapter_model.safetensors) or the folder of a run of this package"
        )
    there = read_config(folder)
    if (start := there.objective.start) != config.objective.start:
        raise CumaError(
            f"config field {_FIELD}: the run {folder} has objective.start {start}, this one {config.objective.start}: "
            f"its adapters are differences from another start. Set --objective.start {start}, or train that run with "
            f"{config.objective.start}"
        )
    _check_settings(config, _run_settings(config, there), shape, folder)
    saved = read_adapters(folder, find_step(folder, "last")[0])
    if saved.base != (here := fingerprint(files)):
        raise CumaError(
            f"config field {_FIELD}: the run {folder} has another base model (fingerprint {saved.base[:12]}, here "
            f"{here[:12]}); use the model.source of that run"
        )
    return saved


def _check_official(config: Config, there: OfficialConfig, shape: DecoderConfig, folder: pathlib.Path) -> None:
    """Checks base and settings, all in one message: each of them costs a start."""
    other = base_difference(there, shape, config.model.source)
    try:
        flags = differences(config, run_fields(there, shape, str(folder)), shape)
    except CumaError:
        if not other:
            raise
        flags = []  # its layers are not this base's
    if other:
        flags = [flag for flag in flags if not flag.startswith("--adapter.layers ") or flag.endswith(" 0")]
    parts, width = [f"{folder} {other}"] if other else [], there.demographic_embed_dim
    if flags:
        routers = f" (its routers read profile vectors of width {width}, demographic_embed_dim)" if width else ""
        parts.append(
            f"the adapters in {folder} were trained with other settings than this run's{routers}; to start from them, "
            f"add: {' '.join(flags)}"
        )
    if parts:
        raise CumaError(f"config field {_FIELD}: {'. And '.join(parts)}")


def _run_settings(config: Config, there: Config) -> Fields:
    """The fields of another run that decide what its adapters compute."""
    values = {section: dict(to_dict(there)[section]) for section in _FREE}
    sees_profile = "profile" in config.router.inputs or config.router.inputs == "lookup"
    if not sees_profile and "profile" not in there.router.inputs and there.router.inputs != "lookup":
        del values["profile"]
    return {
        section: {name: value for name, value in fields.items() if name not in _FREE[section]}
        for section, fields in values.items()
    }


def _check_settings(config: Config, fields: Fields, shape: DecoderConfig, folder: pathlib.Path) -> None:
    if flags := differences(config, fields, shape):
        raise CumaError(
            f"config field {_FIELD}: the adapters in {folder} were trained with other settings than this run's; to "
            f"start from them, add: {' '.join(flags)}"
        )


def _compare_tables(folder: pathlib.Path, table: ProfileTable) -> None:
    """Says so where the same profile has another vector there: routers then start from columns that mean other things.

    Whitening is fitted on a run's own training profiles, so another split of the data is enough for that.
    """
    there = ProfileTable.load(folder)
    if there.width != table.width:
        raise CumaError(
            f"config field {_FIELD}: the profile vectors of {folder} have width {there.width}, those of this run "
            f"{table.width}; use the same data, split and profile settings"
        )
    known: dict[tuple[str | None, ...], np.ndarray] = {}
    if there.embedder.fields == table.embedder.fields:
        known = dict(zip(there.keys, there.vectors_PM, strict=True))
    here = dict(zip(table.keys, table.vectors_PM, strict=True))
    both = known.keys() & here.keys()
    if not both or any(not np.allclose(known[key], here[key], atol=1e-4) for key in both):
        _say(
            f"{_FIELD}: the profile vectors of this run are not those of {folder} (other training profiles); its "
            "routers start from them all the same"
        )


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, file=sys.stderr)
