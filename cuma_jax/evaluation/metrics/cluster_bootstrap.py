"""Figures of rows that people gave several of: ratios of sums, with 95% intervals by resampling annotators.

Shapes: R annotators, K resamples, M figures, C columns.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.config import EvaluationConfig
from cuma_jax.evaluation.metrics.bootstrap import centred_interval, resample_weights
from cuma_jax.evaluation.surveys.grouping import MISSING
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.survey import Survey, other_fields

SHARE, CHANGE = (0.0, 1.0), (-1.0, 1.0)
"""Bounds of a share, and of the difference of two."""
_CHUNK = 100


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A figure: weighted sums of columns over the sum of another column.

    Attributes:
        columns: weight of each column.
        over: the column of units.
        bounds: what it can be; its interval is cut there.
    """

    columns: Mapping[str, float]
    over: str
    bounds: tuple[float, float] = (-np.inf, np.inf)


def check_groups(source: Survey | Preferences, fields: tuple[str, ...]) -> None:
    """Checks `evaluation.group_by` before anything is scored.

    Raises:
        CumaError: a field that the data do not have.
    """
    for field in fields:
        if field not in source.respondents:
            raise CumaError(
                f"config field evaluation.group_by names {field!r}, which {source.name!r} does not have; it has "
                f"{', '.join((*source.profile_fields, *other_fields(source)))}"
            )


def add_people(
    frame: pd.DataFrame, source: Survey | Preferences, person_N: np.ndarray, fields: tuple[str, ...]
) -> pd.DataFrame:
    """The frame with the column `annotator` and the groups' fields; `person_N`: row of `respondents` of each row."""
    frame = frame.assign(annotator=source.respondents["respondent_id"].to_numpy()[person_N])
    for field in fields:
        column = source.respondents[field].astype("object")
        frame[field] = column.where(column.notna(), MISSING).to_numpy()[person_N]
    return frame


def figures_with_groups(
    frame: pd.DataFrame, ratios: Mapping[str, Ratio], units: str, config: EvaluationConfig, number: int
) -> dict[str, Any]:
    """The figures of a split, and in `groups` those of each value of each `evaluation.group_by` field that has at least
    `evaluation.min_cell` rows.

    Args:
        frame: one row a scored row, from `add_people`.
        ratios: the figures.
        units: the column whose sum is `n.units`.
        config: the evaluation section.
        number: of the split, for the draws.
    """
    seed = (config.seed, number)
    return annotator_figures(frame, ratios, units, config.bootstrap, seed) | {
        "groups": {
            field: {
                str(value): annotator_figures(part, ratios, units, config.bootstrap, seed)
                for value, part in frame.groupby(field, sort=True)
                if len(part) >= config.min_cell
            }
            for field in config.group_by
        }
    }


def annotator_figures(
    frame: pd.DataFrame, ratios: Mapping[str, Ratio], units: str, resamples: int, seed: tuple[int, ...]
) -> dict[str, Any]:
    """`n` (rows, annotators, units) and every figure as {value, low, high}; None where it is not defined."""
    columns = sorted({name for ratio in ratios.values() for name in (*ratio.columns, ratio.over)})
    sums_RC = frame.groupby("annotator", sort=True)[columns].sum().to_numpy(np.float64)
    weight_MC = np.array([[ratio.columns.get(name, 0.0) for name in columns] for ratio in ratios.values()])
    over_M = np.array([columns.index(ratio.over) for ratio in ratios.values()])

    def of_sums(sums_CK: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weight_MC @ sums_CK) / sums_CK[over_M]

    point_M = of_sums(sums_RC.sum(axis=0)[:, None])[:, 0]
    chunks = [of_sums(sums_RC.T @ weight_RK) for weight_RK in resample_weights(len(sums_RC), resamples, seed, _CHUNK)]
    low_M, high_M = centred_interval(point_M, np.concatenate(chunks, axis=1) if chunks else np.zeros((len(point_M), 0)))
    bounds_M2 = np.array([ratio.bounds for ratio in ratios.values()])
    low_M, high_M = np.clip(low_M, *bounds_M2.T), np.clip(high_M, *bounds_M2.T)
    known = len(sums_RC) > 1

    def plain(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    figures = {
        name: {"value": plain(value), "low": plain(low) if known else None, "high": plain(high) if known else None}
        for name, value, low, high in zip(ratios, point_M, low_M, high_M, strict=True)
    }
    return {"n": {"rows": len(frame), "annotators": len(sums_RC), "units": int(frame[units].sum())}, **figures}
