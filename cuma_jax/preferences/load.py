"""From a DataConfig to preference data: picks the reader, caches what it read by content."""

import pathlib

from cuma_jax.config.data import DataConfig
from cuma_jax.preferences import store
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.sources import community_alignment, prism
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir as cache_folder
from cuma_jax.runtime.files import content_key

SOURCES = ("community_alignment", "prism")
"""Values of `data.source` that are preference data."""


def load_preferences(data: DataConfig, cache_dir: str = "") -> Preferences:
    """The preference data that `data` names.

    Args:
        data: the data section of a config; `source`, `path`, `revision`, `subset` and `bad_rows` are used.
        cache_dir: where parsed data are kept (`run.cache_dir`); the key is the content of the source and the version
            of its reader, never a file's time.

    Raises:
        CumaError: the source is no preference data, or cannot be read.
    """
    if data.source not in SOURCES:
        raise CumaError(f"data.source {data.source!r} is no preference data; those are {', '.join(SOURCES)}")
    if data.source == "prism" and data.subset:
        raise CumaError(f"data.subset {data.subset!r}: prism has only one form; leave it empty")
    folder = cached_folder(data, cache_dir)
    if folder.exists():
        return store.load_saved_preferences(folder)
    hub_cache = str(cache_folder(cache_dir) / "datasets")
    if data.source == "prism":
        prefs = prism.read_prism(data.path, data.revision, data.bad_rows, hub_cache)
    else:
        prefs = community_alignment.read_community_alignment(
            data.path, data.revision, data.subset, data.bad_rows, hub_cache
        )
    store.save_preferences(prefs, folder)
    return prefs


def cached_folder(data: DataConfig, cache_dir: str = "") -> pathlib.Path:
    """Where `load_preferences` keeps what `data` names, whether it is there yet or not."""
    if data.source == "prism":
        key = prism.source_key(data.path, data.revision)
    else:
        key = community_alignment.source_key(data.path, data.revision, data.subset)
    key = content_key(key, data.bad_rows, store.VERSION)
    return cache_folder(cache_dir) / "preferences" / f"{data.source}-{key}"
