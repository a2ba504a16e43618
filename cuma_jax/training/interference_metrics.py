"""From inner products of gradients to cosines and what is said of them; see `interference`.

Shapes: G groups, U halves of groups (2 G, the halves of a group side by side), L layers, E experts, X blocks of
parameters of one kind.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Grams:
    """Inner products of the gradients of halves of groups, float64, symmetric.

    Attributes:
        matrices_LUU, router_LUU: of each layer's parameters.
        experts_LEUU: of each expert's; zero where there is one expert.
        matrices_UU, router_UU: of what lies outside the layers.
    """

    matrices_LUU: np.ndarray
    router_LUU: np.ndarray
    experts_LEUU: np.ndarray
    matrices_UU: np.ndarray
    router_UU: np.ndarray

    @classmethod
    def from_pairs(cls, pairs: Mapping[tuple[int, int], Mapping[str, np.ndarray]], units: int) -> "Grams":
        """From the inner products of each pair (first unit, second unit), one of the two orders for each."""

        def stack(name: str) -> np.ndarray:
            shape = np.shape(next(iter(pairs.values()))[name])
            gram = np.full((*shape, units, units), np.nan)
            for (one, two), found in pairs.items():
                gram[..., one, two] = gram[..., two, one] = found[name]
            return gram

        return cls(stack("matrices_L"), stack("router_L"), stack("experts_LE"), stack("matrices"), stack("router"))

    def blocks(self) -> dict[str, np.ndarray]:
        """Each kind's Gram matrices [X,U,U]: one for the whole, and for `layers` and `experts` one for each."""
        matrices_UU = self.matrices_LUU.sum(0) + self.matrices_UU
        router_UU = self.router_LUU.sum(0) + self.router_UU
        size = matrices_UU.shape[-1]
        return {
            "all": (matrices_UU + router_UU)[None],
            "matrices": matrices_UU[None],
            "layers": self.matrices_LUU,
            "experts": self.experts_LEUU.reshape(-1, size, size),
            "router": router_UU[None],
        }


def cosines(gram_XUU: np.ndarray) -> np.ndarray:
    """Cosine between the gradients of every two groups, [X,G,G]; NaN where one of them is zero."""
    return _normalised(_whole(gram_XUU))


def within(gram_XUU: np.ndarray) -> np.ndarray:
    """Cosine between the two halves of each group, [X,G]; NaN where one of them is zero."""
    cosine_XUU = _normalised(gram_XUU)
    return cosine_XUU[..., np.arange(0, gram_XUU.shape[-1], 2), np.arange(1, gram_XUU.shape[-1], 2)]


def _whole(gram_XUU: np.ndarray) -> np.ndarray:
    """[X,G,G]: the gradient of a group is the sum of its halves'."""
    groups = gram_XUU.shape[-1] // 2
    return gram_XUU.reshape(*gram_XUU.shape[:-2], groups, 2, groups, 2).sum((-3, -1))


def _normalised(gram_XNN: np.ndarray) -> np.ndarray:
    norm_XN = np.sqrt(np.einsum("...nn->...n", gram_XNN))
    scale_XNN = norm_XN[..., :, None] * norm_XN[..., None, :]
    return np.divide(gram_XNN, scale_XNN, out=np.full(gram_XNN.shape, np.nan), where=scale_XNN > 0)


def summary(gram_XUU: np.ndarray) -> dict[str, Any]:
    """What is said of blocks of one kind, over all blocks and pairs of groups together.

    Returns:
        mean_cosine; weighted_cosine, the same with each cosine weighted by the product of the two norms (a block that
        hardly matters to a group hardly counts); negative_share, the share of negative ones among those defined;
        within, the mean cosine between halves of one group; pairs, how many are defined; unused_pairs, how many are
        not because a gradient is zero; blocks, how many there are. None where not defined.
    """
    one, two = np.triu_indices(gram_XUU.shape[-1] // 2, 1)
    whole_XGG = _whole(gram_XUU)
    norm_XG = np.sqrt(np.einsum("xgg->xg", whole_XGG))
    product_XP, norms_XP = whole_XGG[:, one, two], norm_XG[:, one] * norm_XG[:, two]
    known_XP, within_XG = norms_XP > 0, within(gram_XUU)
    cosine = product_XP[known_XP] / norms_XP[known_XP]
    return {
        "mean_cosine": float(cosine.mean()) if cosine.size else None,
        "weighted_cosine": float(product_XP.sum() / norms_XP.sum()) if cosine.size else None,
        "negative_share": float((cosine < 0).mean()) if cosine.size else None,
        "within": float(np.nanmean(within_XG)) if np.isfinite(within_XG).any() else None,
        "pairs": int(known_XP.sum()),
        "unused_pairs": int((~known_XP).sum()),
        "blocks": len(gram_XUU),
    }


def summaries(grams: Grams) -> dict[str, Any]:
    """`summary` of every kind of block that there is: `all`, `matrices`, `layers` (the same, layer by layer),
    `experts`, `router`."""
    return {name: summary(gram) for name, gram in grams.blocks().items() if gram.size and np.any(gram)}
