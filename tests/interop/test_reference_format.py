"""Adapters of the official code, read here, give its numbers; written back, they are the same bytes.

Each case of tests/golden/reference holds a tiny random base in Hugging Face format, an adapter in the official format
(adapter_config.json, adapter_model.safetensors; torch layout) and what the official code computed in float32:
logits, losses, routing, gradients of the total loss and three steps of AdamW. Rows are padded on the right.

Every NAME.npz of that folder is a case, and of the folder that the environment variable CUMA_JAX_TEST_REFERENCE names,
if it is set. All settings come from adapter_config.json.

Shapes: B batch, T tokens, E experts, L layers, H router width.
"""

import dataclasses
import functools
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import loading
import numpy as np
import optax
import pytest
from conftest import ROOT
from flax import linen as nn
from safetensors.numpy import load_file

from cuma_jax.config import Config
from cuma_jax.config.methods import apply_method
from cuma_jax.hub.model_files import resolve
from cuma_jax.interop.formats.official_fields import run_fields, training_fields
from cuma_jax.interop.formats.official_folder import read_official, write_official
from cuma_jax.interop.formats.official_tensors import official_slots, to_tensors, to_tree
from cuma_jax.losses.balance import router_sums
from cuma_jax.losses.sft import sft_sums
from cuma_jax.losses.sums import BatchSums
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import decoder_config
from cuma_jax.models.router import gate_weights
from cuma_jax.models.weights import load_params
from cuma_jax.training.step import total_loss

OWN = ROOT / "tests" / "golden" / "reference"
FAST = "qwen3_r8_script"
MODULES = ("q", "k", "v", "o", "gate", "up", "down")


def cases():
    """(folder, name) of every case; all but one are slow."""
    folders = [OWN] + [pathlib.Path(f) for f in [os.environ.get("CUMA_JAX_TEST_REFERENCE")] if f]
    for folder in folders:
        for path in sorted(folder.glob("*.npz")):
            marks = () if path.stem == FAST and folder == OWN else (pytest.mark.slow,)
            yield pytest.param((folder, path.stem), marks=marks, id=path.stem)


CASES = pytest.mark.parametrize("which", list(cases()))


@dataclasses.dataclass(frozen=True)
class Case:
    """A golden case put together: `official` as read, and what runs it here."""

    official: object
    slots: list
    config: Config
    decoder: Decoder
    base: object
    adapters: object
    arrays: dict


@functools.cache
def case(which):
    folder, name = which
    adapter_folder = folder / f"adapter_{name}"
    source = str(folder / json.loads((adapter_folder / "adapter_config.json").read_text())["base_model"])
    files = resolve(source, "", "")
    shape = decoder_config(files)
    official = read_official(adapter_folder, shape, source)
    config = apply_method(Config(), "reference")
    for fields in (training_fields(official.config), run_fields(official.config, shape, name)):
        sections = {s: dataclasses.replace(getattr(config, s), **new) for s, new in fields.items()}
        config = dataclasses.replace(config, **sections)
    width = official.config.demographic_embed_dim
    slots = official_slots(config.adapter, config.router, shape, width)
    adapters = jax.tree.map(jnp.asarray, to_tree(official.tensors, slots))
    decoder = Decoder(shape, config.adapter, config.router)
    arrays = dict(np.load(folder / f"{name}.npz"))
    rows, tokens = arrays["input_ids"].shape
    init = functools.partial(decoder.init, jax.random.key(0), jnp.zeros((rows, tokens), jnp.int32))
    profile_BC = jnp.zeros((rows, width)) if width else None
    shapes = nn.meta.unbox(jax.eval_shape(init, jnp.full(rows, tokens), profile_BC))
    assert jax.tree.map(lambda a: a.shape, adapters) == jax.tree.map(lambda a: a.shape, shapes["adapters"])
    base = load_params(files, shape, *loading.abstract_params(decoder, width=width), decoder.n_frozen)
    return Case(official, slots, config, decoder, base, adapters, arrays)


def forward(which, adapters):
    """Total loss as the official code has it, and (logits, language-model loss, auxiliary loss, routers' sums)."""
    c = case(which)
    decoder, arrays = c.decoder, c.arrays
    lengths_B = jnp.asarray(arrays["attention_mask"].sum(1), jnp.int32)
    tokens_BT = jnp.asarray(arrays["input_ids"], jnp.int32)
    variables = {"params": c.base, "adapters": adapters}
    profile_BC = jnp.asarray(arrays["demographic_embed"]) if c.official.config.demographic_embed_dim else None
    logits_BTV, stats = loading.forward(decoder, variables, tokens_BT, lengths_B, profile_BC)
    # Labels are shifted by one there: position t is judged by label t + 1.
    labels_BS = jnp.asarray(arrays["labels"][:, 1:], jnp.int32)
    weight_BS = (labels_BS != -100).astype(jnp.float32)
    objective = sft_sums(logits_BTV[:, :-1], jnp.eye(logits_BTV.shape[-1]), jnp.maximum(labels_BS, 0), weight_BS)
    sums = BatchSums(objective, router_sums(stats), jnp.sum(lengths_B))
    total, metrics = total_loss(sums, c.config.objective, c.config.router)
    return c.official.config.objective_scale * total, (logits_BTV, metrics["loss"], metrics["balance"], stats)


@functools.cache
def differentiated(which):
    """adapters -> everything of `forward`, and gradients of the total loss."""
    return jax.jit(jax.value_and_grad(functools.partial(forward, which), has_aux=True))


@functools.cache
def computed(which):
    return differentiated(which)(case(which).adapters)


def routers(which):
    """(layer of the tree, group, name) of every router in the official order."""
    found = []
    for slot in case(which).slots:
        part = slot.parts[0]
        if part.path[-1] == "bias_0":
            found.append((part.index[0], part.path[1].removesuffix("_experts"), part.path[2]))
    return found


@CASES
def test_logits_equal_the_official_ones(which):
    arrays, (_, (logits_BTV, *_)) = case(which).arrays, computed(which)[0]
    seen = arrays["attention_mask"] == 1
    np.testing.assert_allclose(np.asarray(logits_BTV)[seen], arrays["out/logits"][seen], atol=2e-4)


@CASES
def test_losses_equal_the_official_ones(which):
    arrays, (total, (_, lm, auxiliary, stats)) = case(which).arrays, computed(which)[0]
    np.testing.assert_allclose(lm, arrays["out/lm_loss"], rtol=1e-5)
    np.testing.assert_allclose(total, arrays["out/total_loss"], rtol=1e-5)
    if not case(which).official.config.use_load_balancing_loss:
        return
    np.testing.assert_allclose(auxiliary, arrays["out/aux_loss"], rtol=1e-5)
    official = case(which).official.config
    for (layer, group, name), expected in zip(routers(which), arrays["out/aux_per_router"], strict=True):
        s = jax.tree.map(lambda x, layer=layer: np.asarray(x)[layer], stats[group][name])
        found = official.num_experts * ((s.selected_E / s.count) * (s.gate_E / s.count)).sum()
        if not official.top_k_routing_strategy:
            found = official.num_experts / official.top_k
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@CASES
def test_routing_equals_the_official_one(which):
    """Mean gates of every router over each sequence; per token where the input is the embedding and no layer's work."""
    c = case(which)
    seen_BT = c.arrays["attention_mask"] == 1
    stats, routing = computed(which)[0][1][3], [routing_of(c, i) for i in range(len(routers(which)))]
    for (layer, group, name), expected_BTE in zip(routers(which), routing, strict=True):
        expected_BE = (expected_BTE * seen_BT[..., None]).sum(1)
        np.testing.assert_allclose(np.asarray(stats[group][name].gate_BE)[layer], expected_BE, atol=2e-4)
    layer, group, name = routers(which)[0]
    if c.decoder.n_frozen or group != "q_k_v":
        return
    x_BTD = np.asarray(c.base["embed"])[c.arrays["input_ids"]].astype(np.float64)
    norm_D = np.asarray(c.base["adapted_layers"]["attn_norm"])[0]
    x_BTD = x_BTD / np.sqrt((x_BTD**2).mean(-1, keepdims=True) + c.decoder.config.norm_eps) * norm_D
    w = {k: np.asarray(v)[0] for k, v in c.adapters["adapted_layers"][f"{group}_experts"][name].items()}
    h_BTH = x_BTD @ w["hidden_0"] + w["bias_0"]
    if "profile_0" in w:
        h_BTH = h_BTH + (c.arrays["demographic_embed"] @ w["profile_0"])[:, None]
    for step in range(1, c.config.router.layers):
        h_BTH = np.maximum(h_BTH, 0) @ w[f"hidden_{step}"] + w[f"bias_{step}"]
    logits_BTE, router = jnp.asarray(h_BTH.astype(np.float32)), c.config.router
    gate_BTE = np.asarray(gate_weights(logits_BTE, router.gate, router.top_k)[0])
    np.testing.assert_allclose(gate_BTE[seen_BT], routing[0][seen_BT], atol=1e-5)


def routing_of(c, number):
    """Official gates [B,T,E] of a router; without top-K routing it keeps them whole, and selects where it adds up."""
    gate_BTE = c.arrays[f"out/routing/{number}"]
    if c.official.config.top_k_routing_strategy:
        return gate_BTE
    kept = np.argsort(np.argsort(-gate_BTE, axis=-1, kind="stable"), axis=-1) < c.official.config.top_k
    return np.where(kept, gate_BTE, 0)


@CASES
def test_gradients_of_the_total_loss_equal_the_official_ones(which):
    arrays = case(which).arrays
    official = {k.removeprefix("out/grad/"): v for k, v in arrays.items() if k.startswith("out/grad/")}
    found = to_tensors(jax.device_get(computed(which)[1]), case(which).slots)
    assert official
    for tensor, expected in official.items():
        assert np.linalg.norm(found[tensor] - expected) <= 1e-4 * np.linalg.norm(expected) + 1e-7, tensor


@pytest.mark.slow
@CASES
def test_three_steps_of_adamw_equal_the_official_ones(which):
    """Learning rate 2e-3, weight decay 0.01, gradients clipped to norm 1: losses before each step, and the norms."""
    arrays, adapters = case(which).arrays, case(which).adapters
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3, weight_decay=0.01))
    state = optimizer.init(adapters)
    for loss, norm in zip(arrays["out/step_loss"], arrays["out/step_gnorm"], strict=True):
        (total, _), grads = differentiated(which)(adapters)
        np.testing.assert_allclose(total, loss, rtol=1e-4)
        np.testing.assert_allclose(optax.global_norm(grads), norm, rtol=1e-4)
        updates, state = optimizer.update(grads, state, adapters)
        adapters = optax.apply_updates(adapters, updates)


@CASES
def test_written_back_every_tensor_is_bit_identical(which, tmp_path):
    folder, c = which[0] / f"adapter_{which[1]}", case(which)
    tensors = to_tensors(jax.device_get(c.adapters), c.slots)
    write_official(tmp_path, dataclasses.replace(c.official, tensors=tensors))
    there, here = (load_file(f / "adapter_model.safetensors") for f in (folder, tmp_path))
    kept, written = ({n: (v.dtype, v.shape, v.tobytes()) for n, v in t.items()} for t in (there, here))
    assert kept == written
    settings = [json.loads((f / "adapter_config.json").read_text()) for f in (folder, tmp_path)]
    assert settings[0] == settings[1]
