"""What the processes of a run must have in common before they work together: command, versions and data."""

import dataclasses

import jax

from cuma_jax import __version__
from cuma_jax.config import Config, to_dict
from cuma_jax.run.run import Run
from cuma_jax.runtime.files import content_key
from cuma_jax.runtime.processes import check_same, process_count


def check_config(config: Config) -> None:
    """Checks that every process was started with the same settings and versions; only `run.cache_dir` may differ.

    Raises:
        CumaError: names the first field that differs.
    """
    values = to_dict(dataclasses.replace(config, run=dataclasses.replace(config.run, cache_dir="")))
    versions = {"the version of cuma_jax": __version__, "the version of jax": jax.__version__}
    check_same(
        versions | {f"config field {name}": value for name, value in values.items()},
        "start every process with the same command, the same files and the same packages",
    )


def check_data(run: Run) -> None:
    """Checks that every process read the same data and the same base: batches are drawn by row number.

    Raises:
        CumaError: names what differs.
    """
    if process_count() == 1:
        return
    profiles = run.profiles
    check_same(
        {
            "the base's fingerprint": run.fingerprint,
            **{f"the hash of the data's {part}": key for part, (_, key) in run.contents.items()},
            "the hash of the profiles": content_key(profiles.codes_PF, repr(profiles.vocab)),
            "the mesh": dict(run.mesh.shape),
        },
        "give every host the same files (data.*, model.source)",
    )
