"""Where every tensor of the official format is in the 'adapters' tree, for every layout of linears and routers.

Torch holds a linear as [out, in]; ours is [in, out], stacked over layers. The first kernel of a router reads
[hidden ; profile] there and is split in two here. Routers are numbered by first appearance over layers, and all are
saved under the first adapted linear.

Shapes: L adapted layers, I input and O output width of a linear, E experts, R rank, C profile width, H router width.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from cuma_jax.config import AdapterConfig, RouterConfig
from cuma_jax.interop.formats.official_config import MODULES
from cuma_jax.models.experts import router_names
from cuma_jax.models.families import DecoderConfig

Tree = Any
Tensors = dict[str, np.ndarray]
GROUPS = (("q", "k", "v"), ("o",), ("gate", "up"), ("down",))
"""The linears of a layer by what they read, in the order of the model's modules."""
TOP = "router_manager."
"""How the routers' names begin where the manager stands at the top of the model."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of a leaf of the tree."""

    path: tuple[str, ...]  # names down to the leaf
    leaf: tuple[int, ...]  # the leaf's shape
    index: tuple[Any, ...]  # where in the leaf; what is left of it is [in, out], or [out] for a bias
    columns: int  # how many input columns of the torch tensor it fills; 0 for a bias


@dataclasses.dataclass(frozen=True)
class Slot:
    """One official tensor."""

    name: str  # as the official code saves it
    shape: tuple[int, ...]  # in torch's layout
    parts: tuple[Part, ...]  # the pieces of our tree that it is made of, by input columns


def linear_widths(shape: DecoderConfig) -> dict[str, tuple[int, int]]:
    """Linear -> (I, O)."""
    heads, kv_heads = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        "q": (shape.width, heads), "k": (shape.width, kv_heads), "v": (shape.width, kv_heads),
        "o": (heads, shape.width), "gate": (shape.width, shape.ffn), "up": (shape.width, shape.ffn),
        "down": (shape.ffn, shape.width),
    }  # fmt: skip


def group_of(linear: str) -> str:
    """The group that a linear is in, `q_k_v` for one; its experts are `q_k_v_experts` in the tree."""
    return "_".join(next(group for group in GROUPS if linear in group))


def module_name(layer: int, linear: str) -> str:
    """`module_name(0, "q")` is model.layers.0.self_attn.q_proj."""
    return f"model.layers.{layer}.{MODULES[linear]}"


def official_slots(adapter: AdapterConfig, router: RouterConfig, shape: DecoderConfig, width: int) -> list[Slot]:
    """Every tensor of an adapter in the official format; `width` is C, 0 where the routers see no profile."""
    slots: list[Slot] = []
    count = min(adapter.layers, shape.layers) or shape.layers
    first = shape.layers - count
    targets = [linear for linear in MODULES if linear in adapter.targets]
    manager = f"{module_name(first, targets[0])}._{TOP}"
    number = 0
    for layer in range(count):
        for group in GROUPS:
            linears = [linear for linear in group if linear in targets]
            owners = router_names(router, linears)
            for linear in linears:
                slots += _linear_slots(adapter, shape, count, first, layer, linear)
            for name in dict.fromkeys(owners.values()):
                reader = next(linear for linear, owner in owners.items() if owner == name)
                sizes = (linear_widths(shape)[reader][0], width, adapter.experts)
                path = ("adapted_layers", f"{group_of(reader)}_experts", name)
                slots += _router_slots(router, sizes, (count, layer), path, f"{manager}routers.{number}.")
                number += 1
    return slots


def _linear_slots(
    adapter: AdapterConfig, shape: DecoderConfig, count: int, first: int, layer: int, linear: str
) -> list[Slot]:
    (in_width, out_width), rank, experts = linear_widths(shape)[linear], adapter.rank, adapter.experts
    name, path = module_name(first + layer, linear), ("adapted_layers", f"{group_of(linear)}_experts")
    a_leaf = (count, in_width, 1 if adapter.shared_a else experts, rank)
    slots = []
    for e in range(a_leaf[2]):
        part = Part((*path, f"{linear}_a"), a_leaf, (layer, slice(None), e), in_width)
        slots.append(Slot(f"{name}.lora_a" + ("" if adapter.shared_a else f".{e}"), (rank, in_width), (part,)))
    for e in range(experts):
        part = Part((*path, f"{linear}_b"), (count, experts, rank, out_width), (layer, e), rank)
        slots.append(Slot(f"{name}.lora_b.{e}", (out_width, rank), (part,)))
    return slots


def _router_slots(
    router: RouterConfig, sizes: tuple[int, int, int], place: tuple[int, int], path: tuple[str, ...], prefix: str
) -> list[Slot]:
    """The linears of a router's MLP; dropout and ReLU between them have numbers of their own there: 1, 4, 7, ..."""
    (in_width, width, experts), (count, layer) = sizes, place
    slots = []
    for step in range(router.layers):
        out = experts if step == router.layers - 1 else router.hidden_dim
        pieces = {f"hidden_{step}": router.hidden_dim} if step else {"hidden_0": in_width, "profile_0": width}
        parts = [Part((*path, k), (count, n, out), (layer,), n) for k, n in pieces.items() if n]
        bias = Part((*path, f"bias_{step}"), (count, out), (layer,), 0)
        name = f"{prefix}mlp.{1 + 3 * step}"
        slots.append(Slot(f"{name}.weight", (out, sum(part.columns for part in parts)), tuple(parts)))
        slots.append(Slot(f"{name}.bias", (out,), (bias,)))
    return slots


def to_tensors(tree: Tree, slots: list[Slot]) -> Tensors:
    """The tensors of a tree, float32, in torch's layout.

    A router that does not read the hidden state has no kernel for it: its columns are zeros, which compute the same.
    """
    leaves: dict[tuple[str, ...], np.ndarray] = {}
    tensors: Tensors = {}
    for slot in slots:
        pieces = []
        for part in slot.parts:
            if part.path not in leaves:
                leaves[part.path] = _leaf(tree, part)
            pieces.append(leaves[part.path][part.index].T)
        tensors[slot.name] = np.ascontiguousarray(np.concatenate(pieces, axis=-1), np.float32)
    return tensors


def _leaf(tree: Tree, part: Part) -> np.ndarray:
    for name in part.path:
        if name not in tree and name == "hidden_0":
            return np.zeros(part.leaf, np.float32)
        tree = tree[name]
    leaf = np.asarray(tree)
    if leaf.shape != part.leaf:
        raise ValueError(f"{'/'.join(part.path)} is {leaf.shape}, not {part.leaf}")
    return leaf


def to_tree(tensors: Mapping[str, np.ndarray], slots: list[Slot]) -> Tree:
    """The inverse of `to_tensors`; float32 numpy leaves."""
    tree: Tree = {}
    for slot in slots:
        value, column = np.asarray(tensors[slot.name], np.float32), 0
        for part in slot.parts:
            node = tree
            for name in part.path[:-1]:
                node = node.setdefault(name, {})
            leaf = node.setdefault(part.path[-1], np.zeros(part.leaf, np.float32))
            leaf[part.index] = value[:, column : column + part.columns].T if part.columns else value
            column += part.columns
    return tree
