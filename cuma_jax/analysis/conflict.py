"""Gradient interference of a trained state, as metrics and a table; see `training.interference`.

Shapes: G groups, L layers, E experts, X blocks of one kind.
"""

import time
from typing import Any

import jax
import numpy as np
import pandas as pd

from cuma_jax.run.run import Run
from cuma_jax.training.interference import Interference, build_probe
from cuma_jax.training.interference_metrics import Grams, cosines, summaries, summary, within

Tree = Any


def conflict(run: Run, adapters: Tree, rows: int) -> tuple[dict[str, Any] | None, pd.DataFrame, str]:
    """Cosines between the gradients of groups at these weights, by `rows` training rows of each group.

    Metrics (`groups`, `questions`, `blocks`, `by_layer`, `seconds`), one row a cosine, and a reason if there are none.
    """
    began, nothing = time.perf_counter(), pd.DataFrame()
    if not any(np.prod(leaf.shape) for leaf in jax.tree.leaves(run.adapter_shapes)):
        return None, nothing, "nothing is trained, so there are no gradients to compare"
    if not run.objective.learns_answers:
        reason = f"gradients are compared of losses of people's answers, which {run.objective} does not have"
        return None, nothing, reason
    probe = build_probe(run, rows)
    if probe is None:
        enough = run.config.evaluation.min_cell
        return None, nothing, f"fewer than two groups have {enough} training answers to one question"
    grams, first = Interference(run, probe)(adapters), run.decoder.n_frozen
    values = {
        "groups": [
            {"name": name, "answers": int(answers), "rows": int(drawn)}
            for name, answers, drawn in zip(probe.names, probe.answers_G, probe.rows_G, strict=True)
        ],
        "questions": list(probe.questions),
        "blocks": summaries(grams),
        "by_layer": by_layer(grams, first),
        "seconds": round(time.perf_counter() - began, 1),
    }
    return values, cosine_table(grams, probe.names, first), ""


def by_layer(grams: Grams, first: int) -> list[dict[str, Any]]:
    """`summary` of each layer's `matrices`, `experts` and `router`, where they have gradients; `first` is the number of
    the first adapted layer."""
    names = ("matrices", "experts", "router")
    layers = zip(grams.matrices_LUU[:, None], grams.experts_LEUU, grams.router_LUU[:, None], strict=True)
    return [
        {"layer": layer} | {name: summary(g) for name, g in zip(names, blocks, strict=True) if g.size and np.any(g)}
        for layer, blocks in enumerate(layers, first)
    ]


def cosine_table(grams: Grams, names: tuple[str, ...], first: int) -> pd.DataFrame:
    """One row a block and pair of groups (a group with itself: between its halves): block, layer, expert (counted from
    1; both missing where a block spans them), group_a, group_b, cosine (missing where a gradient is zero)."""
    one, two = np.triu_indices(len(names))
    experts = grams.experts_LEUU.shape[1]
    frames = []
    for block, gram_XUU in grams.blocks().items():
        if not gram_XUU.size or not np.any(gram_XUU):
            continue
        cosine_XGG, within_XG = cosines(gram_XUU), within(gram_XUU)
        for x in range(len(gram_XUU)):
            cosine_GG = cosine_XGG[x].copy()
            np.fill_diagonal(cosine_GG, within_XG[x])
            layer, expert = None, None
            if block == "layers":
                layer = first + x
            elif block == "experts":
                layer, expert = first + x // experts, x % experts + 1
            frames.append(
                pd.DataFrame({
                    "block": block, "layer": pd.array([layer] * len(one), dtype="Int64"),
                    "expert": pd.array([expert] * len(one), dtype="Int64"),
                    "group_a": np.array(names)[one], "group_b": np.array(names)[two], "cosine": cosine_GG[one, two],
                })
            )  # fmt: skip
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
