"""The stages of a chain on preference data: held-out pairs of replies, the same ones under every stage.

Shapes: P pairs.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cuma_jax.evaluation.metrics.ratios import CHANGE, SHARE
from cuma_jax.evaluation.preferences.pair_scores import pair_layout, score_pairs
from cuma_jax.evaluation.stages.metrics import StageMetric, column
from cuma_jax.run.run import Run

PAIR_METRICS = {
    "reward_accuracy": StageMetric(
        "Gained on the other", "the preferred reply became likelier than before training, beside the other", "pairs", 3,
        bounds=SHARE, change_bounds=CHANGE,
    ),
    "pair_accuracy": StageMetric(
        "Pair accuracy", "the preferred reply is the likelier one, its length included", "pairs", 3,
        bounds=SHARE, change_bounds=CHANGE,
    ),
    "choice_accuracy": StageMetric(
        "Choice accuracy", "the preferred reply has the highest log-probability a token of all candidates", "turns", 3,
        bounds=SHARE, change_bounds=CHANGE,
    ),
    "margin": StageMetric("Margin", "log-probability of the preferred reply less the other's, nats", "pairs", 2),
}  # fmt: skip
"""Of preference data; the first one decides the headline. `reward_accuracy` counts no change as half: the length of a
reply, which decides much of the other metrics, cancels in it."""


def scored_pairs(run: Run, models: Mapping[str, Any], splits: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """By split, one row a pair: `annotator`, `pairs`, `turns`, and every metric of every model.

    `run` is that of any stage, `models` name -> adapters, on the devices, the model before training first. A CumaError
    where a split has no pairs.
    """
    layout, found = pair_layout(run), dict[str, pd.DataFrame]()
    people = run.source.respondents["respondent_id"].to_numpy()
    for split in splits:
        frame, scores = score_pairs(run, models, run.mask(split), layout, f"scoring pairs of {split}")
        frame = frame[["id", "pairs", "turns"]].assign(annotator=people[frame["person"]])
        before_P = next(iter(scores.values()))["margin"]
        for name, scored in scores.items():
            margin_P = scored["margin"]
            frame[column("reward_accuracy", name)] = (margin_P > before_P) + 0.5 * (margin_P == before_P)
            frame[column("pair_accuracy", name)] = scored["correct"]
            frame[column("choice_accuracy", name)] = scored["choice_correct"]
            frame[column("margin", name)] = margin_P
        found[split] = frame
    return found
