"""The stages of a chain on preference data: held-out pairs of replies, the same ones under every stage.

Shapes: N pairs.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cuma_jax.evaluation.metrics.cluster_bootstrap import CHANGE, SHARE
from cuma_jax.evaluation.preferences.pair_scores import PairRows, pair_layout
from cuma_jax.evaluation.stages.metrics import StageFigure, column
from cuma_jax.run.run import Run

PAIR_FIGURES = {
    "reward_accuracy": StageFigure(
        "Gained on the other", "the preferred reply became likelier than before training, beside the other", "pairs", 3,
        bounds=SHARE, change_bounds=CHANGE,
    ),
    "pair_accuracy": StageFigure(
        "Pair accuracy", "the preferred reply is the likelier one, its length included", "pairs", 3,
        bounds=SHARE, change_bounds=CHANGE,
    ),
    "choice_accuracy": StageFigure(
        "Choice accuracy", "the preferred reply has the highest log-probability a token of all candidates", "turns", 3,
        bounds=SHARE, change_bounds=CHANGE,
    ),
    "margin": StageFigure("Margin", "log-probability of the preferred reply less the other's, nats", "pairs", 2),
}  # fmt: skip
"""Of preference data; the first one decides the headline. `reward_accuracy` counts no change as half: the length of a
reply, which decides much of the other figures, cancels in it."""


def scored_pairs(run: Run, models: Mapping[str, Any], splits: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """By split, one row a pair: `annotator`, `pairs`, `turns`, and every figure of every model.

    Args:
        run: of any stage, on preference data.
        models: name -> adapters, on the devices; the first is the model before training.

    Raises:
        CumaError: a split without pairs.
    """
    layout, found = pair_layout(run), dict[str, pd.DataFrame]()
    people = run.source.respondents["respondent_id"].to_numpy()
    for split in splits:
        rows = PairRows(run, run.mask(split), layout)
        frame = rows.frame[["id", "pairs", "turns"]].assign(annotator=people[rows.frame["person"]])
        before_N = None
        for name, adapters in models.items():
            scored = rows.scores(adapters, f"scoring pairs of {split}, {name}")
            margin_N = scored["margin"]
            before_N = margin_N if before_N is None else before_N
            figures = {
                "reward_accuracy": (margin_N > before_N) + 0.5 * (margin_N == before_N),
                "pair_accuracy": scored["correct"],
                "choice_accuracy": scored["choice_correct"],
                "margin": margin_N,
            }
            frame = frame.assign(**{column(figure, name): values for figure, values in figures.items()})
        found[split] = frame
    return found
