"""How far groups are from each other, by what they answer, by the experts they use and by their profiles; and whether
these distances agree.

Legend: G groups, Q questions, O options, S (question, group) cells, L layers, E experts, P distinct profiles, M width.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata, spearmanr

from cuma_jax.evaluation.metrics.distances import distance


def answer_distances(per_cell: pd.DataFrame, column: str, names: list[str], questions: Mapping[str, Any]) -> np.ndarray:
    """Mean over common questions of the distance (EMD; total variation without an order) of two groups' answers, [G,G].

    Of the `column` `true` or `predicted` of an evaluation's cells; those of several splits are averaged by their
    answers. NaN for pairs without a common question.
    """
    total_GG, common_GG = np.zeros((len(names),) * 2), np.zeros((len(names),) * 2)
    row = {name: i for i, name in enumerate(names)}
    for question, cells in per_cell.groupby("question", sort=True):
        ordered = questions[str(question)]["distance"] == "emd"
        weight = cells["n"].to_numpy(np.float64)
        probs_GO = np.zeros((len(names), len(cells[column].iloc[0])))
        member = np.array([row[str(g)] for g in cells["group"]])
        np.add.at(probs_GO, member, weight[:, None] * np.stack(cells[column].to_list()))
        there = np.unique(member)
        probs_GO = probs_GO[there] / probs_GO[there].sum(-1, keepdims=True)
        size = np.array(probs_GO.shape[-1])
        gap = distance(probs_GO[:, None], probs_GO[None], size, np.array(ordered))
        total_GG[np.ix_(there, there)] += gap
        common_GG[np.ix_(there, there)] += 1
    return _mean(total_GG, common_GG)


def route_distances(
    question_S: np.ndarray, group_S: np.ndarray, gate_SLE: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Mean over common questions and layers of the total variation between mean gates, [G,G], groups in the order of
    `groups`; NaN for pairs without a common question."""
    total_GG, common_GG = np.zeros((len(groups),) * 2), np.zeros((len(groups),) * 2)
    for question in np.unique(question_S):
        cells = np.flatnonzero((question_S == question) & np.isin(group_S, groups))
        there = np.array([int(np.flatnonzero(groups == g)[0]) for g in group_S[cells]], int)
        gate_GX = gate_SLE[cells].reshape(len(cells), -1)
        total_GG[np.ix_(there, there)] += squareform(pdist(gate_GX, "cityblock")) / (2 * gate_SLE.shape[1])
        common_GG[np.ix_(there, there)] += 1
    return _mean(total_GG, common_GG)


def profile_distances(vectors_PM: np.ndarray, profile_N: np.ndarray, group_N: np.ndarray, groups: np.ndarray) -> Any:
    """Euclidean distance between the mean profile vectors of groups, over the distinct profiles that were predicted."""
    pair = np.unique(np.stack([group_N, profile_N], axis=1), axis=0)
    mean_GM = np.stack([vectors_PM[pair[pair[:, 0] == g, 1]].mean(0) for g in groups])
    return squareform(pdist(mean_GM))


def _mean(total_GG: np.ndarray, common_GG: np.ndarray) -> np.ndarray:
    found_GG = np.divide(total_GG, common_GG, out=np.full(total_GG.shape, np.nan), where=common_GG > 0)
    np.fill_diagonal(found_GG, 0.0)
    return found_GG


def complete_groups(matrices: Mapping[str, np.ndarray]) -> np.ndarray:
    """Groups whose distances to each other are all known: the one with most gaps is dropped until there are none."""
    unknown_GG = np.any([~np.isfinite(m) for m in matrices.values()], axis=0)
    keep = np.arange(len(unknown_GG))
    while len(keep) and (gaps := unknown_GG[np.ix_(keep, keep)].sum(1)).any():
        keep = np.delete(keep, int(np.argmax(gaps)))
    return keep


def mantel(one_GG: np.ndarray, other_GG: np.ndarray, seed: int, permutations: int) -> dict[str, Any]:
    """Mantel's test: Spearman correlation of two distance matrices, and how often groups dealt anew do as well.

    Mantel (1967). Pairs of groups are not independent, so the p-value is of permutations of the groups (one-sided,
    this one among them), not of pairs.

    Returns:
        rho, p, groups, pairs, permutations; rho and p are None for fewer than four groups or constant distances.
    """
    groups = len(one_GG)
    upper = np.triu_indices(groups, 1)
    one, other = one_GG[upper], other_GG[upper]
    n = {"groups": groups, "pairs": len(one), "permutations": permutations}
    if groups < 4 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return {"rho": None, "p": None, **n}
    rho = float(spearmanr(one, other).statistic)
    # Ranks do not change when groups are dealt anew, so a permutation costs one inner product.
    rank = rankdata(one)
    rank_GG = np.zeros((groups, groups))
    rank_GG[upper] = rankdata(other)
    rank_GG += rank_GG.T
    rng, at_least = np.random.default_rng([seed, 11]), 0
    observed = rank @ rank_GG[upper]
    for _ in range(permutations):
        order = rng.permutation(groups)
        at_least += bool(rank @ rank_GG[np.ix_(order, order)][upper] >= observed - 1e-9)
    return {"rho": rho, "p": (1 + at_least) / (1 + permutations), **n}


def classical_mds(distance_GG: np.ndarray) -> tuple[np.ndarray, float]:
    """Two coordinates of each group by classical scaling (Torgerson, 1952), and their share of all positive variance.

    The same input gives the same map: signs are chosen so that the largest coordinate of each axis is positive.
    """
    size = len(distance_GG)
    centre = np.eye(size) - 1.0 / size
    values, vectors = np.linalg.eigh(-0.5 * centre @ distance_GG**2 @ centre)
    top = np.argsort(-values)[:2]
    positive = np.maximum(values, 0.0)
    position_G2 = np.zeros((size, 2))
    position_G2[:, : len(top)] = vectors[:, top] * np.sqrt(positive[top])
    largest = position_G2[np.argmax(np.abs(position_G2), axis=0), np.arange(2)]
    total = positive.sum()
    return position_G2 * np.where(largest < 0, -1.0, 1.0), float(positive[top].sum() / total) if total > 0 else 0.0


def turned_to(position_G2: np.ndarray, target_G2: np.ndarray) -> np.ndarray:
    """A map turned and mirrored to lie as close to another as it can; its distances stay as they are."""
    if not position_G2.any() or not target_G2.any():
        return position_G2
    return position_G2 @ orthogonal_procrustes(position_G2, target_G2)[0]
