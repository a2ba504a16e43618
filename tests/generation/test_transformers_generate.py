"""Greedy replies are, token for token, those of transformers' own `generate`, in a batch of unequal prompts."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from golden import make_generate_golden as maker
from loading import load

from cuma_jax.config import MeshConfig, SamplingConfig
from cuma_jax.generation import make_generate
from cuma_jax.hub.model_files import resolve
from cuma_jax.runtime.sharding import make_mesh, replicated

GOLDEN = Path(__file__).parent.parent / "golden"


def compare(case, lengths_B, golden):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    whole = replicated(mesh)
    decoder, base = load(resolve(str(GOLDEN / "hf" / case)), mesh=mesh)
    reply_BN = golden["reply_BN"]
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=reply_BN.shape[1])
    generate = make_generate(decoder, sampling, (int(golden["end"]),), -1, mesh, whole, whole)
    rows = len(lengths_B)
    batch = {
        "tokens": golden["tokens_BT"], "lengths": lengths_B, "profile": np.zeros(rows, np.int32),
        "key": np.zeros((rows, 2), np.uint32),
    }  # fmt: skip
    out = jax.device_get(generate(base, {}, None, batch))
    np.testing.assert_array_equal(out.tokens_BN, reply_BN)
    np.testing.assert_array_equal(out.length_B, (reply_BN >= 0).sum(1))
    np.testing.assert_array_equal(out.stopped_B, (reply_BN == golden["end"]).any(1))


@pytest.mark.parametrize("case", [pytest.param(c, marks=[] if c == "qwen3" else pytest.mark.slow) for c in maker.CASES])
def test_greedy_replies_equal_the_golden_ones(case):
    # These are transformers' numbers: a change here is a mistake. tests/golden/make_generate_golden.py remakes them.
    with np.load(GOLDEN / "generate.npz") as arrays:
        golden = {key: arrays[f"{case}/{key}"] for key in ("tokens_BT", "reply_BN", "end")}
        compare(case, arrays["lengths_B"], golden)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("case", ["llama_tied_llama3", "qwen3"])
def test_greedy_replies_equal_torch_live(case):
    compare(case, np.array(maker.LENGTHS, np.int32), maker.make(GOLDEN / "hf" / case, seed=1000))
