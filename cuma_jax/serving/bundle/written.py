"""The bundle at the end of training or evaluation: made of the run as it is in memory."""

import datetime
import pathlib
from typing import Any

import jax
import numpy as np
import pandas as pd

from cuma_jax.data.load import RunData
from cuma_jax.evaluation.results import Results
from cuma_jax.evaluation.surveys.prediction import Predictions
from cuma_jax.run.run import Run
from cuma_jax.run.trained import CheckpointInfo
from cuma_jax.serving.bundle.contents import TRAIN, contents_of
from cuma_jax.serving.bundle.files import results_values, write_bundle


def save_bundle(
    run: Run, folder: pathlib.Path, results: Results | None = None, scored: CheckpointInfo | None = None
) -> None:
    """Writes the bundle of a run's folder. All processes may call this; the first one writes.

    Args:
        results: of the evaluation that was just made; None: there was none.
        scored: which checkpoint it was of.
    """
    if jax.process_index() != 0:
        return
    train_P = np.zeros(len(run.profiles), bool)
    train_P[run.profiles.profile_R[run.units.person_N[run.split_N == TRAIN]]] = True
    data = RunData(run.source, run.units, run.profiles, run.split_N, train_P)
    shots = run.prediction.tokens.shots if run.prediction is not None else None
    predictions = results.predictions if results is not None else None
    about: dict[str, Any] = {
        "base": {
            "source": run.config.model.source,
            "revision": run.config.model.revision,
            "fingerprint": run.fingerprint,
            "dtype": str(np.dtype(run.decoder.dtype)),
        },
        "created": datetime.date.today().isoformat(),
    }
    if scored is not None:
        about |= {"steps": scored.steps, "latest_step": scored.latest}
        about |= {"predicted_checkpoint": scored.checkpoint} if predictions is not None else {}
    values = results.values if results is not None else results_values(folder)
    made = contents_of(
        run.config,
        data,
        values,
        lambda: run.table,
        results.logistic if results is not None else None,
        lambda: shots,
        None if predictions is None else prediction_table(predictions, [len(q.options) for q in run.survey.questions]),
        about,
    )
    write_bundle(folder, made)


def prediction_table(predictions: Predictions, sizes: list[int]) -> pd.DataFrame:
    """Predictions as a table: columns order (of the options), question and profile (numbers), share (a list)."""
    sizes_N = np.asarray(sizes)[predictions.question_N]
    parts = [
        pd.DataFrame({
            "order": np.int8(order),
            "question": predictions.question_N.astype(np.int32),
            "profile": predictions.profile_N.astype(np.int32),
            "share": [row[:size] for row, size in zip(probs_NO.astype(np.float32), sizes_N, strict=True)],
        })
        for order, probs_NO in enumerate(predictions.by_order)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)
