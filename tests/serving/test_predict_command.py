"""`python -m cuma_jax.predict`: what it prints, and that mistakes are said before the model is loaded."""

import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import devices_of
from served_runs import HOME, opened

from cuma_jax.commands import generate, predict

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(served):
    """The run, opened from its bundle."""
    return opened(served[0], served[1].config.mesh)


def test_the_command_prints_bars_json_and_csv(served, model, monkeypatch, capsys):
    def say(*args):
        monkeypatch.setattr(sys, "argv", ["predict", "--run", str(served[0]), *args])
        with devices_of(served[1].config.mesh):
            predict.main()
        return capsys.readouterr().out

    asked = ("--where", "country=Belmora; age>=35", "--where", "sex=female", "--question", "invented.tea")
    expected = model.predict(["country=Belmora; age>=35", "sex=female"], "invented.tea")
    assert "█" in say(*asked)
    found = pd.DataFrame(json.loads(say(*asked, "--json")))
    np.testing.assert_allclose(found["share"], expected["share"], atol=1e-6)
    lines = pd.read_csv(io.StringIO(say(*asked, "--csv")), keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(lines[["group", "option"]], expected[["group", "option"]], check_dtype=False)
    np.testing.assert_allclose(lines[["share", "real"]], expected[["share", "real"]], atol=1e-6)
    new = say("--ask", HOME.text, "--options", *HOME.options, "--json")
    assert len(json.loads(new)) == 3


def test_mistakes_are_said_before_the_model_is_loaded(served, monkeypatch, refused):
    def never(*args, **kwargs):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("cuma_jax.serving.asking.engine.Engine", never)
    monkeypatch.setattr("cuma_jax.commands.score_run.build_saved", never)

    def say(main, *args):
        monkeypatch.setattr(sys, "argv", ["x", "--run", str(served[0]), *args])
        return refused(main)

    assert "by sex" in say(predict.main, "--where", "gender=male")
    assert "Belmora" in say(predict.main, "--where", "country=Belmorra")
    assert "it has invented.tea" in say(generate.main, "--question", "invented.te")
    assert "known here: sex" in say(generate.main, "--profile", "gender=male", "--prompt", "Hello")
