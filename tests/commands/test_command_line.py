"""Every command explains itself, at once."""

import resource
import subprocess
import sys

import pytest
from conftest import ROOT
from test_imports import MAINS

_HELP = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as done:
    assert done.code == 0
assert not {"jax", "numpy", "pandas", "transformers"} & set(sys.modules)
"""


@pytest.mark.parametrize("words", [*([main] for main in sorted(MAINS)), ["data"], ["data", "show"]])
def test_help_waits_for_no_library_and_reads_no_run(words):
    main, *command = words
    argv = [sys.executable, "-c", _HELP, f"cuma_jax.{main}", *command, "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5  # seconds of CPU; 0.2 to 0.5
    assert f"python -m cuma_jax.{' '.join(words)}" in done.stdout
