"""Every layout of linears and routers: names written by hand here, tensors bit for bit through the tree and back."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from cuma_jax.config import AdapterConfig, RouterConfig
from cuma_jax.interop.formats.official_tensors import official_slots, to_tensors, to_tree
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import DecoderConfig

# No two widths are equal: a transposed or misplaced tensor cannot fit. The heads are 12 wide, those of k and v 6.
SHAPE = DecoderConfig(20, 10, 3, 6, 3, 2, 14, 1e-6, 1e4)
WIDTHS = {"q": (10, 12), "k": (10, 6), "v": (10, 6), "o": (12, 10), "gate": (10, 14), "up": (10, 14), "down": (14, 10)}
ALL = tuple(WIDTHS)
C, E, R, H = 5, 3, 2, 7


def by_hand(targets, layers, routers, steps, shared_a, width):
    """Name -> shape of every tensor, from the description of the format; `steps`: linears of a router's MLP."""
    found = {}
    for layer, linear in itertools.product(layers, targets):
        block = "mlp" if linear in ("gate", "up", "down") else "self_attn"
        name, (i, o) = f"model.layers.{layer}.{block}.{linear}_proj", WIDTHS[linear]
        found |= {f"{name}.lora_a": (R, i)} if shared_a else {f"{name}.lora_a.{e}": (R, i) for e in range(E)}
        found |= {f"{name}.lora_b.{e}": (o, R) for e in range(E)}
    block = "mlp" if targets[0] in ("gate", "up", "down") else "self_attn"
    manager = f"model.layers.{layers[0]}.{block}.{targets[0]}_proj._router_manager.routers"
    for number, (_, linears) in enumerate(itertools.product(layers, routers)):
        sizes = [WIDTHS[linears[0]][0] + width, *[H] * (steps - 1), E]
        for step, (i, o) in enumerate(itertools.pairwise(sizes)):
            found[f"{manager}.{number}.mlp.{(1, 4, 7)[step]}.weight"] = (o, i)
            found[f"{manager}.{number}.mlp.{(1, 4, 7)[step]}.bias"] = (o,)
    return found


# name: adapter and router settings, routers of a layer
LAYOUTS = {
    "q_v_shared": ({"targets": ("q", "v")}, {}, [("q", "v")]),
    "q_v_in_another_order": ({"targets": ("v", "q")}, {}, [("q", "v")]),
    "all_shared": ({"targets": ALL, "shared_a": True}, {}, [("q", "k", "v"), ("o",), ("gate", "up"), ("down",)]),
    "all_unshared": ({"targets": ALL}, {"shared": False, "layers": 3}, [(t,) for t in ALL]),
    "qkv_alone_shared": (
        {"targets": ALL, "shared_a": True},
        {"shared_gate_up": "no"},
        [("q", "k", "v"), ("o",), ("gate",), ("up",), ("down",)],
    ),
    "gate_up_alone_shared": (
        {"targets": ALL},
        {"shared": False, "shared_gate_up": "yes", "layers": 1},
        [("q",), ("k",), ("v",), ("o",), ("gate", "up"), ("down",)],
    ),
    "mlp_one_layer_routers": ({"targets": ("up", "down")}, {"layers": 1}, [("up",), ("down",)]),
    "o_and_down": ({"targets": ("o", "down"), "shared_a": True}, {"shared": False}, [("o",), ("down",)]),
    "top_layer": ({"targets": ("k",), "layers": 1}, {"layers": 3}, [("k",)]),
    "no_profile": ({"targets": ("q", "gate")}, {"inputs": "hidden"}, [("q",), ("gate",)]),
}
# Of these the tree is compared with the model's own, which takes a second each.
OF_THE_MODEL = ("all_unshared", "gate_up_alone_shared", "top_layer", "no_profile")


def settings(name):
    adapter, router, routers = LAYOUTS[name]
    adapter = dataclasses.replace(AdapterConfig(experts=E, rank=R), **adapter)
    router = dataclasses.replace(RouterConfig(hidden_dim=H), **router)
    return adapter, router, routers, 0 if router.inputs == "hidden" else C


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_and_shapes_are_those_of_the_format(name):
    adapter, router, routers, width = settings(name)
    layers = range(SHAPE.layers)[-adapter.layers :]
    targets = [linear for linear in ALL if linear in adapter.targets]
    slots = official_slots(adapter, router, SHAPE, width)
    expected = by_hand(targets, list(layers), routers, router.layers, adapter.shared_a, width)
    assert {slot.name: slot.shape for slot in slots} == expected
    assert len(slots) == len(expected)


def shapes_of_the_model(adapter, router, width):
    profile_BC = jnp.zeros((1, width)) if width else None
    init = Decoder(SHAPE, adapter, router).init
    shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32), jnp.full(1, 4), profile_BC)
    return jax.tree.map(np.shape, nn.meta.unbox(shapes["adapters"]))


@pytest.mark.parametrize("name", LAYOUTS)
def test_tensors_pass_through_the_tree_of_the_model_bit_for_bit(name):
    adapter, router, _, width = settings(name)
    slots, rng = official_slots(adapter, router, SHAPE, width), np.random.default_rng(0)
    tensors = {slot.name: rng.normal(size=slot.shape).astype(np.float32) for slot in slots}
    tree = to_tree(tensors, slots)
    if name in OF_THE_MODEL:
        assert jax.tree.map(np.shape, tree) == shapes_of_the_model(adapter, router, width)
    # Every number has a place of its own: none is written over another.
    leaves = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
    assert sorted(leaves) == sorted(np.concatenate([value.ravel() for value in tensors.values()]))
    for tensor, value in to_tensors(tree, slots).items():
        assert value.tobytes() == tensors[tensor].tobytes(), tensor


def test_a_router_that_sees_no_text_has_columns_of_zeros_there():
    adapter, router = AdapterConfig(experts=E, rank=R), RouterConfig(inputs="profile", hidden_dim=H)
    slots, rng = official_slots(adapter, router, SHAPE, C), np.random.default_rng(0)
    shapes = shapes_of_the_model(adapter, router, C)
    tree = jax.tree.map(lambda s: rng.normal(size=s), shapes, is_leaf=lambda s: isinstance(s, tuple))
    name = "model.layers.0.self_attn.q_proj._router_manager.routers.1.mlp.1.weight"
    weight = to_tensors(tree, slots)[name]
    assert not weight[:, :10].any()
    kernel = tree["adapted_layers"]["q_k_v_experts"]["router"]["profile_0"][1]
    np.testing.assert_array_equal(weight[:, 10:], kernel.T.astype(np.float32))
