"""Exported adapters give PEFT the same logits as ours: in torch where it is installed, else by what torch gave once."""

import json

import numpy as np
import pytest
from peft_cases import CASES, GOLDEN, made, torch_logits
from safetensors.numpy import load_file

from cuma_jax.interop.formats.peft_folder import write_peft

SLOW = [name for name in CASES if name != "lora"]
pytestmark = pytest.mark.parametrize("name", ["lora", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])


def test_peft_in_torch_computes_our_logits(name, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    write_peft(tmp_path, made(name).peft, "qwen3")
    np.testing.assert_allclose(torch_logits(tmp_path), made(name).logits_BTV, atol=1e-4)


def test_what_peft_once_computed_with_the_same_files_are_our_logits(name, tmp_path):
    """tests/golden/make_peft_golden.py wrote these files as we do here, and had PEFT compute the logits."""
    write_peft(tmp_path, made(name).peft, "qwen3")
    there, here = (json.loads((f / "adapter_config.json").read_text()) for f in (GOLDEN / "peft" / name, tmp_path))
    assert there == here
    old, new = (load_file(f / "adapter_model.safetensors") for f in (GOLDEN / "peft" / name, tmp_path))
    assert old.keys() == new.keys()
    for tensor, value in old.items():
        np.testing.assert_allclose(new[tensor], value, atol=1e-5, err_msg=tensor)
    logits = np.load(GOLDEN / "peft" / "logits.npz")[name]
    np.testing.assert_allclose(made(name).logits_BTV, logits, atol=1e-4)
    assert np.ptp(logits) > 1
