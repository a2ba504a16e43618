"""How every main sets JAX up, before the first device call."""

import logging
import os

import jax

from cuma_jax.cache import cache_dir
from cuma_jax.config import Config


def prepare_jax(config: Config) -> None:
    """Keeps compiled programs between runs, and other libraries quiet."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns of every checkpoint without a validation loss
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if (
        "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
        or getattr(jax.config, "jax_num_cpu_devices", 1) > 1
    ):
        # Fake devices share one thread pool, and a collective holds its thread until all have come: with a thread for
        # each device, two collectives under way at once can wait for each other until XLA kills the process.
        os.environ.setdefault("PJRT_NPROC", str(max(32, os.cpu_count() or 1)))
    jax.config.update("jax_compilation_cache_dir", str(cache_dir(config.run.cache_dir) / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
