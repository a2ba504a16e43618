"""Small adapters of every kind that PEFT can hold, the same every time: what they are here, and as PEFT adapters.

The base is tests/golden/hf/qwen3. Used by test_peft_folder.py and tests/golden/make_peft_golden.py.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from conftest import ROOT
from flax import linen as nn
from loading import abstract_params, forward

from cuma_jax.config import AdapterConfig, RouterConfig
from cuma_jax.hub.model_files import resolve
from cuma_jax.interop.export.gates import profile_gates
from cuma_jax.interop.export.peft_adapters import dora_adapter, folded_adapter, plain_adapter
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import decoder_config
from cuma_jax.models.weights import load_params

GOLDEN = ROOT / "tests" / "golden"
BASE = GOLDEN / "hf" / "qwen3"
TOKENS_BT = np.random.default_rng(5).integers(0, 48, (2, 9)).astype(np.int32)
ONE = RouterConfig(inputs="none", top_k=1)
WIDTH = 5
CASES = {
    "lora": (AdapterConfig(experts=1, rank=2, alpha=3.0, targets=("q", "gate", "down")), ONE, 0),
    "rslora_top_layers": (
        AdapterConfig(experts=1, rank=3, alpha=2.5, targets=("v", "o"), layers=2, scaling="sqrt_rank"), ONE, 0,
    ),
    "dora": (AdapterConfig(kind="dora", experts=1, rank=2, alpha=3.0, targets=("q", "up")), ONE, 0),
    "profile_top_2": (
        AdapterConfig(experts=4, rank=2, alpha=3.0, targets=("q", "v")),
        RouterConfig(inputs="profile", hidden_dim=6), 0,
    ),
    "profile_all_shared_a": (
        AdapterConfig(experts=3, rank=2, alpha=3.0, targets=("k", "gate", "up"), shared_a=True, layers=1),
        RouterConfig(inputs="profile", gate="soft", shared=False, layers=1), 4,
    ),
}  # fmt: skip
"""Name -> adapter, router, width of a projection of the profile (0: none)."""


@dataclasses.dataclass(frozen=True)
class Made:
    """A case put together: `logits_BTV` as the run's own model has them, and the adapter as it is exported."""

    peft: object
    logits_BTV: np.ndarray


@functools.cache
def made(name):
    adapter, router, projection = CASES[name]
    files = resolve(str(BASE), "", "")
    shape = decoder_config(files)
    decoder = Decoder(shape, adapter, router, projection_layers=bool(projection) * 1, projection_dim=projection or 1)
    rng = np.random.default_rng(list(CASES).index(name))
    profile_BC = None if router.inputs == "none" else np.repeat(rng.normal(size=(1, WIDTH)), 2, 0).astype(np.float32)
    lengths_B, tokens_BT = jnp.full(len(TOKENS_BT), TOKENS_BT.shape[1]), jnp.asarray(TOKENS_BT)
    shapes = nn.meta.unbox(jax.eval_shape(decoder.init, jax.random.key(0), tokens_BT, lengths_B, profile_BC))
    base = load_params(files, shape, *abstract_params(decoder, width=WIDTH), decoder.n_frozen)
    adapters = jax.tree.map(lambda s: (rng.normal(size=s.shape) * 0.4).astype(np.float32), shapes["adapters"])

    @jax.jit
    def logits(adapters):
        variables = {"params": base, "adapters": adapters}
        return forward(decoder, variables, tokens_BT, lengths_B, profile_BC)[0]

    if adapter.kind == "dora":
        peft = dora_adapter(adapters, adapter, base, shape.layers)
    elif profile_BC is None:
        peft = plain_adapter(adapters, adapter, shape.layers)
    else:
        peft = folded_adapter(adapters, adapter, profile_gates(decoder, adapters, profile_BC[:1])[0], shape.layers)
    return Made(peft, np.asarray(logits(adapters)))


def torch_logits(folder):
    """What PEFT computes with the adapter in `folder`, [B,T,V]."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, folder).eval()
    with torch.no_grad():
        return model(torch.tensor(TOKENS_BT).long()).logits.numpy()
