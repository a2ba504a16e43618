"""Metrics of a chain's stages: means and what each stage changed, with 95% intervals by resampling people."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.evaluation.metrics.ratios import Ratio, annotator_metrics


@dataclasses.dataclass(frozen=True)
class StageMetric:
    """A metric that stages are compared by: a sum divided by that of the column `over`, shown with `digits` decimals.

    `bounds` and `change_bounds` are what it, and the difference of two, can be.
    """

    title: str
    about: str
    over: str
    digits: int
    less_is_better: bool = False
    bounds: tuple[float, float] = (-np.inf, np.inf)
    change_bounds: tuple[float, float] = (-np.inf, np.inf)


def column(metric: str, stage: str) -> str:
    """The column of a frame that holds a metric of a stage."""
    return f"{metric}: {stage}"


def stage_metrics(
    frame: pd.DataFrame,
    names: Sequence[str],
    compared: Sequence[str],
    metrics: Mapping[str, StageMetric],
    resamples: int,
    seed: tuple[int, ...],
) -> dict[str, Any]:
    """`rows`, `people`, and `stages[name]` with each metric as {value, low, high}.

    The stages of `compared` also have `change`: their metrics less those of the row before. The frame has one row a
    scored row, with `annotator`, the columns that metrics are divided by, and `column(...)`s; `names` are the rows of
    the table, first to last.
    """
    ratios: dict[str, Ratio] = {}
    for name, before in zip(names, [None, *names], strict=False):
        for key, metric in metrics.items():
            mine = column(key, name)
            ratios[mine] = Ratio({mine: 1}, metric.over, metric.bounds)
            if name in compared:
                assert before is not None
                columns = {mine: 1, column(key, before): -1}
                ratios[f"change of {mine}"] = Ratio(columns, metric.over, metric.change_bounds)
    found = annotator_metrics(frame, ratios, next(iter(metrics.values())).over, resamples, seed)
    stages: dict[str, dict[str, Any]] = {}
    for name in names:
        stages[name] = {key: found[column(key, name)] for key in metrics}
        if name in compared:
            stages[name]["change"] = {key: found[f"change of {column(key, name)}"] for key in metrics}
    return {"rows": found["n"]["rows"], "people": found["n"]["annotators"], "stages": stages}
