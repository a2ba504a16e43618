"""Files in the cache are whole, whoever else writes them."""

import os
import subprocess
import sys

import pytest

from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import _HOST, atomic_write, read_arrays, write_text


def test_two_processes_that_finish_the_same_folder_at_once_both_succeed(tmp_path):
    target = tmp_path / "survey"

    def write(part):
        part.mkdir()
        (part / "mine").touch()
        target.mkdir()  # the other one has come first
        (target / "theirs").touch()

    atomic_write(target, write)
    assert [path.name for path in target.iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["survey"]


def test_a_file_that_cannot_be_put_in_place_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "taken" / "by").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        atomic_write(tmp_path / "taken", lambda part: part.write_text("x"))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_text_is_written_whole_in_utf8_or_the_old_one_stays(tmp_path):
    path = tmp_path / "folder" / "text.json"
    write_text(path, "über\n")
    assert path.read_bytes() == "über\n".encode()
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half\ud800")
    assert path.read_text(encoding="utf-8") == "über\n"
    assert [p.name for p in path.parent.iterdir()] == ["text.json"]


def test_what_a_killed_process_left_half_written_is_swept_and_what_others_write_is_not(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = [f".cuma-part-{host}-{pid}-x" for host, pid in ((_HOST, gone.pid), (_HOST, os.getpid()), ("far", 1))]
    for name in names:
        (tmp_path / name).mkdir()
    old = tmp_path / ".cuma-part-far-2-x"
    old.mkdir()
    os.utime(old, (0, 0))
    write_text(tmp_path / "text", "x")
    assert {path.name for path in tmp_path.iterdir()} == {"text", *names[1:]}


@pytest.mark.parametrize("text", ["PK\3\4", ""])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, text):
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        read_arrays(path, "delete it")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CumaError, match=rf"{path} is damaged and cannot be read \(.*\); delete it"):
        read_arrays(path, "delete it")
