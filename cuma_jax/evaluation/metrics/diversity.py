"""How much replies to one prompt differ by who is asking.

distinct-n (Li et al. 2016, arXiv:1510.03055): different n-grams over all n-grams of some replies, here of the replies
to one prompt for several profiles, n-grams of tokens. Sampling alone makes replies differ; so the same is measured for
one profile that asks several times.
"""

from collections.abc import Sequence

import numpy as np


def distinct(replies: Sequence[Sequence[int]], n: int) -> float:
    """Different n-grams over all n-grams of `replies`, together; nan where no reply has n tokens."""
    grams = [tuple(reply[i : i + n]) for reply in replies for i in range(len(reply) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def same_share(replies: Sequence[str]) -> float:
    """Share of the pairs of `replies` that are equal; nan for fewer than two."""
    pairs = [a == b for i, a in enumerate(replies) for b in replies[:i]]
    return sum(pairs) / len(pairs) if pairs else float("nan")


def spread_of_replies(texts: Sequence[Sequence[str]], tokens: Sequence[Sequence[Sequence[int]]]) -> dict[str, float]:
    """Means over prompts of `distinct_1`, `distinct_2`, and `equal`, the share of pairs of replies that are equal.

    Of each prompt its replies are given, as texts and as token ids. What is not defined for any prompt is left out.
    """
    found = {
        "distinct_1": [distinct(replies, 1) for replies in tokens],
        "distinct_2": [distinct(replies, 2) for replies in tokens],
        "equal": [same_share(replies) for replies in texts],
    }
    known = {name: [v for v in values if np.isfinite(v)] for name, values in found.items()}
    return {name: float(np.mean(values)) for name, values in known.items() if values}
