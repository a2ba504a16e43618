"""From a DataConfig to preference data: the registry of sources, and what they read cached by content."""

import importlib
import pathlib
from collections.abc import Callable

from cuma_jax.config.data import DataConfig
from cuma_jax.preferences import store
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir as cache_folder
from cuma_jax.runtime.files import content_key

SOURCES = ("community_alignment", "prism")
"""Values of `data.source` that are preference data, and the modules in `sources` that read them.

A source is a function `prepare(data, hub_cache)` of its module: the key of the contents of all that would be read, and
the call that reads it; a CumaError where a file is missing. `hub_cache` is where `datasets` keeps what it fetched. A
module is imported when it is asked for.
"""


def load_preferences(data: DataConfig, cache_dir: str = "") -> Preferences:
    """The preference data that `data` names (`source`, `path`, `revision`, `subset` and `bad_rows` are used).

    Parsed data are kept in `cache_dir` (`run.cache_dir`) by the content of the source and the version of its reader,
    never by a file's time. A `CumaError` where the source is no preference data, or cannot be read.
    """
    folder, read = _prepare(data, cache_dir)
    if folder.exists():
        return store.load_saved_preferences(folder)
    preferences = read()
    store.save_preferences(preferences, folder)
    return preferences


def cached_folder(data: DataConfig, cache_dir: str = "") -> pathlib.Path:
    """Where `load_preferences` keeps what `data` names, whether it is there yet or not."""
    return _prepare(data, cache_dir)[0]


def _prepare(data: DataConfig, cache_dir: str) -> tuple[pathlib.Path, Callable[[], Preferences]]:
    if data.source not in SOURCES:
        raise CumaError(f"data.source {data.source!r} is no preference data; those are {', '.join(SOURCES)}")
    module = importlib.import_module(f"cuma_jax.preferences.sources.{data.source}")
    key, read = module.prepare(data, str(cache_folder(cache_dir) / "datasets"))
    name = f"{data.source}-{content_key(key, data.bad_rows, store.VERSION)}"
    return cache_folder(cache_dir) / "preferences" / name, read
