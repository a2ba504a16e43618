"""A folder in the official CuMA format: adapter_config.json and adapter_model.safetensors, read strictly and written.

The official loader ignores tensors whose names it does not know. Here each tensor must have its place and each place
its tensor, of the shape and type that the config says.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save

from cuma_jax.interop.formats.official_config import CONFIG_FILE, OfficialConfig, check_base, read_config
from cuma_jax.interop.formats.official_fields import configs_of, run_fields
from cuma_jax.interop.formats.official_tensors import TOP, Slot, Tensors, official_slots
from cuma_jax.models.families import DecoderConfig
from cuma_jax.runtime.errors import CumaError

WEIGHTS_FILE = "adapter_model.safetensors"
_STORED = {"float32": "F32", "bfloat16": "BF16"}
_NUMPY = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclasses.dataclass(frozen=True)
class Official:
    """An adapter in the official format."""

    config: OfficialConfig
    tensors: Tensors  # in torch's layout and the stored type; routers as the official code names them, wherever read
    top: bool = False  # its routers stand at the top level (`router_manager.routers...`)


def read_official(folder: pathlib.Path, shape: DecoderConfig, source: str) -> Official:
    """Reads a folder for the base of this shape and `model.source`.

    A `CumaError` for a file missing or damaged, a base that is not the adapter's, or a tensor that is missing, not
    known, or of another shape or type than the config says.
    """
    config = read_config(folder)
    check_base(config, shape, source, str(folder))
    adapter, router = configs_of(run_fields(config, shape, str(folder / CONFIG_FILE)))
    slots = official_slots(adapter, router, shape, config.demographic_embed_dim)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise CumaError(f"{path} does not exist; an adapter in the official format has it")
    try:
        with safetensors.safe_open(path, "numpy") as file:
            stored = list(file.keys())
            names = _canonical(stored, slots)
            _check_names(path, names, slots)
            for slot in slots:
                here = file.get_slice(names[slot.name])
                _check_tensor(path, names[slot.name], here.get_dtype(), tuple(here.get_shape()), slot, config)
            tensors = {slot.name: file.get_tensor(names[slot.name]) for slot in slots}
    except safetensors.SafetensorError as error:
        raise CumaError(f"{path} is truncated or not a safetensors file ({error}); fetch it again") from None
    for name, value in tensors.items():
        if not np.isfinite(value.astype(np.float32)).all():
            raise CumaError(f"{path}: tensor {names[name]} holds numbers that are not finite; save the adapter again")
    return Official(config, tensors, any(name.startswith(TOP) for name in stored))


def write_official(folder: pathlib.Path, official: Official) -> None:
    """Writes the two files into `folder`, which is there; tensors in the type that the config says."""
    tensors = {}
    for name, value in official.tensors.items():
        _, manager, router = name.partition(f"._{TOP}")
        tensors[f"{TOP}{router}" if official.top and manager else name] = value
    write_files(folder, official.config.to_json(), tensors, official.config.dtype)


def write_files(
    folder: pathlib.Path,
    settings: Mapping[str, Any],
    tensors: Tensors,
    dtype: str,
    metadata: dict[str, str] | None = None,
) -> None:
    """An adapter's settings and its tensors, cast to `dtype`, as the two files that this format and PEFT's have."""
    stored = {name: np.ascontiguousarray(value, _NUMPY[dtype]) for name, value in tensors.items()}
    # `save_file` would make a file that nobody but its owner may read.
    (folder / WEIGHTS_FILE).write_bytes(save(stored, metadata))
    (folder / CONFIG_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _canonical(stored: list[str], slots: list[Slot]) -> dict[str, str]:
    """Name as the official code saves it -> name in the file; routers at the top level are named so, too."""
    manager = next(slot.name.partition(TOP)[0] for slot in slots if f"._{TOP}" in slot.name)
    there = set(stored)
    return {
        f"{manager}{name}" if name.startswith(TOP) and manager + name not in there else name: name for name in stored
    }


def _check_names(path: pathlib.Path, names: Mapping[str, str], slots: list[Slot]) -> None:
    wanted = {slot.name for slot in slots}
    missing, extra = [slot.name for slot in slots if slot.name not in names], sorted(names.keys() - wanted)
    if not missing and not extra:
        return
    for name in extra[:9]:
        for known in wanted:
            if name != known and (name.endswith(f".{known}") or known.endswith(f".{name}")):
                raise CumaError(
                    f"{path}: tensor {names[name]} has a wrong prefix; it is {known} in the official format (whose "
                    "loader would ignore it in silence). Rename all such tensors"
                )
    if routers := [name.partition(TOP)[2] for name in missing if TOP in name]:
        there = {name.partition(TOP)[2].split(".")[1] for name in wanted if TOP in name}
        raise CumaError(
            f"{path}: {routers[0]} is missing; by {CONFIG_FILE} there are {len(there)} routers (0 to "
            f"{len(there) - 1}). Save the adapter again, or correct the config"
        )
    what, which = ("is missing", missing) if missing else ("is not of this adapter", [names[name] for name in extra])
    raise CumaError(
        f"{path}: tensor {which[0]} {what} ({len(missing)} missing and {len(extra)} too many by {CONFIG_FILE}); save "
        "the adapter again, or correct the config"
    )


def _check_tensor(
    path: pathlib.Path, name: str, dtype: str, shape: tuple[int, ...], slot: Slot, config: OfficialConfig
) -> None:
    if dtype != _STORED[config.dtype]:
        raise CumaError(
            f"{path}: tensor {name} is {dtype}, but torch_dtype in {CONFIG_FILE} says {config.torch_dtype} "
            f"({_STORED[config.dtype]}); save the adapter in one type"
        )
    if shape != slot.shape:
        raise CumaError(
            f"{path}: tensor {name} is {list(shape)}; by {CONFIG_FILE} and the base it must be {list(slot.shape)}"
        )
