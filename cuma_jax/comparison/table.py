"""The metrics of a comparison as plain JSON values: every variant and baseline, on every split, with intervals.

Legend: S seeds, Q questions, B resamples.
"""

from typing import Any

import numpy as np

from cuma_jax.comparison.collect import Collected, ScoredTrial
from cuma_jax.comparison.statistics import Estimate, difference, mean_of_questions, over_seeds, seed_draws
from cuma_jax.comparison.trials import Trial, read_analysis
from cuma_jax.config.comparison import Comparison, Variant, changes
from cuma_jax.evaluation.metrics.bootstrap import as_json, centre
from cuma_jax.evaluation.metrics.noise_floor import skill_score

SCHEMA = 1
"""Version of comparison.json."""
METRICS = ("emd", "js", "nll", "accuracy", "spread_ratio", "correlation")
_RANGE = {"emd": (0.0, 1.0), "js": (0.0, 1.0), "accuracy": (0.0, 1.0), "nll": (0.0, np.inf),
          "spread_ratio": (0.0, np.inf), "correlation": (-1.0, 1.0)}  # fmt: skip


def comparison_values(comparison: Comparison, collected: Collected, about: dict[str, Any]) -> dict[str, Any]:
    """What comparison.json holds.

    Keys: `variants` (settings, trials and cost of each), `baselines` (names), `splits[split]` with `n`, and for each
    scope (`overall`; `several_groups`: questions with three or more groups) `rows` (one a variant or baseline, in the
    preset's order) and for each question the same; `troubles` and `not_comparable` with reasons. A metric is
    {value, low, high, questions}; None where it is not defined. `difference` is a row's EMD minus the reference's, and
    `superiority` the share of paired resamples in which the row's is the smaller.
    """
    first = next(iter(collected.scored.values()))[0]
    reference = comparison.reference if collected.scored.get(comparison.reference) else ""
    base = collected.scored[reference][0] if reference else first
    order = [*comparison.splits, *(s for s in base.values["splits"] if s not in comparison.splits)]
    return {
        "schema": SCHEMA,
        "name": comparison.name,
        "title": comparison.title or comparison.name,
        "note": comparison.note,
        "reference": reference,
        **{key: base.values[key] for key in ("survey", "group_by", "min_cell", "max_profiles", "seed", "bootstrap")},
        "interval": base.values["interval"] + "; with several seeds, these are drawn anew in every resample",
        "about": about,
        "baselines": [m for m in base.values["splits"][order[0]]["overall"]["methods"] if m != "model"],
        "variants": [_variant(comparison, collected, variant) for variant in comparison.variants],
        "splits": {split: _split(comparison, collected, base, reference, split) for split in order},
        "troubles": [{"cell": trial.name, "status": where, "why": why}
                     for trial, where, why in collected.standing if where != "finished"],
        "not_comparable": [{"cell": trial.name, "split": split, "why": why}
                           for trial, split, why in collected.not_comparable],
        "notes": [{"cell": trial.name, "why": why} for trial, why in collected.notes],
    }  # fmt: skip


def _variant(comparison: Comparison, collected: Collected, variant: Variant) -> dict[str, Any]:
    name = variant.name
    mine = [(trial, where, why) for trial, where, why in collected.standing if trial.variant.name == name]
    records = [s.record for s in collected.scored.get(name, [])]

    def mean(key: str) -> float | None:
        known = [r[key] for r in records if r.get(key) is not None]
        return float(np.mean(known)) if known else None

    return {
        "name": name,
        "title": variant.title or name,
        "note": variant.note,
        "method": variant.method,
        "changes": {k: [str(a), str(b)] for k, (a, b) in changes(comparison.base, mine[0][0].config).items()},
        "cells": [
            {"seed": trial.seed, "status": where, "why": why, "folder": str(trial.folder)} for trial, where, why in mine
        ],
        "cost": {
            **{key: mean(key) for key in ("training_seconds", "seconds_per_step", "evaluation_seconds", "steps",
                                          "trainable_parameters")},
            "peak_memory_bytes": max((r["peak_memory_bytes"] for r in records if r.get("peak_memory_bytes")),
                                     default=None),
            "training_estimated": any(r.get("training_estimated") for r in records),
        },
        "analysis": _analysis([trial for trial, where, _ in mine if where == "finished"]),
    }  # fmt: skip


def _analysis(trials: list[Trial]) -> dict[str, Any] | None:
    """What a comparison shows of a variant's analysis.json: of its first seed that has one; None where none has.

    `routing`: share of the information on groups that the routes hold, and its p; `alike`: Mantel's rho and p between
    distances of routes and of true answers; `conflict`: cosines between groups' gradients on shared and on experts'
    parameters. Each None where the method has no such thing.
    """
    for trial in sorted(trials, key=lambda c: c.seed):
        if (found := read_analysis(trial)) is None:
            continue
        topology, blocks = found["topology"], found["interference"].get("blocks", {})
        information, mantel = topology.get("information"), topology.get("mantel", {}).get("true x routes")
        return {
            "seed": trial.seed,
            "routing": information and {k: information[k] for k in ("normalised", "bits", "null_bits", "p")},
            "alike": mantel and {k: mantel[k] for k in ("rho", "p", "groups")},
            "conflict": {
                name: {k: blocks[name][k] for k in ("mean_cosine", "negative_share", "within", "pairs")}
                for name in ("matrices", "experts") if name in blocks
            },
        }  # fmt: skip
    return None


def _split(
    comparison: Comparison, collected: Collected, base: ScoredTrial, reference: str, split: str
) -> dict[str, Any]:
    scores, kept = base.values["splits"][split], base.resamples
    several_Q, count = kept[f"{split}/several_groups"].astype(bool), len(kept[f"{split}/questions"])
    here = {v.name: collected.of(v.name, split) for v in comparison.variants}
    here = {name: many for name, many in here.items() if many}
    scopes = {"overall": np.arange(count)}
    if several_Q.any() and not several_Q.all():
        scopes["several_groups"] = np.flatnonzero(several_Q)
    return {
        "n": scores["n"],
        "headline": "several_groups" if "several_groups" in scopes else "overall",
        "scopes": {
            scope: {"n": _count(scores[scope]["floor"]), **_block(here, base, reference, split, rows)}
            for scope, rows in scopes.items()
        },
        "questions": {
            str(name): {
                "text": scores["questions"][str(name)]["text"],
                "distance": scores["questions"][str(name)]["distance"],
                "n": _count(scores["questions"][str(name)]["floor"]),
                **_block(here, base, reference, split, np.array([row])),
            }
            for row, name in enumerate(kept[f"{split}/questions"])
        },
    }


def _count(floor: dict[str, Any]) -> dict[str, int]:
    return {key: floor[key] for key in ("answers", "respondents", "cells", "questions")}


def _block(
    here: dict[str, list[ScoredTrial]], base: ScoredTrial, reference: str, split: str, rows: np.ndarray
) -> dict[str, Any]:
    """Rows of variants, then of baselines, for the mean of the questions `rows`."""
    floor = as_json(base.resamples[f"{split}/floor"][rows].mean())
    baselines = [m for m in base.values["splits"][split]["overall"]["methods"] if m != "model"]
    of_seeds = {name: _Seeds(name, many, split, rows) for name, many in here.items()}
    against = of_seeds[reference].estimate("model", "emd") if reference in of_seeds else None

    def row(name: str, kind: str, seeds: _Seeds, method: str) -> dict[str, Any]:
        emd = seeds.estimate(method, "emd")
        known = {metric: seeds.estimate(method, metric).values(*_RANGE[metric]) for metric in METRICS}
        gap, better = (None, np.nan) if against is None or name == reference else difference(emd, against)
        return {
            "name": name, "kind": kind, "seeds": len(seeds.scored) if kind == "variant" else 0,
            "values_by_seed": seeds.by_seed(method) if kind == "variant" else [],
            **known,
            "share_closed": seeds.skill(method, floor or 0.0).values(),
            "difference": None if gap is None else gap.values(-1.0, 1.0),
            "superiority": float(better) if np.isfinite(better) else None,
        }  # fmt: skip

    one = _Seeds("", [base], split, rows)
    return {
        "floor": floor,
        "rows": [row(name, "variant", seeds, "model") for name, seeds in of_seeds.items()]
        + [row(name, "baseline", one, name) for name in baselines],
    }


class _Seeds:
    """The runs of one variant, on some questions of a split."""

    def __init__(self, name: str, scored: list[ScoredTrial], split: str, rows: np.ndarray):
        self.scored, self._split, self._rows = scored, split, rows
        self._resamples = scored[0].resamples[f"{split}/emd"].shape[1]
        self._pick_BS = seed_draws(name, len(scored), self._resamples)

    def _of_each(self, method: str, metric: str) -> list[tuple[float, np.ndarray, int]]:
        """Value, value in every resample, and number of questions, of every seed."""
        found = []
        for s in self.scored:
            ids = s.resamples[f"{self._split}/questions"][self._rows]
            questions = s.values["splits"][self._split]["questions"]
            point = [questions[str(q)]["methods"][method][metric]["value"] for q in ids]
            point_Q = np.array([np.nan if p is None else p for p in point], np.float64)
            key = f"{self._split}/{metric if method == 'model' else f'{method}_{metric}'}"
            drawn = s.resamples.get(key)  # of baselines only the EMD is kept
            drawn_QB = np.zeros((len(ids), 0)) if drawn is None else drawn[self._rows]
            found.append(mean_of_questions(point_Q, drawn_QB))
        return found

    def estimate(self, method: str, metric: str) -> Estimate:
        """The mean over seeds of the mean over questions."""
        return self._combine(self._of_each(method, metric))

    def skill(self, method: str, floor: float) -> Estimate:
        """Skill score: the share of the explainable distance closed."""

        def score(model: tuple[float, np.ndarray, int], pooled: tuple[float, np.ndarray, int]) -> Any:
            (a, a_B, questions), (b, b_B, _) = model, pooled
            # Centred before the division: the bootstrap's bias would otherwise count as distance not closed.
            a_B, b_B = centre(np.array([a]), a_B[None])[0], centre(np.array([b]), b_B[None])[0]
            value = skill_score(np.array(a), np.array(b), np.array(floor))
            return float(value), skill_score(a_B, b_B, np.array(floor)), questions

        both = zip(self._of_each(method, "emd"), self._of_each("pooled", "emd"), strict=True)
        return self._combine([score(model, pooled) for model, pooled in both])

    def by_seed(self, method: str) -> list[dict[str, Any]]:
        """EMD of every seed alone."""
        points = self._of_each(method, "emd")
        return [{"seed": s.trial.seed, "emd": p[0]} for s, p in zip(self.scored, points, strict=True)]

    def _combine(self, found: list[tuple[float, np.ndarray, int]]) -> Estimate:
        point_S = np.array([value for value, _, _ in found])
        return over_seeds(point_S, np.stack([b for _, b, _ in found]), self._pick_BS, min(n for _, _, n in found))
