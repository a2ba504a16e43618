"""The topology of groups: by what they answer, by the experts they use, by their profile vectors.

Legend: N predicted rows, P distinct profiles, G groups, L layers, E experts, M width of a profile vector.
"""

from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.analysis.distances import (
    answer_distances,
    classical_mds,
    complete_groups,
    mantel,
    profile_distances,
    route_distances,
    turned_to,
)
from cuma_jax.analysis.routing import Routes, group_means, information_metrics, load_metrics
from cuma_jax.evaluation.results import Results
from cuma_jax.evaluation.run import gate_table
from cuma_jax.evaluation.surveys.prediction import Predictions
from cuma_jax.surveys.derived import place_facts
from cuma_jax.surveys.groups import build_groups
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey

PERMUTATIONS, INFORMATION_PERMUTATIONS = 999, 100
TESTS = (
    ("true", "routes"), ("predicted", "routes"), ("profile", "routes"), ("true", "profile"), ("true", "predicted"),
)  # fmt: skip
MAPS = ("true", "predicted", "routes", "profile")
"""What groups are compared by: true answers, predicted answers, experts used, profile vectors."""


def profile_groups(survey: Survey, profiles: Profiles, fields: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Group of each profile, int64 [P] (-1: none of its respondents has a known one), and the groups' names.

    A profile that people of several groups share, which happens where `fields` are no part of the profile, belongs to
    the group that most of them are in.
    """
    groups = build_groups(survey, fields)
    known_R = np.flatnonzero(groups.known_R)
    size = len(groups.names)
    key, count = np.unique(
        profiles.profile_R[known_R].astype(np.int64) * size + groups.group_R[known_R], return_counts=True
    )
    order = np.lexsort((-key, count))  # of equally many the first group is written last, and stays
    group_P = np.full(len(profiles), -1, np.int64)
    group_P[key[order] // size] = key[order] % size
    return group_P, groups.names


def topology(
    results: Results,
    predictions: Predictions,
    group_P: np.ndarray,
    names: tuple[str, ...],
    vectors_PM: np.ndarray | None,
    first_layer: int,
    seed: int,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Metrics and tables of a run with routers, of its evaluation and of the predictions that this scored.

    `group_P` and `names` are from `profile_groups`; `vectors_PM` is None where no router sees the profile vectors.
    """
    group_N = group_P[predictions.profile_N]
    routes = Routes.of(group_N, predictions.question_N, predictions.gate_NLE)
    group_G, mean_GLE = group_means(routes)
    values: dict[str, Any] = {
        "layers": [first_layer + i for i in range(mean_GLE.shape[1])],
        "experts": mean_GLE.shape[2],
        "rows": len(routes.group_N),
        "groups": len(group_G),
        "information": information_metrics(routes, seed, INFORMATION_PERMUTATIONS),
        "load": load_metrics(routes),
    }
    scored = sorted(set(results.per_cell["group"]) & {names[g] for g in group_G})
    groups = np.array([names.index(name) for name in scored], np.int64)
    questions = {name: q for split in results.values["splits"].values() for name, q in split["questions"].items()}
    matrices = {name: answer_distances(results.per_cell, name, scored, questions) for name in ("true", "predicted")}
    matrices["routes"] = route_distances(*routes.cells(), groups)
    if vectors_PM is not None:
        known_N = group_N >= 0
        matrices["profile"] = profile_distances(vectors_PM, predictions.profile_N[known_N], group_N[known_N], groups)
    keep = complete_groups(matrices)
    kept = [scored[i] for i in keep]
    matrices = {name: m[np.ix_(keep, keep)] for name, m in matrices.items()}
    values["compared_groups"], values["left_out"] = len(kept), len(scored) - len(kept)
    values["mantel"] = {
        f"{one} x {other}": mantel(matrices[one], matrices[other], seed, PERMUTATIONS)
        for one, other in TESTS
        if one in matrices and other in matrices
    }
    maps, values["map_shares"] = _maps(matrices, kept, results)
    tables = {"gates": gate_table(mean_GLE, [names[g] for g in group_G], first_layer), "maps": maps}
    if len(kept) > 1:
        one, two = np.triu_indices(len(kept), 1)
        tables["distances"] = pd.DataFrame({
            "group_a": np.array(kept)[one], "group_b": np.array(kept)[two],
            **{name: m[one, two] for name, m in matrices.items()},
        })  # fmt: skip
    return values, tables


def _maps(matrices: dict[str, np.ndarray], names: list[str], results: Results) -> tuple[pd.DataFrame, dict[str, float]]:
    """One row a (map, group): x, y, and what to show of the group; each map turned to that of the true answers."""
    if len(names) < 3:
        return pd.DataFrame(), {}
    seen = results.per_cell.groupby("group")["n_train"].sum() > 0
    answers = results.per_cell.groupby("group")["n"].sum()
    countries = results.values["group_by"] == ["country"]
    region = {n: place_facts(n).get("world_region", "") if countries else "" for n in names}
    target_G2, frames, shares = np.zeros((len(names), 2)), [], {}
    for name in (m for m in MAPS if m in matrices):
        position_G2, shares[name] = classical_mds(matrices[name])
        position_G2 = turned_to(position_G2, target_G2)
        if name == "true":
            target_G2 = position_G2
        frames.append(
            pd.DataFrame({
                "map": name, "group": names, "x": position_G2[:, 0], "y": position_G2[:, 1],
                "region": [region[n] for n in names], "seen": [bool(seen[n]) for n in names],
                "answers": [int(answers[n]) for n in names],
            })
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True), shares
