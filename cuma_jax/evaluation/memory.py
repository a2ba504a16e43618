"""How much memory this process has needed at most."""

import sys

import jax


def peak_memory_bytes() -> int | None:
    """The most that this process' devices held at once, summed; on CPUs, what the process held.

    None where neither is known (the devices report nothing, and the platform has no `resource`).
    """
    stats = [device.memory_stats() for device in jax.local_devices()]
    peaks = [int(s["peak_bytes_in_use"]) for s in stats if s and "peak_bytes_in_use" in s]
    if peaks:
        return sum(peaks)
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
