"""The reader of JSON files: what Windows saves is read, what is no JSON is one message with what to do."""

import pytest

from cuma_jax.runtime import json_files
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.json_files import read_json


@pytest.mark.parametrize("text", ['{"a": 1}', '\ufeff{"a": 1}\r\n'])
def test_utf_8_is_read_with_and_without_a_mark(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode())
    assert read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON (Expecting value: line 1"),
        (b'{"a": 1', "is not valid JSON (Expecting ',' delimiter: line 1"),
        (b'{"a": "\xff"}', "is not valid JSON: byte 8 is no UTF-8 text"),
        (b"[" * 100_000, "is not valid JSON: it is nested too deeply"),
        (b"9" * 5000, "is not valid JSON (Exceeds the limit (4300 digits)"),
        (b'{"a": {"b": 1, "b": 2}}', "is not valid JSON (the name 'b' is there twice)"),
    ],
    ids=range(6),
)
def test_what_is_no_json_is_one_message(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(CumaError) as caught:
        read_json(path, "delete it")
    assert str(caught.value).startswith(f"{path} {message}")
    assert str(caught.value).endswith("; delete it")


def test_nothing_a_folder_and_an_endless_file(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "a.json")
    with pytest.raises(CumaError, match=r"cannot be read: Is a directory$"):
        read_json(tmp_path, "delete it")
    monkeypatch.setattr(json_files, "LONGEST_JSON", 1 << 20)
    (tmp_path / "a.json").write_bytes(b" " * (1 << 20) + b"1")
    with pytest.raises(CumaError, match=r"\(it has more than 1 MB\)"):
        read_json(tmp_path / "a.json")
