"""WorldValuesBench (github.com/Demon702/WorldValuesBench): a checkout with its generated TSV pairs."""

import pathlib

from cuma_jax.errors import CumaError
from cuma_jax.surveys.survey import Survey


def source_key(path: pathlib.Path) -> str:
    """The cache key of a checkout's contents."""
    raise CumaError("data.source wvb is not built yet; use open_values")


def read_wvb(path: pathlib.Path) -> Survey:
    """Reads a checkout."""
    raise CumaError("data.source wvb is not built yet; use open_values")
