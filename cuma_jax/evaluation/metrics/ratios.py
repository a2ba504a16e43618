"""Ratios of sums over rows that people gave several of, with 95% intervals by resampling the people.

Shapes: R clusters (people, prompts), K resamples, M metrics, C columns.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.evaluation.metrics.bootstrap import resampled, with_interval

SHARE, CHANGE = (0.0, 1.0), (-1.0, 1.0)
"""Bounds of a share, and of the difference of two."""


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A metric: sums of columns by their weights, over the sum of another column; its interval is cut at `bounds`."""

    columns: Mapping[str, float]
    over: str
    bounds: tuple[float, float] = (-np.inf, np.inf)


def ratio_metrics(
    frame: pd.DataFrame, ratios: Mapping[str, Ratio], cluster: str, resamples: int, seed: tuple[int, ...]
) -> dict[str, dict[str, float | None]]:
    """Every metric of the rows as {value, low, high}, by resampling what has the same value of the column `cluster`.

    None where a metric is not defined, and for the interval of a single cluster.
    """
    columns = sorted({name for ratio in ratios.values() for name in (*ratio.columns, ratio.over)})
    sums_RC = frame.groupby(cluster, sort=True)[columns].sum().to_numpy(np.float64)
    weight_MC = np.array([[ratio.columns.get(name, 0.0) for name in columns] for ratio in ratios.values()])
    over_M = np.array([columns.index(ratio.over) for ratio in ratios.values()])

    def of_sums(sums_CK: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weight_MC @ sums_CK) / sums_CK[over_M]

    point_M = of_sums(sums_RC.sum(axis=0)[:, None])[:, 0]
    count = len(sums_RC)
    drawn_MK = resampled(lambda weight_RK: {"": of_sums(sums_RC.T @ weight_RK)}, count, resamples, seed)[""]
    found = {
        name: with_interval(point, drawn_K, *ratio.bounds)
        for (name, ratio), point, drawn_K in zip(ratios.items(), point_M, drawn_MK, strict=True)
    }
    return found if count > 1 else {name: metric | {"low": None, "high": None} for name, metric in found.items()}


def annotator_metrics(
    frame: pd.DataFrame, ratios: Mapping[str, Ratio], units: str, resamples: int, seed: tuple[int, ...]
) -> dict[str, Any]:
    """`n` (rows, annotators, units: the sum of the column `units`) and the metrics, by resampling `annotator`."""
    n = {"rows": len(frame), "annotators": frame["annotator"].nunique(), "units": int(frame[units].sum())}
    return {"n": n, **ratio_metrics(frame, ratios, "annotator", resamples, seed)}
