"""Do groups of people pull the trained parameters the same way: cosines between the gradients of their losses.

Each group's gradient is that of its mean training loss (without balance and z-loss, without dropout) over a fixed
sample of its own training rows, the same questions for every group. Two groups whose gradients have a negative cosine
interfere: a small step along one group's gradient raises the other's loss. Cosines are taken over blocks of parameters:

- `all`: everything that is trained;
- `matrices`: all but routers and profile projection: the A and B of all experts together, or, for a method without
  experts, what everybody shares;
- `experts`: A and B of each expert of each layer by itself (B alone where A is shared);
- `router`: routers and profile projection.

An expert that no row of a group selects has no gradient from it; such pairs are counted as unused, not as cosine 0.

What this shows, and what it does not. A cosine is local, of these weights and these rows: it says nothing about a
finite step, and Adam and clipping change the direction that is taken. Each group's rows are cut into two halves, and
the cosine between the halves of one group (`within`) is the most that noise lets two groups reach at half the rows.
Where gradients add up to zero, as they do once training has converged, cosines are negative on average (-1/(G-1) for G
groups of equal norms) for any method; so compare methods at the same step, or watch the curve. Fewer conflicts on
experts than on `matrices` shows that groups which disagree are kept apart; it does not show that their answers are
better for it, and unused pairs are part of that: a method that gives every group an expert of its own has none to show.

Shapes: N rows, R persons, G groups, U halves of groups (2 G, the halves of a group side by side), I items, L layers,
E experts, X blocks of one kind.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.data.batches import Batch, SurveyBatcher
from cuma_jax.data.pipeline import Batcher, padded_batch
from cuma_jax.run.forward import Model, Tables
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import batch_sharding, local_rows, put_batch, replicated
from cuma_jax.surveys.groups import build_groups
from cuma_jax.training.interference_metrics import Grams

Tree = Any
MOST_GROUPS, MOST_QUESTIONS = 16, 8
ROWS = 16
"""Rows of each group while training; a measurement then costs about as much as `MOST_GROUPS * ROWS` training rows."""
HELD_BYTES = 2 << 30
"""Gradients kept on the devices at a time, over all devices; the others are computed again."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """The rows whose gradients are compared.

    Attributes:
        names: the groups.
        questions: ids of the questions; empty for conversations.
        answers_G: training answers of each group to these questions (or conversations), of which the rows are drawn.
        rows_G: distinct rows drawn.
        halves: for each half of each group, its batches with their buckets (this process's part of them).
    """

    names: tuple[str, ...]
    questions: tuple[str, ...]
    answers_G: np.ndarray
    rows_G: np.ndarray
    halves: list[list[tuple[int, Batch]]]


def build_probe(run: Run, rows: int = ROWS) -> Probe | None:
    """Draws the rows: at most `MOST_GROUPS` groups of `evaluation.group_by`, the same for the same data and seed.

    Questions are those asked of at least half as many groups as the most widely asked one, at most `MOST_QUESTIONS`;
    groups those with at least `evaluation.min_cell` training answers to most of them, then those with most answers.
    Each question gets the same share of a group's rows, drawn without replacement by their training masses.

    Returns:
        None where there are fewer than two such groups.
    """
    config, units, layout = run.config, run.units, run.training
    groups = build_groups(run.source, config.evaluation.group_by)
    train_N = run.mask("train") & groups.known_R[units.person_N]
    group_N = np.where(train_N, groups.group_R[units.person_N], -1)
    # Whole conversations have too many prompts, asked of too few people, to compare the same ones.
    item_N = units.item_N if layout.by_question else np.zeros(len(units), np.int64)
    chosen, items, count_G = choose_groups(group_N, item_N, len(groups.names), config.evaluation.min_cell)
    if len(chosen) < 2:
        return None
    halves: list[list[tuple[int, Batch]]] = []
    drawn = []
    for group in chosen:
        batcher = layout.training_rows((group_N == group) & np.isin(item_N, items))
        rng = np.random.Generator(np.random.Philox(key=[config.train.seed, int(group)]))
        parts = _draw(batcher, rows, rng)
        drawn.append(sum(map(len, parts)))
        halves += [_batches(run, batcher, part) for part in parts]
    ids = tuple(units.item_ids[i] for i in items) if layout.by_question else ()
    return Probe(tuple(groups.names[g] for g in chosen), ids, count_G, np.array(drawn), halves)


def choose_groups(
    group_N: np.ndarray, item_N: np.ndarray, groups: int, enough: int, most: int = MOST_GROUPS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chooses groups and items as `build_probe` says.

    Args:
        group_N, item_N: group and item of every answer; group -1: left out.
        groups: how many there are.
        enough: answers that a group needs to an item.
        most: groups to choose at most.

    Returns:
        Numbers of the groups (in order) and of the items, and the answers of these groups to these items.
    """
    items = int(item_N.max(initial=0)) + 1
    known_N = group_N >= 0
    key_N = group_N[known_N] * items + item_N[known_N]
    count_GI = np.bincount(key_N, minlength=groups * items).reshape(groups, items)
    asked_GI = count_GI >= enough
    groups_I = asked_GI.sum(0)
    wide = np.flatnonzero((groups_I >= 2) & (2 * groups_I >= groups_I.max()))
    wide = wide[np.lexsort((wide, -count_GI.sum(0)[wide], -groups_I[wide]))][:MOST_QUESTIONS]
    count_G, asked_G = count_GI[:, wide].sum(1), asked_GI[:, wide].sum(1)
    order = np.lexsort((np.arange(groups), -count_G, -asked_G))
    chosen = np.sort(order[asked_G[order] > 0][:most])
    return chosen, np.sort(wide), count_G[chosen]


def _draw(batcher: Batcher, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint halves of about `rows` rows, as many of each question."""
    stratum_N = batcher.rows.question_N if isinstance(batcher, SurveyBatcher) else np.zeros(len(batcher), np.int64)
    strata = np.unique(stratum_N)
    halves: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for stratum in strata:
        there = np.flatnonzero((stratum_N == stratum) & (batcher.mass_N > 0))
        mass = batcher.mass_N[there]
        size = min(max(rows // len(strata), 2), len(there))
        some = rng.choice(there, size, replace=False, p=mass / mass.sum()) if size else there
        halves[0].append(some[0::2])
        halves[1].append(some[1::2])
    return np.concatenate(halves[0]), np.concatenate(halves[1])


def _batches(run: Run, batcher: Batcher, index: np.ndarray) -> list[tuple[int, Batch]]:
    """Batches of one bucket each, of at most the rows that training computes at a time; filled up at weight 0."""
    train, mesh, found = run.config.train, run.mesh, []
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    for bucket in np.unique(batcher.bucket_N[index]):
        rows = index[batcher.bucket_N[index] == bucket]
        # Powers of two: little is filled up, and few sizes are compiled.
        fitting = ways * 2 ** int(np.ceil(np.log2(max(len(rows) / ways, 1))))
        size = min(train.batch_size // train.micro_batches, fitting)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            found.append((int(bucket), padded_batch(batcher, part, int(bucket), size, local_rows(mesh, size))))
    return found


class Interference:
    """Measures adapters on a probe: `interference(adapters) -> Grams`. All processes call it.

    Only inner products leave the devices, and at most `held_bytes` of gradients are on them at a time.
    """

    def __init__(self, run: Run, probe: Probe, held_bytes: int = HELD_BYTES):
        self.run, self.probe, self._held_bytes = run, probe, held_bytes
        self._complete = run.objective.completer(run)
        a, whole = run, replicated(run.mesh)
        self._layers, self._experts = a.decoder.n_adapted, 0 if a.decoder.adapter is None else a.decoder.adapter.experts

        def add(total: Tree, adapters: Tree, base: Tree, tables: Tables, batch: Tree) -> Tree:
            def loss(adapters: Tree) -> jax.Array:
                sums = a.objective.sums(a.config, Model(a.decoder, base, adapters, tables), batch, None)
                return sums.objective["loss"].total

            return jax.tree.map(jnp.add, total, jax.grad(loss)(adapters))

        def zeros() -> Tree:
            return jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), a.adapter_shapes)

        sharding = a.adapter_shardings
        self._zeros = jax.jit(zeros, out_shardings=sharding)
        self._add = jax.jit(
            add, in_shardings=(sharding, sharding, a.base_shardings, whole, batch_sharding(a.mesh)),
            out_shardings=sharding, donate_argnums=0,
        )  # fmt: skip
        self._dots = jax.jit(
            lambda x, y: inner_products(x, y, self._layers, self._experts),
            in_shardings=(sharding, sharding), out_shardings=whole,
        )  # fmt: skip

    def __call__(self, adapters: Tree) -> Grams:
        """The inner products of the gradients of all pairs of halves."""
        units = len(self.probe.halves)
        size = 4 * sum(int(np.prod(s.shape)) for s in jax.tree.leaves(self.run.adapter_shapes))
        keep = min(max(self._held_bytes // max(size, 1) - 1, 1), units)
        pairs: dict[tuple[int, int], Any] = {}
        with jax.set_mesh(self.run.mesh):
            for start in range(0, units, keep):
                held: dict[int, Tree] = {}
                for unit in range(start, units):
                    gradient = self._gradient(adapters, unit)
                    if unit < start + keep:
                        held[unit] = gradient
                    for other, theirs in held.items():
                        pairs[other, unit] = self._dots(theirs, gradient)
            return Grams.from_pairs(jax.device_get(pairs), units)

    def _gradient(self, adapters: Tree, unit: int) -> Tree:
        """Gradient of the summed loss of a half's rows; a sum and not a mean, so that halves add up to their group."""
        total = self._zeros()
        for bucket, batch in self.probe.halves[unit]:
            tables = self.run.training.tables[bucket]
            placed = self._complete(tables, put_batch(batch, self.run.mesh))
            total = self._add(total, adapters, self.run.base, tables, placed)
        return total


def while_training(run: Run) -> Interference | None:
    """What `train.interference_every` asks for; None where it is 0 or nothing is trained.

    Raises:
        CumaError: fewer than two groups to compare.
    """
    if not run.config.train.interference_every or not jax.tree.leaves(run.adapter_shapes):
        return None
    probe = build_probe(run)
    if probe is None:
        evaluation = run.config.evaluation
        raise CumaError(
            f"config field train.interference_every compares groups by {' / '.join(evaluation.group_by)}, but fewer "
            f"than two have {evaluation.min_cell} training answers to one question; set it to 0, lower "
            "evaluation.min_cell, or group by another field (evaluation.group_by)"
        )
    return Interference(run, probe)


def _block_of(path: tuple[Any, ...]) -> str:
    """`router`, `expert` (has an axis of experts, perhaps of length 1) or `other`."""
    names = [str(key.key) for key in path]
    if any(name == "projection" or name == "router" or name.endswith("_router") for name in names):
        return "router"
    return "expert" if len(names) > 1 and names[-2].endswith("_experts") else "other"


def inner_products(x: Tree, y: Tree, layers: int, experts: int) -> dict[str, jax.Array]:
    """Inner products of two trees of adapters, by block.

    Args:
        x, y: trees of the shape of the adapters; those in `adapted_layers` have the layer as their first axis.
        layers, experts: L and E.

    Returns:
        matrices_L, router_L: by layer; experts_LE: by layer and expert (zero where there is one expert);
        matrices, router: what lies outside the layers.
    """
    found = {
        **{name: jnp.zeros(layers) for name in ("matrices_L", "router_L")},
        **{name: jnp.zeros(()) for name in ("matrices", "router")},
        "experts_LE": jnp.zeros((layers, experts)),
    }
    for (path, x_leaf), y_leaf in zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(y), strict=True):
        product, block = x_leaf.astype(jnp.float32) * y_leaf.astype(jnp.float32), _block_of(path)
        name = "router" if block == "router" else "matrices"
        if str(path[0].key) != "adapted_layers":
            found[name] += jnp.sum(product)
            continue
        found[f"{name}_L"] += jnp.sum(product.reshape(layers, -1), axis=-1)
        # A is [L,I,E,R] and B is [L,E,R,O].
        axis = 2 if str(path[-1].key).endswith("_a") else 1
        if block == "expert" and experts > 1 and product.shape[axis] == experts:
            found["experts_LE"] += jnp.sum(jnp.moveaxis(product, axis, 1).reshape(layers, experts, -1), axis=-1)
    return found
