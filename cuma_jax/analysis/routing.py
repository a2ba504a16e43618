"""Who uses which experts: mean gates of groups, what they say of the group, and how evenly experts are used.

Gates are compared within a question, because a router that sees the text may use other experts for other questions,
and groups are not all asked the same ones; then averaged over questions. A cell is a (question, group) pair.

Legend: N predicted rows, S cells, G groups, Q questions, L layers, E experts.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy import sparse
from scipy.stats import entropy

from cuma_jax.evaluation.metrics.spread import MIN_GROUPS


@dataclasses.dataclass(frozen=True)
class Routes:
    """Mean gate over the tokens of each predicted row, scaled to sum to 1 over experts; rows of no group are gone."""

    group_N: np.ndarray
    question_N: np.ndarray
    gate_NLE: np.ndarray

    @classmethod
    def of(cls, group_N: np.ndarray, question_N: np.ndarray, gate_NLE: np.ndarray) -> "Routes":
        """From rows in any order; those of group -1 are left out."""
        keep = np.flatnonzero(group_N >= 0)
        keep = keep[np.argsort(question_N[keep], kind="stable")]
        gate_NLE = gate_NLE[keep].astype(np.float64)
        # topk_unnormalised gates do not sum to 1.
        return cls(group_N[keep], question_N[keep], gate_NLE / gate_NLE.sum(-1, keepdims=True))

    def cells(self, group_N: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(question_S, group_S, mean gate SLE) of every cell that has rows; `group_N` stands in for the groups."""
        group_N = self.group_N if group_N is None else group_N
        width = int(self.group_N.max(initial=0)) + 1
        key_S, cell_N = np.unique(self.question_N * width + group_N, return_inverse=True)
        rows = len(cell_N)
        pick = sparse.csr_array((np.ones(rows), (cell_N, np.arange(rows))), shape=(len(key_S), rows))
        mean_SX = (pick @ self.gate_NLE.reshape(rows, -1)) / np.bincount(cell_N)[:, None]
        return key_S // width, key_S % width, mean_SX.reshape(-1, *self.gate_NLE.shape[1:])


def mutual_information(question_S: np.ndarray, gate_SLE: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Mutual information of group and expert, bits, groups weighted equally, and its largest possible value; each [L].

    `I = H(mean over groups of the gates) - mean over groups of H(gates)`, which is at most the smaller of log2(groups)
    and the first term. Mean over the questions with at least three groups, whose number comes third.
    """
    information, bound = [], []
    for question in np.unique(question_S):
        gate_GLE = gate_SLE[question_S == question]
        if len(gate_GLE) < MIN_GROUPS:
            continue
        expert_L = entropy(gate_GLE.mean(0), base=2, axis=-1)
        information.append(expert_L - entropy(gate_GLE, base=2, axis=-1).mean(0))
        bound.append(np.minimum(expert_L, np.log2(len(gate_GLE))))
    layers = gate_SLE.shape[1]
    if not information:
        return np.full(layers, np.nan), np.full(layers, np.nan), 0
    return np.mean(information, axis=0), np.mean(bound, axis=0), len(information)


def information_metrics(routes: Routes, seed: int, permutations: int) -> dict[str, Any] | None:
    """Mutual information beside what it is when groups are dealt anew to the rows of each question.

    Returns:
        `bits`, `normalised` (over the largest possible value), `null_bits` (mean over permutations) as a mean over
        layers and in `by_layer`; `p`, the share of permutations (this one among them) with at least as much, mean over
        layers; rows, groups, questions, permutations. None where no question has three groups.
    """
    question_S, _, gate_SLE = routes.cells()
    bits_L, bound_L, questions = mutual_information(question_S, gate_SLE)
    if not questions:
        return None
    rng = np.random.default_rng([seed, 7])
    null_KL = []
    for _ in range(permutations):
        # Rows stand by question: sorted by question and a random number, each question's are shuffled.
        order = np.lexsort((rng.random(len(routes.group_N)), routes.question_N))
        question_S, _, gate_SLE = routes.cells(routes.group_N[order])
        null_KL.append(mutual_information(question_S, gate_SLE)[0])
    null_L = np.mean(null_KL, axis=0)
    share_L = np.divide(bits_L, bound_L, out=np.zeros_like(bits_L), where=bound_L > 1e-12)
    at_least = sum(bool(null.mean() >= bits_L.mean()) for null in null_KL)
    return {
        "bits": float(bits_L.mean()),
        "normalised": float(np.mean(share_L)),
        "null_bits": float(null_L.mean()),
        "p": (1 + at_least) / (1 + permutations),
        "by_layer": [
            {"bits": float(b), "normalised": float(s), "null_bits": float(n)}
            for b, s, n in zip(bits_L, share_L, null_L, strict=True)
        ],
        "rows": len(routes.group_N),
        "groups": len(np.unique(routes.group_N)),
        "questions": questions,
        "permutations": permutations,
    }


def load_metrics(routes: Routes) -> list[dict[str, Any]]:
    """By layer: `load`, the mean gate of each expert over groups weighted equally; `load_entropy`, its entropy over the
    largest possible (1 is even use); `row_entropy`, the same of one row's gates, mean over rows."""
    mean_GLE = group_means(routes)[1]
    load_LE, most = mean_GLE.mean(0), np.log2(mean_GLE.shape[-1])
    load_L = entropy(load_LE, base=2, axis=-1) / most
    row_L = entropy(routes.gate_NLE, base=2, axis=-1).mean(0) / most
    return [
        {"load": [float(v) for v in load_E], "load_entropy": float(one), "row_entropy": float(other)}
        for load_E, one, other in zip(load_LE, load_L, row_L, strict=True)
    ]


def group_means(routes: Routes) -> tuple[np.ndarray, np.ndarray]:
    """The groups there are, and the mean gate of each over all of its rows, [G,L,E]."""
    group_G = np.unique(routes.group_N)
    return group_G, np.stack([routes.gate_NLE[routes.group_N == g].mean(0) for g in group_G])
