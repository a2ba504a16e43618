"""The bundle: what was trained is used without its survey, and as runs of before are with theirs."""

import dataclasses
import json
import pathlib
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from saved_runs import save_run
from served_runs import HOME, bundle_facts, opened

from cuma_jax.commands import export, score_run
from cuma_jax.data import load as load_module
from cuma_jax.run.trained import CheckpointInfo
from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving import load
from cuma_jax.serving.bundle import files
from cuma_jax.serving.bundle.contents import Made
from cuma_jax.serving.bundle.files import read_contents
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


@pytest.fixture
def copied(served, tmp_path):
    """The run's folder, to be changed."""
    return pathlib.Path(shutil.copytree(served[0], tmp_path / "copied"))


def rewrite(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


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


def test_prompts_that_show_answers_are_not_exported_without_them(copied, tmp_path, monkeypatch):
    (copied / "bundle" / "shots.safetensors").write_bytes(b"")
    with pytest.raises(CumaError, match=r"profile\.shots.*leave the flag out"):
        exported((copied,), tmp_path / "out", monkeypatch, "--without-answers")
    assert not (tmp_path / "out").exists()


def test_an_export_holds_no_predictions_of_another_checkpoint(copied, tmp_path, monkeypatch):
    rewrite(copied / "bundle" / "facts.json", lambda facts: facts | {"latest_step": 7})
    out = exported((copied,), tmp_path / "out", monkeypatch)
    assert not (out / "bundle" / "predictions.parquet").exists()
    assert "predicted_checkpoint" not in bundle_facts(out)
    assert load(out, start=False).about["checkpoint"] == "last"


def test_an_interrupted_writing_leaves_the_older_bundle(copied, monkeypatch):
    before = {path.name: path.read_bytes() for path in (copied / "bundle").iterdir()}
    made = Made(read_contents(copied), None)
    with monkeypatch.context() as patch:
        patch.setattr(files, "_write_arrays", interrupted)
        with pytest.raises(KeyboardInterrupt):
            files.write_bundle(copied, made)
    assert {path.name: path.read_bytes() for path in (copied / "bundle").iterdir()} == before
    files.write_bundle(copied, made)
    assert not list((copied / "bundle").glob("answers*")), "the older one is gone"
    assert not [path for path in copied.iterdir() if path.name.startswith(".")]


def test_results_are_written_after_the_bundle(served, tmp_path, monkeypatch):
    save_run(tmp_path / "run", served[1], served[2])
    monkeypatch.setattr(score_run, "save_bundle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_run.score(served[1], served[2], tmp_path / "run", 1.0, CheckpointInfo("last", 0, 0, 0))
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize(
    "name", ["bundle/facts.json", "bundle/questions.json", "bundle/people.parquet", "results.json"]
)
def test_a_damaged_file_is_one_message(copied, name):
    whole = (copied / name).read_bytes()
    (copied / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CumaError, match=f"{name} is (not valid JSON|damaged).*evaluate the run"):
        load(copied, start=False)


@pytest.mark.parametrize("name", ["bundle/facts.json", "bundle/questions.json"])
def test_a_file_that_lacks_something_is_one_message(copied, name):
    rewrite(copied / name, lambda value: {"format": 1} if isinstance(value, dict) else [{"id": "q"}])
    with pytest.raises(CumaError, match=f"{name} is damaged.*evaluate the run"):
        load(copied, start=False)


def test_damaged_results_of_a_run_of_before_are_not_taken_for_none(copied):
    shutil.rmtree(copied / "bundle")
    (copied / "results.json").write_text("{")
    with pytest.raises(CumaError, match=r"results\.json is not valid JSON.*evaluate the run"):
        load(copied, start=False)


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
