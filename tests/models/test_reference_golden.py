"""The `reference` method reproduces the official code: its adapters, read here, give its numbers.

Each case of tests/golden/reference holds a tiny random base in Hugging Face format, an adapter in the official format
(adapter_config.json, adapter_model.safetensors; torch layout) and what the official code computed in float32:
logits, language-model loss, auxiliary loss, routing and gradients of the total loss. Rows are padded on the right.

Shapes: B batch, T tokens, E experts, R rank, L layers, H router width, C profile width, I input and O output width.
"""

import dataclasses
import functools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import SingleDeviceSharding
from safetensors.numpy import load_file

from cuma_jax.config import AdapterConfig, Config, RouterConfig
from cuma_jax.methods import apply_method
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import decoder_config
from cuma_jax.models.router import gate_weights
from cuma_jax.models.sources import resolve
from cuma_jax.models.weights import load_params
from cuma_jax.objectives.balance import balance_loss, router_sums
from cuma_jax.objectives.sft import sft_sums

FOLDER = pathlib.Path(__file__).parent.parent / "golden" / "reference"
CASES = (
    "qwen3_r8_script",
    pytest.param("qwen3_r8_nohydra", marks=pytest.mark.slow),
    pytest.param("llama31_r64_llama_qk", marks=pytest.mark.slow),
)
GROUP = "q_k_v_experts"
_TENSOR = re.compile(r"model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.lora_([ab])(?:\.(\d+))?")
_ROUTER = re.compile(r".*_?router_manager\.routers\.(\d+)\.mlp\.([14])\.(weight|bias)")


def to_tree(tensors, width):
    """Official tensors to our 'adapters' tree, strictly: every tensor has a place.

    lora_a [R,I] (shared) or lora_a.e [R,I] become a [L,I,E or 1,R]; lora_b.e [O,R] become b [L,E,R,O]; the router's
    mlp.1.weight [H,I+C] splits into hidden_0 [L,I,H] and profile_0 [L,C,H].
    """
    found = {}
    for name, value in tensors.items():
        if match := _TENSOR.fullmatch(name):
            layer, linear, side, expert = match.groups()
            place, part = found.setdefault((f"{linear}_{side}",), {}), (int(layer), int(expert or 0))
            place[part] = value.T
        else:
            match = _ROUTER.fullmatch(name)
            assert match, name
            index, mlp, kind = match.groups()
            step = {"1": 0, "4": 1}[mlp]
            if kind == "bias":
                parts = {f"bias_{step}": value}
            elif step:
                parts = {"hidden_1": value.T}
            else:
                parts = {"hidden_0": value[:, :width].T, "profile_0": value[:, width:].T}
            for key, part in parts.items():
                found.setdefault(("router", key), {})[int(index), 0] = part
    tree = {"router": {}}
    for path, parts in found.items():
        layers = 1 + max(layer for layer, _ in parts)
        experts = 1 + max(expert for _, expert in parts)
        grid = np.stack([np.stack([parts[layer, e] for e in range(experts)]) for layer in range(layers)])
        if path[0] == "router":
            tree["router"][path[1]] = grid[:, 0]
        else:
            tree[path[0]] = grid if path[0].endswith("_b") else np.moveaxis(grid, 1, 2)
    return {"adapted_layers": {GROUP: jax.tree.map(jnp.asarray, tree)}}


@functools.cache
def case(name):
    """(decoder, base, adapters, arrays of the case, lambda) of a golden case."""
    settings = json.loads((FOLDER / f"adapter_{name}" / "adapter_config.json").read_text())
    targets = tuple(t[0] for t in settings["target_modules"])
    reference = apply_method(
        dataclasses.replace(
            Config(),
            adapter=AdapterConfig(rank=settings["lora_r"], alpha=settings["lora_alpha"], targets=targets),
            router=RouterConfig(hidden_dim=settings["router_hidden_dim"]),
        ),
        "reference",
    )
    adapter = dataclasses.replace(reference.adapter, shared_a=settings["use_hydra_lora"])
    files = resolve(str(FOLDER / settings["base_model"]), "", "")
    shape = decoder_config(files)
    decoder = Decoder(shape, adapter, reference.router)
    arrays = dict(np.load(FOLDER / f"{name}.npz"))
    profile_BC = jnp.asarray(arrays["demographic_embed"])
    init = functools.partial(decoder.init, jax.random.key(0), jnp.zeros((3, 20), jnp.int32), jnp.full(3, 20))
    shapes = nn.meta.unbox(jax.eval_shape(init, profile_BC))
    one = SingleDeviceSharding(jax.devices()[0])
    base = load_params(files, shape, shapes["params"], jax.tree.map(lambda _: one, shapes["params"]), 0)
    tensors = load_file(FOLDER / f"adapter_{name}" / "adapter_model.safetensors")
    adapters = to_tree(tensors, shape.width)
    assert jax.tree.map(lambda a: a.shape, adapters) == jax.tree.map(lambda a: a.shape, shapes["adapters"])
    assert reference.objective.balance == settings["lambda_auxiliary"]
    return decoder, base, adapters, arrays, reference.objective


def forward(name, adapters):
    """Total loss, and (logits, language-model loss, auxiliary loss, routers' sums)."""
    decoder, base, _, arrays, objective = case(name)
    lengths_B = jnp.asarray(arrays["attention_mask"].sum(1), jnp.int32)
    tokens_BT = jnp.asarray(arrays["input_ids"], jnp.int32)
    variables = {"params": base, "adapters": adapters}
    x_BTD, stats = decoder.apply(variables, tokens_BT, lengths_B, jnp.asarray(arrays["demographic_embed"]))
    everywhere_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1])[None, :], tokens_BT.shape)
    h_BTD = decoder.apply(variables, x_BTD, everywhere_BT, method="gather")
    logits_BTV = decoder.apply(variables, h_BTD, method="logits")
    # Labels are shifted by one there: position t is judged by label t + 1.
    labels_BS = jnp.asarray(arrays["labels"][:, 1:], jnp.int32)
    weight_BS = (labels_BS != -100).astype(jnp.float32)
    lm = sft_sums(logits_BTV[:, :-1], jnp.eye(logits_BTV.shape[-1]), jnp.maximum(labels_BS, 0), weight_BS)[
        "loss"
    ].mean()
    auxiliary = balance_loss(router_sums(stats), objective.balance_form)
    return lm + objective.balance * auxiliary, (logits_BTV, lm, auxiliary, stats)


@functools.cache
def computed(name):
    """Everything of `forward`, and gradients of the total loss."""
    return jax.jit(jax.value_and_grad(functools.partial(forward, name), has_aux=True))(case(name)[2])


@pytest.mark.parametrize("name", CASES)
def test_reference_logits_equal_the_official_ones(name):
    arrays, (_, (logits_BTV, *_)) = case(name)[3], computed(name)[0]
    seen = arrays["attention_mask"] == 1
    np.testing.assert_allclose(np.asarray(logits_BTV)[seen], arrays["out/logits"][seen], atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_reference_losses_equal_the_official_ones(name):
    arrays, (total, (_, lm, auxiliary, stats)) = case(name)[3], computed(name)[0]
    np.testing.assert_allclose(lm, arrays["out/lm_loss"], rtol=1e-5)
    np.testing.assert_allclose(auxiliary, arrays["out/aux_loss"], rtol=1e-5)
    np.testing.assert_allclose(total, arrays["out/total_loss"], rtol=1e-5)
    (sums,) = router_sums(stats).values()
    share_LE = np.asarray(sums.selected_LE / sums.count_L[:, None])
    mean_LE = np.asarray(sums.gate_LE / sums.count_L[:, None])
    np.testing.assert_allclose(8 * (share_LE * mean_LE).sum(-1), arrays["out/aux_per_router"], rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_reference_routing_equals_the_official_one(name):
    """Per-token gates of the first layer, whose input needs no other layer, and each sequence's mean gates of all."""
    decoder, base, adapters, arrays, _ = case(name)
    seen_BT = arrays["attention_mask"] == 1
    x_BTD = np.asarray(base["embed"])[arrays["input_ids"]].astype(np.float64)
    norm_D = np.asarray(base["adapted_layers"]["attn_norm"])[0]
    x_BTD = x_BTD / np.sqrt((x_BTD**2).mean(-1, keepdims=True) + decoder.config.norm_eps) * norm_D
    w = {k: np.asarray(v)[0] for k, v in adapters["adapted_layers"][GROUP]["router"].items()}
    profile_B1H = (arrays["demographic_embed"] @ w["profile_0"])[:, None]
    h_BTH = np.maximum(x_BTD @ w["hidden_0"] + profile_B1H + w["bias_0"], 0)
    logits_BTE = (h_BTH @ w["hidden_1"] + w["bias_1"]).astype(np.float32)
    gate_BTE = np.asarray(gate_weights(jnp.asarray(logits_BTE), decoder.router.gate, decoder.router.top_k)[0])
    np.testing.assert_allclose(gate_BTE[seen_BT], arrays["out/routing/0"][seen_BT], atol=1e-5)
    gate_LBE = np.asarray(computed(name)[0][1][3]["q_k_v"]["router"].gate_BE)
    for layer, gate_BE in enumerate(gate_LBE):
        expected_BE = (arrays[f"out/routing/{layer}"] * seen_BT[..., None]).sum(1)
        np.testing.assert_allclose(gate_BE, expected_BE, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_reference_gradients_of_the_total_loss_equal_the_official_ones(name):
    decoder, _, _, arrays, _ = case(name)
    official = {k.removeprefix("out/grad/"): v for k, v in arrays.items() if k.startswith("out/grad/")}
    found = computed(name)[1]["adapted_layers"][GROUP]
    assert official
    width = decoder.config.width
    for tensor, expected in official.items():
        if match := _TENSOR.fullmatch(tensor):
            layer, linear, side, expert = match.groups()
            stack = np.asarray(found[f"{linear}_{side}"])[int(layer)]
            grad = (stack[int(expert or 0)] if side == "b" else stack[:, int(expert or 0)]).T
        else:
            index, mlp, kind = _ROUTER.fullmatch(tensor).groups()
            w = {k: np.asarray(v)[int(index)] for k, v in found["router"].items()}
            if kind == "bias":
                grad = w["bias_0" if mlp == "1" else "bias_1"]
            elif mlp == "4":
                grad = w["hidden_1"].T
            else:
                grad = np.concatenate([w["hidden_0"], w["profile_0"]]).T
                assert grad.shape[1] > width
        assert np.linalg.norm(grad - expected) <= 1e-4 * np.linalg.norm(expected) + 1e-7, tensor
