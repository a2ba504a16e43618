"""Peak memory: of the process on a CPU, of the devices where they report it."""

import jax
import numpy as np

from cuma_jax.evaluation.memory import peak_memory_bytes


def test_the_peak_counts_bytes_and_never_falls():
    before = peak_memory_bytes()
    held = np.ones(300_000_000, np.uint8)
    after = peak_memory_bytes()
    assert after >= before > 1e7
    assert after > held.nbytes
    assert after < 1e12
    del held
    assert peak_memory_bytes() >= after


def test_devices_that_report_their_peak_are_summed(monkeypatch):
    class Device:
        def memory_stats(self):
            return {"peak_bytes_in_use": 7, "bytes_in_use": 3}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device(), Device()])
    assert peak_memory_bytes() == 14
