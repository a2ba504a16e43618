"""The three answers at the top of an analysis: collapse, conflict, and whether those who answer alike route alike."""

from collections.abc import Mapping
from typing import Any

from cuma_jax.evaluation.results import Results
from cuma_jax.reporting.verdict import group_words, verdict

NOISE = 0.1
"""Where two halves of one group agree less than this (mean cosine), nothing can be said of two groups."""
MANY, FEW = 0.4, 0.15
"""Shares of pairs of groups with a negative cosine: at least `MANY` is a conflict, below `FEW` hardly one."""
CANCELLED = 0.05
"""A mean cosine this close to between 0 and -1/(G-1), for G groups, is what converged training shows of any method."""
APART = 0.05
"""Shares closer than this are called alike."""
STRONG, WEAK, SURE = 0.3, 0.1, 0.05
"""Mantel correlations, and the p-value below which one is believed."""
Values = Mapping[str, Any]


def answers(values: Values, results: Results) -> list[dict[str, str]]:
    """Question, answer in words, its tone, and the numbers behind it, of each of the three."""
    one, many = group_words(results)
    first = verdict(results)
    return [
        {"question": "Did the model collapse?", **{k: first[k] for k in ("answer", "tone", "because")}},
        {"question": f"Do {many} conflict in training?", **conflict_answer(values["interference"], one, many)},
        {"question": f"Do {many} that answer alike route alike?", **topology_answer(values["topology"], many)},
    ]


def conflict_answer(interference: Values, one: str, many: str) -> dict[str, str]:
    """How often the gradients of two groups oppose each other, on everything and on single experts."""
    if "reason" in interference:
        return {"answer": "Not measured", "tone": "unknown", "because": f"{interference['reason'].capitalize()}."}
    whole, experts = interference["blocks"].get("matrices"), interference["blocks"].get("experts")
    if whole is None or whole["negative_share"] is None:
        return {"answer": "Cannot tell", "tone": "unknown", "because": "All gradients are zero."}
    because = (
        f"The gradients of {whole['negative_share']:.0%} of {whole['pairs']} pairs of {many} oppose each other on the "
        f"adapters as a whole (mean cosine {whole['mean_cosine']:+.2f}; two halves of one {one} reach "
        f"{whole['within'] or 0:.2f})."
    )
    if experts is not None:
        unused = experts["unused_pairs"] / (experts["pairs"] + experts["unused_pairs"])
        if experts["negative_share"] is None:
            because += f" No two {many} share an expert."
        else:
            because += (
                f" On single experts it is {experts['negative_share']:.0%} ({experts['mean_cosine']:+.2f}); "
                f"in {unused:.0%} of the cases two {many} do not share the expert."
            )
    if (whole["within"] or 0.0) < NOISE:
        return {"answer": "Cannot tell", "tone": "unknown", "because": because + " That is too noisy to compare."}
    share = whole["negative_share"]
    expected = -1.0 / max(len(interference["groups"]) - 1, 1)
    cancelled = share >= MANY and expected - CANCELLED < whole["mean_cosine"] < CANCELLED
    if cancelled:
        because += " That is what any method shows once the gradients cancel: see the curve."
    answer, tone = ("Some do", "fair") if share >= FEW else ("Hardly", "good")
    if share >= MANY:
        answer, tone = "Yes", "fair" if cancelled else "bad"
    if experts is not None and share >= FEW:
        there = experts["negative_share"]
        if there is None or there < share - APART:
            answer, tone = f"{answer}, less on experts", "fair"
        elif there > share + APART:
            answer = f"{answer}, more on experts"
        else:
            answer += ", on experts too"
    return {"answer": answer, "tone": tone, "because": because}


def topology_answer(topology: Values, many: str) -> dict[str, str]:
    """Whether distances between groups' true answers and between their mean gates agree."""
    if "reason" in topology:
        reason = topology["reason"]
        return {"answer": "No router", "tone": "unknown", "because": f"{reason[0].upper()}{reason[1:]}."}
    test = topology["mantel"]["true x routes"]
    if test["rho"] is None:
        return {
            "answer": "Cannot tell", "tone": "unknown",
            "because": f"Only {test['groups']} {many} can be compared, or all of them are alike.",
        }  # fmt: skip
    because = (
        f"Distances between the answers of {test['groups']} {many} and between the experts they use correlate by "
        f"{test['rho']:.2f} (Spearman; p = {test['p']:.3f}, Mantel's test)."
    )
    profile = topology["mantel"].get("profile x routes")
    if profile is not None and profile["rho"] is not None:
        because += f" With distances between profile vectors, routes correlate by {profile['rho']:.2f}."
    if test["p"] >= SURE or test["rho"] < WEAK:
        return {"answer": "No", "tone": "bad", "because": because}
    if test["rho"] < STRONG:
        return {"answer": "A little", "tone": "fair", "because": because}
    return {"answer": "Yes", "tone": "good", "because": because}
