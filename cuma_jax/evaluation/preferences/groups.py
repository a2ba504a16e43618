"""The people behind scored rows, and metrics of the groups that they fall into by `evaluation.group_by`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.config import EvaluationConfig
from cuma_jax.evaluation.metrics.ratios import Ratio, annotator_metrics
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.surveys.groups import MISSING
from cuma_jax.surveys.survey import Survey


def group_columns(source: Survey | Preferences, person_N: np.ndarray, fields: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The value of each field for each row's person; `person_N`: row of `respondents`."""
    columns = {field: source.respondents[field].astype("object") for field in fields}
    return {field: column.where(column.notna(), MISSING).to_numpy()[person_N] for field, column in columns.items()}


def add_people(
    frame: pd.DataFrame, source: Survey | Preferences, person_N: np.ndarray, fields: tuple[str, ...]
) -> pd.DataFrame:
    """The frame with the column `annotator` and those of `group_columns`."""
    people = source.respondents["respondent_id"].to_numpy()[person_N]
    return frame.assign(annotator=people, **group_columns(source, person_N, fields))


def of_groups(
    frame: pd.DataFrame, fields: Sequence[str], min_cell: int, metrics: Callable[[pd.DataFrame], dict[str, Any]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Field -> value -> metrics of its rows, of every value of these columns that has at least `min_cell` rows."""
    return {
        field: {str(value): metrics(part) for value, part in frame.groupby(field, sort=True) if len(part) >= min_cell}
        for field in fields
    }


def metrics_with_groups(
    frame: pd.DataFrame, ratios: Mapping[str, Ratio], units: str, config: EvaluationConfig, number: int
) -> dict[str, Any]:
    """The metrics of a split, and in `groups` those of each value of each `evaluation.group_by` field that has at least
    `evaluation.min_cell` rows. The frame is from `add_people`; `number`, of the split, is for the draws.
    """

    def metrics(part: pd.DataFrame) -> dict[str, Any]:
        return annotator_metrics(part, ratios, units, config.bootstrap, (config.seed, number))

    return metrics(frame) | {"groups": of_groups(frame, config.group_by, config.min_cell, metrics)}
