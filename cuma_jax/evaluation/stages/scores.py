"""The stages of a chain on the same held-out people: does each serve them better than the one before?

Of a survey every answer is compared with what a stage predicts for that person; of preference data every pair of
replies with how likely a stage finds them. Intervals are 95%, by resampling people; differences are paired.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cuma_jax.evaluation.stages.answers import ALIKE, ANSWER_FIGURES, scored_answers
from cuma_jax.evaluation.stages.metrics import StageFigure, stage_figures
from cuma_jax.evaluation.stages.pairs import PAIR_FIGURES, scored_pairs
from cuma_jax.run.run import Run
from cuma_jax.surveys.survey import Survey

BASE = "base"
"""The row of the model before training."""


@dataclasses.dataclass(frozen=True)
class StageScores:
    """Scores of the stages of a chain.

    Attributes:
        figures: what stages are compared by; the first one decides the headline.
        what: what the rows are, in the plural: answers or pairs.
        values: plain JSON values: `splits[split]` is what `stage_figures` returns.
        frames: by split, one row an answer or pair.
    """

    figures: Mapping[str, StageFigure]
    what: str
    values: dict[str, Any]
    frames: Mapping[str, pd.DataFrame]

    @property
    def first(self) -> tuple[str, StageFigure]:
        """The figure that decides, and its name."""
        return next(iter(self.figures.items()))


def score_stages(run: Run, stages: Mapping[str, Any]) -> StageScores:
    """Scores adapters on the splits of `evaluation.splits`; all processes call this.

    Args:
        run: of any of the stages.
        stages: name -> adapters, on the devices, first to last.
    """
    config = run.config.evaluation
    models = {BASE: run.identity_adapters(run.config.train.seed), **stages}
    if isinstance(run.source, Survey):
        figures, what, names = ANSWER_FIGURES, "answers", [ALIKE, *models]
        frames = scored_answers(run, models, config.splits)
    else:
        figures, what, names = PAIR_FIGURES, "pairs", list(models)
        frames = scored_pairs(run, models, config.splits)
    splits = {
        split: stage_figures(frame, names, list(stages), figures, config.bootstrap, (config.seed, 11))
        for split, frame in frames.items()
    }
    return StageScores(figures, what, {"rows": what, "splits": splits}, frames)


def stages_table(scores: StageScores) -> str:
    """A plain-text table for the terminal."""
    key, first = scores.first
    less_or_more = "less" if first.less_is_better else "more"
    header = ["split", "stage", f"{first.title.lower()} [95%]", f"{less_or_more} than before by"]
    header += [f"{figure.title.lower()} [95%]" for name, figure in scores.figures.items() if name != key]
    rows: list[list[str]] = []
    for split, block in scores.values["splits"].items():
        for number, (name, figures) in enumerate(block["stages"].items()):
            change = "" if "change" not in figures else change_text(figures["change"][key], first)
            others = [_text(figures[f], figure.digits) for f, figure in scores.figures.items() if f != key]
            rows.append(["" if number else split, name, _text(figures[key], first.digits), change, *others])
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [header, *rows]]
    lines.insert(1, "  ".join("-" * w for w in widths))
    counts = "; ".join(
        f"{split}: {block['rows']:,} {scores.what} of {block['people']:,} people"
        for split, block in scores.values["splits"].items()
    )
    about = [f"{figure.title.lower()}: {figure.about}" for figure in scores.figures.values()]
    if first.less_is_better:
        about[0] += "; 0 is best. It is proper: neither the likeliest answer nor a flat guess wins"
    return "\n".join([*lines, "", counts, *about])


def change_text(change: Mapping[str, float | None], figure: StageFigure) -> str:
    """A change for the better as a positive number, with its interval."""
    value, low, high = change["value"], change["low"], change["high"]
    if figure.less_is_better:
        value, low, high = (None if x is None else -x for x in (value, high, low))
    return _text({"value": value, "low": low, "high": high}, figure.digits, "+")


def _text(figure: Mapping[str, float | None], digits: int, sign: str = "") -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return "not defined"
    if low is None or high is None:
        return f"{value:{sign}.{digits}f}"
    return f"{value:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
