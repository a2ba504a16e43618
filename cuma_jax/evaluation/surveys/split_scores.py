"""The scores of one split: its metrics, the bootstrap, and one row a cell.

Legend: A answers, C cells, O options, Q questions of the split, K clusters, B resamples.
"""

import functools
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.config import EvaluationConfig
from cuma_jax.evaluation.metrics.baselines import BASELINES, MARGINALS, Marginals
from cuma_jax.evaluation.metrics.bootstrap import resampled
from cuma_jax.evaluation.metrics.distances import distance, jensen_shannon, total_variation
from cuma_jax.evaluation.metrics.noise_floor import kish_effective_n, noise_floor
from cuma_jax.evaluation.metrics.spread import MIN_GROUPS
from cuma_jax.evaluation.surveys.cuma_paper import paper_metrics
from cuma_jax.evaluation.surveys.equity import equity
from cuma_jax.evaluation.surveys.group_bootstrap import group_bootstrap
from cuma_jax.evaluation.surveys.grouping import Selection, SplitCells
from cuma_jax.evaluation.surveys.sufficient_statistics import (
    METHODS,
    PERSONAL,
    SufficientStatistics,
    cell_distributions,
    personal_sums,
    question_metrics,
    true_sums,
)
from cuma_jax.evaluation.surveys.summaries import CORRECTED, counter, mean_metrics, reliability
from cuma_jax.runtime.files import content_key
from cuma_jax.surveys.splits import SPLITS

RESAMPLED = ("emd", "js", "nll", "accuracy", "spread_ratio", "correlation")
"""The model's metrics that are kept in every resample."""
_CHUNK_BYTES = 32 << 20
_DRAWN = 128  # resamples drawn at once: a constant, since the draws depend on it


def score_split(
    selection: Selection,
    cells: SplitCells,
    marginals: Marginals,
    predicted: dict[str, np.ndarray],
    config: EvaluationConfig,
    name: str,
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, np.ndarray]]:
    """A split's part of the results (`Results.values["splits"][name]`), of `per_cell` and of `resamples`.

    `predicted` is the distribution [A, O] for each answer of `cells`, by method of `PERSONAL`.
    """
    survey, groups = selection.survey, selection.groups
    question_Q, question_C = np.unique(cells.question_C, return_inverse=True)
    asked = [survey.questions[q] for q in question_Q]
    size_C = np.array([len(q.options) for q in asked])[question_C]
    ordered_C = np.array([q.ordered for q in asked])[question_C]
    clusters, cluster_A = np.unique(selection.cluster_R[cells.respondent_A], return_inverse=True)
    options = predicted["model"].shape[1]
    statistics = SufficientStatistics(
        true=true_sums(cells, cluster_A, options),
        personal={m: personal_sums(cells, cluster_A, predicted[m], question_C, size_C) for m in PERSONAL},
        marginal_MCO=np.stack([marginals.predict(m, cells.question_C, cells.group_C) for m in MARGINALS]),
        question_C=question_C,
        size_C=size_C,
        ordered_C=ordered_C,
        count_C=cells.count_C.astype(np.float64),
        n_effective_C=kish_effective_n(cells.weight_A, cells.cell_A, len(cells.question_C)),
        num_questions=len(question_Q),
    )
    true_CO, model_CO = cell_distributions(statistics)
    seed = (config.seed, SPLITS.index(name))
    floor_C = np.full(len(size_C), np.nan)  # of shares nobody knows: how many were asked is not said
    if survey.persons:
        floor_C = noise_floor(
            true_CO, statistics.n_effective_C, size_C, ordered_C, seed=config.seed * len(SPLITS) + seed[1]
        )
    floor_Q = np.bincount(question_C, floor_C) / np.bincount(question_C)

    metrics = functools.partial(question_metrics, statistics)
    point = {key: value[..., 0] for key, value in metrics(np.ones((len(clusters), 1), np.float32)).items()}
    at_once = _CHUNK_BYTES // (4 * max(len(clusters), statistics.personal["model"].cells.shape[0]))
    resamples = config.bootstrap if survey.persons else 0
    drawn = resampled(metrics, len(clusters), resamples, seed, _DRAWN, int(np.clip(at_once, 1, _DRAWN)))
    if not survey.persons:
        point |= {key: np.full(len(question_Q), np.nan) for key in CORRECTED}
    count = counter(cells, question_C)

    def mean_of(rows: np.ndarray) -> dict[str, Any]:
        """Every metric over the mean of the questions in `rows`."""
        mine, resamples = ({key: value[rows] for key, value in metrics.items()} for metrics in (point, drawn))
        return mean_metrics(mine, resamples, floor_Q[rows], lambda known: count(rows[known]))

    def describe(row: int) -> dict[str, Any]:
        index, question = int(question_Q[row]), asked[row]
        kept, every = cells.profiles[index]
        return {
            "text": question.text,
            "options": list(question.options),
            "source": question.source,
            "distance": "emd" if question.ordered else "total_variation",
            "train_answers": int(marginals.n_QG[index].sum()),
            "n_profiles_kept": kept,
            "n_profiles": every,
            **mean_of(np.array([row])),
        }

    several_Q = np.bincount(question_C) >= MIN_GROUPS
    seen_C = marginals.n_QG[cells.question_C, cells.group_C] > 0
    summary = {
        "n": {
            **count(np.arange(len(question_Q))),
            "clusters": len(clusters),
            "cells_without_training_answers": int((~seen_C).sum()),
            "answers_in_small_cells": cells.small[0],
            "small_cells": cells.small[1],
            "answers_of_profiles_not_sampled": cells.not_sampled,
            "answers_without_group": cells.no_group,
        },
        "overall": mean_of(np.arange(len(question_Q))),
        "several_groups": mean_of(np.flatnonzero(several_Q)) if several_Q.any() else None,
        "few_groups": None if several_Q.all() else mean_of(np.flatnonzero(~several_Q)),
        "paper": paper_metrics(survey, cells, predicted["model"]),
        "equity": equity(survey, cells, cluster_A, predicted["model"], config.min_cell),
        "calibration": reliability(cells, predicted["model"], size_C[cells.cell_A]),
        "questions": {question.id: describe(row) for row, question in enumerate(asked)},
    }
    baseline_CO = {method: cell_distributions(statistics, method)[1] for method in BASELINES}
    shown = {"true": true_CO, "predicted": model_CO, "pooled": baseline_CO["pooled"]}
    table = pd.DataFrame({
        "split": name,
        "question": [asked[q].id for q in question_C],
        "group": [groups.names[g] for g in cells.group_C],
        "n": cells.count_C.astype(np.int64),
        "n_effective": statistics.n_effective_C,
        "n_train": marginals.n_QG[cells.question_C, cells.group_C].astype(np.int64),
        **{k: [row[:size].tolist() for row, size in zip(p_CO, size_C, strict=True)] for k, p_CO in shown.items()},
        "emd": distance(true_CO, model_CO, size_C, ordered_C),
        "js": jensen_shannon(true_CO, model_CO),
        "tv": total_variation(true_CO, model_CO),
        "floor": floor_C,
        **{f"emd_{b}": distance(true_CO, p_CO, size_C, ordered_C) for b, p_CO in baseline_CO.items()},
    })  # fmt: skip
    summary["over_groups"] = group_bootstrap(table, config.bootstrap, config.seed)
    # The key is the same for two runs that draw the same people in every resample.
    respondent_R, first_R = np.unique(cells.respondent_A, return_index=True)
    ids = "\x1f".join(survey.respondents["respondent_id"].to_numpy()[respondent_R].tolist())
    key = content_key(ids, cluster_A[first_R].astype(np.int64), f"{seed} {config.bootstrap} {_DRAWN}")
    kept = {
        "questions": np.array([question.id for question in asked]),
        "several_groups": several_Q,
        "answers": np.bincount(question_C, cells.count_C).astype(np.int64),
        "floor": floor_Q,
        "key": np.array(key),
        **{f"{m}_emd": drawn[f"{m}.emd"].astype(np.float32) for m in METHODS if m != "model"},
        **{metric: drawn[f"model.{metric}"].astype(np.float32) for metric in RESAMPLED},
    }
    return summary, table, {f"{name}/{key}": value for key, value in kept.items()}
