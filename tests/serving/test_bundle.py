"""The bundle: what was trained is used without its survey, and as runs of before are with theirs."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from served_runs import HOME, opened

from cuma_jax.commands import export
from cuma_jax.data import load as load_module
from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving.bundle.vectors import packed, unpacked

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(served):
    """The run, opened from its bundle."""
    return opened(served[0], served[1].config.mesh)


def same_answers(a, b, **tolerance):
    for question in (None, HOME):
        asked = (["country=Belmora; age>=35", "sex=female", ""], question)
        pd.testing.assert_frame_equal(a.predict(*asked), b.predict(*asked), **tolerance)


def exported(served, out, monkeypatch, *flags):
    line = ["export", "--run", str(served[0]), "--format", "bundle", "--out", str(out), *flags]
    monkeypatch.setattr(sys, "argv", line)
    monkeypatch.setattr("cuma_jax.runtime.jax_setup.prepare_jax", lambda config: None)
    export.main()
    return out


def no_survey(*args, **kwargs):
    raise AssertionError("the survey was read")


def test_a_bundle_needs_no_survey(served, model, tmp_path, monkeypatch):
    out = exported(served, tmp_path / "bundle", monkeypatch)
    assert not [path for path in out.rglob("*") if path.suffix in (".pkl", ".npz", ".bin", ".pt")]
    assert str(served[0].parent) not in (out / "config.json").read_text()
    card = (out / "README.md").read_text()
    assert card.startswith("---\n")
    assert "unseen_country | 0." in card
    config = json.loads((out / "config.json").read_text())
    config["run"]["cache_dir"] = served[1].config.run.cache_dir
    (out / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(load_module, "load_source", no_survey)
    same_answers(opened(out, served[1].config.mesh), model)


def test_without_answers_nothing_real_is_in_it(served, model, tmp_path, monkeypatch):
    out = exported(served, tmp_path / "bundle", monkeypatch, "--without-answers")
    assert not list((out / "bundle").glob("answers*"))
    assert not (out / "bundle" / "logistic.safetensors").exists()
    shutil.copy(served[0] / "config.json", out / "config.json")
    found = opened(out, served[1].config.mesh).predict("country=Belmora", "invented.tea")
    np.testing.assert_allclose(found["share"], model.predict("country=Belmora", "invented.tea")["share"], atol=1e-6)
    assert found[["real", "low", "high", "pooled", "own_average", "logistic"]].isna().all(axis=None)


def test_a_run_of_before_gives_the_same_with_its_survey(served, model, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(served[0], folder)
    shutil.rmtree(folder / "bundle")
    same_answers(opened(folder, served[1].config.mesh), model, atol=1e-6)


def test_no_run_and_an_unfinished_one_are_refused(served, tmp_path):
    mesh = served[1].config.mesh
    with pytest.raises(CumaError, match="does not exist"):
        opened(tmp_path / "nothing", mesh)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CumaError, match=r"config.json does not exist"):
        opened(tmp_path / "empty", mesh)
    half = tmp_path / "half"
    shutil.copytree(served[0], half)
    shutil.rmtree(half / "bundle")
    (half / "results.json").unlink()
    with pytest.raises(CumaError, match="is not finished: it is at step 0 of"):
        opened(half, mesh)
    shutil.rmtree(half / "checkpoints")
    with pytest.raises(CumaError, match="no checkpoint"):
        opened(half, mesh)


def test_another_base_is_refused(served, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(served[0], folder)
    config = json.loads((folder / "config.json").read_text())
    config["model"]["source"] = "random:tiny_untied"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CumaError):
        opened(folder, served[1].config.mesh)


def test_vectors_come_back_bit_for_bit_from_fewer_numbers(served):
    table = served[1].table
    dealt = dataclasses.replace(table, vectors_PM=np.roll(table.vectors_PM, 1, axis=0))
    for one, smaller in ((table, True), (dealt, False)):
        about, arrays = packed(one)
        assert ("vectors" not in arrays) == smaller
        again = unpacked(json.loads(json.dumps(about)), arrays)
        np.testing.assert_array_equal(again.vectors_PM, one.vectors_PM)
        assert again.vocab == one.vocab
