"""The command line of the server: what is wrong is said at once."""

import sys

import pytest

pytest.importorskip("fastapi", reason="needs pip install -e '.[serve]'")
pytest.importorskip("uvicorn", reason="needs pip install -e '.[serve]'")

from cuma_jax.commands.serve import main


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--run", "nowhere"], "nowhere"),
        ([], "--run is required"),
        (["--host", "0.0.0.0"], "--api_key_env"),
        (["--api_key_env", "NOT_SET_AT_ALL"], "not set"),
        (["--port", "70000"], "65535"),
        (["--queue", "0"], "at least 1"),
        (["--checkpoint", "worst"], "'best'"),
    ],
)
def test_mistakes_are_said_at_once(monkeypatch, tmp_path, refused, argv, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["serve", *argv])
    assert said in refused(main)


def test_an_export_overwrites_nothing(monkeypatch, tmp_path, refused):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["serve", "--run", str(tmp_path), "--static", str(tmp_path)])
    assert "not an empty folder" in refused(main)
