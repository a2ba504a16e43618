"""Experts under fixed gates are one LoRA adapter: the slow sum over experts, linear by linear."""

import numpy as np
import pytest

from cuma_jax.config import AdapterConfig
from cuma_jax.interop.export.parity import kl_divergence
from cuma_jax.interop.export.peft_adapters import as_plain_lora, folded_adapter
from cuma_jax.models.experts import lora_scale

LAYERS, L, E, R = 4, 2, 3, 2
WIDTHS = {"q": (5, 7), "down": (6, 5)}
GROUPS = {"q": "q_k_v_experts", "down": "down_experts"}
GATES = {
    "top_2": {"q": [[0.7, 0, 0.3], [0, 0.4, 0.6]], "down": [[0, 0.5, 0.5], [0.9, 0.1, 0]]},
    "all": {"q": [[0.2, 0.5, 0.3], [0.1, 0.3, 0.6]], "down": [[0.2, 0.5, 0.3], [0.8, 0.1, 0.1]]},
    "one_here_two_there": {"q": [[1, 0, 0], [0, 0, 1]], "down": [[0, 0.5, 0.5], [0, 1, 0]]},
}


@pytest.mark.parametrize("shared_a", [False, True])
@pytest.mark.parametrize("scaling", ["rank", "sqrt_rank"])
@pytest.mark.parametrize("kind", GATES)
def test_one_adapter_is_the_gated_sum_of_experts(kind, scaling, shared_a):
    adapter = AdapterConfig(
        experts=E, rank=R, alpha=3.0, scaling=scaling, targets=("q", "down"), shared_a=shared_a, layers=L
    )
    rng, tree = np.random.default_rng(0), {"adapted_layers": {}}
    for t, (i, o) in WIDTHS.items():
        a_LIER = rng.normal(size=(L, i, 1 if shared_a else E, R)).astype(np.float32)
        b_LERO = rng.normal(size=(L, E, R, o)).astype(np.float32)
        tree["adapted_layers"][GROUPS[t]] = {f"{t}_a": a_LIER, f"{t}_b": b_LERO}
    gates = {t: np.array(g, np.float64) for t, g in GATES[kind].items()}
    peft = folded_adapter(tree, adapter, gates, LAYERS)
    assert peft.rank == (R if shared_a else {"top_2": 2 * R, "all": E * R, "one_here_two_there": 2 * R}[kind])
    assert peft.alpha == peft.rank
    assert set(peft.factors) == {(layer, t) for layer in (2, 3) for t in WIDTHS}
    for (layer, t), (a_RI, b_OR) in peft.factors.items():
        group = tree["adapted_layers"][GROUPS[t]]
        expected = np.zeros(WIDTHS[t][::-1])
        for e in range(E):
            a_IR, b_RO = group[f"{t}_a"][layer - 2, :, 0 if shared_a else e], group[f"{t}_b"][layer - 2, e]
            expected += lora_scale(adapter) * gates[t][layer - 2, e] * (a_IR @ b_RO).T
        np.testing.assert_allclose(b_OR @ a_RI, expected, atol=1e-5)
    plain, _, again = as_plain_lora(peft)
    assert (plain.rank, plain.layers, lora_scale(plain)) == (peft.rank, L, 1.0)
    for t in WIDTHS:
        group = again["adapted_layers"][GROUPS[t]]
        np.testing.assert_array_equal(group[f"{t}_a"][1, :, 0].T, peft.factors[3, t][0])
        np.testing.assert_array_equal(group[f"{t}_b"][0, 0].T, peft.factors[2, t][1])


def test_kl_divergence_leaves_out_what_is_past_a_question():
    p_NO = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
    q_NO = np.array([[0.25, 0.75, 0.0], [0.25, 0.25, 0.5]])
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    np.testing.assert_allclose(kl_divergence(p_NO, q_NO), [expected, 0.0], atol=1e-12)
