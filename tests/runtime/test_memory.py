"""Peak memory: of the process on a CPU, of the devices where they report it."""

import jax
import numpy as np

from cuma_jax.runtime.memory import host_peak_bytes, machine_bytes, peak_bytes, reset_host_peak


def test_the_peak_counts_bytes_and_never_falls():
    before = host_peak_bytes()
    held = np.ones(300_000_000, np.uint8)
    after = host_peak_bytes()
    assert after >= before > 1e7
    assert after > held.nbytes
    assert after < 1e12
    assert machine_bytes() > held.nbytes
    del held
    assert host_peak_bytes() > 0.99 * after  # the kernel counts in pages per thread, and sums up now and then


def test_the_mark_starts_anew_where_the_kernel_allows_it():
    held = np.ones(300_000_000, np.uint8)
    before = host_peak_bytes()
    del held
    if reset_host_peak():
        assert host_peak_bytes() < before - 2e8


def test_devices_that_report_their_peak_are_summed():
    class Device:
        def memory_stats(self):
            return {"peak_bytes_in_use": 7, "bytes_in_use": 3}

    assert peak_bytes([Device(), Device()]) == 14
    assert peak_bytes(jax.local_devices()) > 1e7  # CPUs tell nothing; the process does
