"""How every main sets JAX up, before the first device call."""

import os

import jax

from cuma_jax.cache import cache_dir
from cuma_jax.config import Config


def prepare_jax(config: Config) -> None:
    """Keeps compiled programs between runs, and other libraries quiet."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    jax.config.update("jax_compilation_cache_dir", str(cache_dir(config.run.cache_dir) / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
