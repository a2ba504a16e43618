"""What ends a command: one message and code 2 for what a user can put right, and one line for Ctrl-C."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from cuma_jax.runtime.errors import CumaError, run_main

IMPORTED = """
import os, signal, sys, time
print("importing", flush=True)
try:
    time.sleep(60)
except:  # as some libraries do, which then go on
    pass
"""


@pytest.fixture(autouse=True)
def _hooks():
    before = threading.excepthook, sys.unraisablehook
    yield
    threading.excepthook, sys.unraisablehook = before


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CumaError("so it is"), "so it is"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x/a"),
            r"x/a cannot be written: No space .* free space .* run",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "x/b"), r"x/b may not be read or written here"),
        (OSError(errno.EROFS, "Read-only file system", "x/c"), r"x/c may not be read or written here \(Read-only"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x/d"), "x/d: Is a directory"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "not utf-8 text .* save it as UTF-8"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), r"a text has '\\ud800'"),
        (LookupError("unknown encoding: cp437"), "unknown encoding: cp437: Python's own files cannot be read"),
    ],
)
def test_what_a_user_can_put_right_is_one_message(capsys, error, message):
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        run_main(main)
    assert end.value.code == 2
    said = capsys.readouterr().err

    assert re.search(f"^error: .*{message}", said), said
    assert said.count("\n") == 1


def test_an_error_of_ours_keeps_its_traceback():
    def main():
        raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        run_main(main)


def test_ctrl_c_while_modules_are_imported_is_one_line_though_they_swallow_it(tmp_path):
    (tmp_path / "slow_import.py").write_text(IMPORTED)
    # What a shell starts with & ignores SIGINT.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from cuma_jax.runtime.errors import run_main; run_main('slow_import')"
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), os.getcwd()])
    with subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == "interrupted; run the same command again to resume\n"
    assert process.returncode == 130
