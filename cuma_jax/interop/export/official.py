"""A run as an adapter in the official format."""

import pathlib
import shutil

from cuma_jax.config import Config
from cuma_jax.hub.model_files import resolve
from cuma_jax.interop.export.base_model import check_no_offset
from cuma_jax.interop.formats.official_fields import from_run
from cuma_jax.interop.formats.official_folder import Official, write_official
from cuma_jax.interop.formats.official_tensors import official_slots, to_tensors
from cuma_jax.models.families import decoder_config
from cuma_jax.profile_encoders.profile_table import FILE as TABLE
from cuma_jax.run.saved_adapters import find_step, read_adapters
from cuma_jax.runtime.files import atomic_write, cache_dir


def export_reference(config: Config, run: pathlib.Path, which: str, dtype: str, out: pathlib.Path) -> list[str]:
    """Writes the folder `out`, which is not there yet; returns lines to print. Of the base only its config is read.

    The run's table of profile vectors is copied beside the two files: its rows are what the official code is to be
    given as `demographic_embed`. A `CumaError` where the format cannot hold this run, or it has no checkpoint.
    """
    # The rules first: they need nothing but the config.
    check_no_offset(config, "an adapter in the official format")
    files = resolve(config.model.source, config.model.revision, str(cache_dir(config.run.cache_dir)))
    shape = decoder_config(files)
    from_run(config, shape, 0, dtype)
    saved = read_adapters(run, find_step(run, which)[0])
    width = _profile_width(saved.adapters)
    official = from_run(config, shape, width, dtype)
    tensors = to_tensors(saved.adapters, official_slots(config.adapter, config.router, shape, width))

    def write(part: pathlib.Path) -> None:
        part.mkdir()
        write_official(part, Official(official, tensors))
        if width and (run / TABLE).is_file():
            shutil.copyfile(run / TABLE, part / TABLE)

    atomic_write(out, write)
    lines = [f"{len(tensors)} tensors of step {saved.step} in {dtype}, for the base {config.model.source}"]
    if width:
        lines.append(f"its routers read profile vectors of width {width}; those of this run are in {TABLE}")
    if config.adapter.dropout != config.router.dropout:
        lines.append(
            f"the format has one dropout: adapter.dropout {config.adapter.dropout:g} is written, not the router's"
        )
    return lines


def _profile_width(adapters: dict) -> int:
    """Width of the profile vectors that the routers read; 0 where they read none."""
    for group in adapters["adapted_layers"].values():
        for name, leaf in group.items():
            if name.endswith("router") and "profile_0" in leaf:
                return leaf["profile_0"].shape[1]
    return 0
