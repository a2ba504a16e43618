"""How much memory this process has needed at most, and how much there is."""

import contextlib
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any


def machine_bytes() -> int | None:
    """The machine's memory; None where the platform does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def host_peak_bytes() -> int | None:
    """The most resident memory this process has had; None where the platform does not tell."""
    # Not rusage alone: it counts the parent's pages too, when a large process started this one.
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others KiB


def peak_bytes(devices: Sequence[Any]) -> int | None:
    """The most that the process' devices held at once, summed; what it held itself, where they do not tell (CPUs)."""
    stats = [device.memory_stats() for device in devices]
    peaks = [int(s["peak_bytes_in_use"]) for s in stats if s and "peak_bytes_in_use" in s]
    return sum(peaks) if peaks else host_peak_bytes()


def reset_host_peak() -> bool:
    """Starts the kernel's high-water mark of this process anew; whether that can be done here (Linux)."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
