"""The decoder with a cache gives, token by token, the logits of the forward pass without one.

Shapes: B batch, T tokens, V vocabulary, C profile width, N steps.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loading import drawn, forward

from cuma_jax.config import AdapterConfig, RouterConfig
from cuma_jax.models.cached_decoder import CachedDecoder
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import DecoderConfig, RopeScaling

SHAPE = DecoderConfig(40, 16, 2, 4, 2, 8, 24, 1e-6, 1e4, qk_norm=True, tied=True, family="qwen3")
LLAMA3 = dataclasses.replace(
    SHAPE, qk_norm=False, tied=False, o_bias=True, qkv_bias=True, mlp_bias=True,
    rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 8),
)  # fmt: skip
EXPERTS = AdapterConfig(experts=4, rank=3, targets=("q", "v", "down"))
ROUTER = RouterConfig(hidden_dim=6)
LENGTHS, PROMPT, STEPS = np.array([3, 5, 1], np.int32), 5, 4
CASES = {
    "one adapted of two, top-k": (SHAPE, dataclasses.replace(EXPERTS, layers=1), ROUTER, {}),
    "text only, soft, a router each": (
        LLAMA3, EXPERTS, dataclasses.replace(ROUTER, inputs="hidden", gate="soft", shared=False), {},
    ),
    "profile only, double softmax, shared A": (
        SHAPE, dataclasses.replace(EXPERTS, shared_a=True),
        dataclasses.replace(ROUTER, inputs="profile", gate="double_softmax"), {"projection_layers": 2},
    ),
    "lookup": (SHAPE, EXPERTS, RouterConfig(inputs="lookup", top_k=1), {}),
    "not normalised, remat": (SHAPE, EXPERTS, dataclasses.replace(ROUTER, gate="topk_unnormalised"), {"remat": "dots"}),
    "plain LoRA, int8": (
        SHAPE, dataclasses.replace(EXPERTS, experts=1), RouterConfig(inputs="none", top_k=1), {"quantize": "int8"},
    ),
    "dora": (SHAPE, AdapterConfig(kind="dora", rank=3, targets=("q", "down")), RouterConfig(inputs="none"), {}),
    "full": (LLAMA3, AdapterConfig(kind="full"), RouterConfig(inputs="none"), {}),
    "full, top layer": (SHAPE, AdapterConfig(kind="full", layers=1), RouterConfig(inputs="none"), {}),
    "prefix": (SHAPE, AdapterConfig(kind="prefix", prefix_length=3), RouterConfig(inputs="none"), {}),
    "nothing, llama 3": (LLAMA3, None, RouterConfig(inputs="none"), {}),
    "bfloat16": (SHAPE, EXPERTS, ROUTER, {"dtype": jnp.bfloat16}),
}  # fmt: skip
FAST = "one adapted of two, top-k"
SCANNED = ("lookup", "prefix", "bfloat16")


def cached(decoder, variables, tokens_BT, profile_BC, unroll):
    """Logits [B,N+1,V] after each row's prompt, and after each of the tokens that follow."""
    model = CachedDecoder(
        decoder, variables["params"], variables["adapters"], profile_BC, tokens_BT.shape[1] + 2, unroll
    )
    rows, logits = np.arange(len(tokens_BT)), []
    prompt_BT = jnp.where(np.arange(PROMPT) < LENGTHS[:, None], tokens_BT[:, :PROMPT], 39)  # the padding is not theirs
    logits_BV, kept, _ = model.prefill(prompt_BT, jnp.asarray(LENGTHS))
    logits.append(logits_BV)

    def further(kept, step):
        position_B = LENGTHS + step
        logits_BV, kept, _ = model.step(tokens_BT[rows, position_B], position_B, kept)
        return kept, logits_BV

    _, logits_NBV = jax.lax.scan(further, kept, jnp.arange(STEPS))
    return jnp.concatenate([logits_BV[:, None], jnp.moveaxis(logits_NBV, 0, 1)], axis=1)


@pytest.mark.parametrize("case", [c if c == FAST else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_cached_logits_equal_the_forward_pass_at_every_position(case):
    shape, adapter, router, settings = CASES[case]
    decoder = Decoder(shape, adapter, router, **settings)
    # A lookup's vectors are gates; no router: no vectors.
    width = 0 if router.inputs == "none" else 4
    variables = drawn(decoder, width)
    rng = np.random.default_rng(1)
    tokens_BT = jnp.asarray(rng.integers(0, shape.vocab, (3, PROMPT + STEPS)), jnp.int32)
    profile_BC = jnp.asarray(rng.dirichlet(np.ones(4), 3), jnp.float32) if width else None

    @jax.jit
    def both(variables, profile_BC):
        arguments = (decoder, variables, tokens_BT, profile_BC)
        whole_BTV, _ = forward(decoder, variables, tokens_BT, jnp.full(3, PROMPT + STEPS), profile_BC)
        return whole_BTV, cached(*arguments, unroll=case not in SCANNED)

    whole_BTV, found_BNV = both(variables, profile_BC)
    at_BN = LENGTHS[:, None] - 1 + np.arange(STEPS + 1)
    expected_BNV = np.take_along_axis(np.asarray(whole_BTV), at_BN[..., None], axis=1)
    tolerance = 0.15 if settings.get("dtype") == jnp.bfloat16 else 1e-4
    assert np.ptp(expected_BNV, axis=1).max() > 1  # the tokens matter
    np.testing.assert_allclose(found_BNV, expected_BNV, atol=tolerance, rtol=tolerance)
    if width:  # and who is asking, at every step
        _, other_BNV = both(variables, profile_BC[::-1])
        moved_BN = np.abs(other_BNV - found_BNV).max(-1)[:2:2]
        assert (moved_BN == 0).all() if router.inputs == "hidden" else (moved_BN > 1e-3).all()
