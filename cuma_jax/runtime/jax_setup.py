"""How every main sets JAX up, before the first device call."""

import importlib.util
import logging
import os
import pathlib
import sys
import warnings
from typing import Any

import jax

from cuma_jax.runtime.clusters import may_have_tpu
from cuma_jax.runtime.files import cache_dir


def prepare_jax(configured_cache: str) -> None:
    """Keeps compiled programs between runs, and other libraries quiet; `configured_cache` is `run.cache_dir`."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Orbax warns of every checkpoint without a validation loss, and logs with its traceback what it raises, too.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if (
        "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
        or getattr(jax.config, "jax_num_cpu_devices", 1) > 1
    ):
        # Fake devices share one thread pool, and a collective holds its thread until all have come: with a thread for
        # each device, two collectives under way at once can wait for each other until XLA kills the process.
        os.environ.setdefault("PJRT_NPROC", str(max(32, os.cpu_count() or 1)))
    _no_tpu_is_no_error()
    compiled = cache_dir(configured_cache) / "compiled"
    _one_note(compiled)
    jax.config.update("jax_compilation_cache_dir", str(compiled))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _no_tpu_is_no_error() -> None:
    """Where libtpu is there for `plan` alone, JAX would try it at every start, wait, and print its complaints."""
    if os.environ.get("JAX_PLATFORMS") or importlib.util.find_spec("libtpu") is None or may_have_tpu():
        return
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        jax.config.update("jax_platforms", "cpu")


def _one_note(compiled: pathlib.Path) -> None:
    """JAX warns of every program that it cannot keep, or read; it is then compiled as if there were no cache."""
    show, told = warnings.showwarning, False

    def once(message: Warning | str, *where: Any, **more: Any) -> None:
        nonlocal told
        if "persistent compilation cache" not in str(message):
            show(message, *where, **more)
        elif not told:
            told = True
            cause = str(message).partition(": ")[2].partition("\n")[0][:200]
            print(f"note: {compiled} does not keep compiled programs ({cause}); they are made again", file=sys.stderr)

    if getattr(show, "__name__", "") != once.__name__:
        warnings.showwarning = once
