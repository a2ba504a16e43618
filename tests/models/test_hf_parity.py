"""Hidden states and logits equal those of transformers' torch models, within 1e-4 in float32."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from golden import make_hf_golden
from loading import load

from cuma_jax.hub.model_files import resolve

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(path.name for path in (GOLDEN / "hf").iterdir())


def compare(folder):
    golden = np.load(folder / "golden.npz")
    model, params = load(resolve(str(folder)))

    @jax.jit
    def run(tokens_BT, lengths_B):
        hidden_BTD = model.apply({"params": params}, tokens_BT, lengths_B, method="hidden")
        return hidden_BTD, model.apply({"params": params}, hidden_BTD, method="logits")

    hidden_BTD, logits_BTV = run(golden["tokens_BT"], golden["lengths_B"])
    # Only valid positions: what a model computes on its padding is nobody's business.
    valid_BT1 = (np.arange(hidden_BTD.shape[1]) < golden["lengths_B"][:, None])[..., None]
    np.testing.assert_allclose(hidden_BTD * valid_BT1, golden["hidden_BTD"], atol=1e-4)
    np.testing.assert_allclose(logits_BTV * valid_BT1, golden["logits_BTV"], atol=1e-4)
    assert np.abs(golden["logits_BTV"]).max() > 0.5


@pytest.mark.parametrize("case", CASES)
def test_hidden_states_and_logits_equal_the_golden_ones(case):
    # If a change is meant to alter these, something is wrong: they are transformers' numbers. New cases are made with
    # tests/golden/make_hf_golden.py.
    compare(GOLDEN / "hf" / case)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("case", CASES)
def test_hidden_states_and_logits_equal_torch_live(case, tmp_path):
    make_hf_golden.make(case, tmp_path, seed=1000 + CASES.index(case))
    compare(tmp_path)
