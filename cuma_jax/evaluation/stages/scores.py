"""The stages of a chain on the same held-out people: does each serve them better than the one before?

Of a survey every answer is compared with what a stage predicts for that person; of preference data every pair of
replies with how likely a stage finds them. Intervals are 95%, by resampling people; differences are paired.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cuma_jax.evaluation.stages.answers import ANSWER_METRICS, POOLED, POOLED_TITLE, scored_answers
from cuma_jax.evaluation.stages.metrics import StageMetric, stage_metrics
from cuma_jax.evaluation.stages.pairs import PAIR_METRICS, scored_pairs
from cuma_jax.run.run import Run
from cuma_jax.runtime.text_table import interval_text, text_table
from cuma_jax.surveys.survey import Survey

BASE = "base"
"""The row of the model before training."""


@dataclasses.dataclass(frozen=True)
class StageScores:
    """Scores of the stages of a chain: by split, `frames` with one row an answer or pair (`what`, in the plural), and
    plain JSON values, whose `splits[split]` is what `stage_metrics` returns.
    """

    metrics: Mapping[str, StageMetric]
    what: str
    values: dict[str, Any]
    frames: Mapping[str, pd.DataFrame]

    @property
    def first(self) -> tuple[str, StageMetric]:
        """The metric that decides, and its name."""
        return next(iter(self.metrics.items()))


def score_stages(run: Run, stages: Mapping[str, Any]) -> StageScores:
    """Scores stages (name -> adapters, on the devices, first to last) on the splits of `evaluation.splits`.

    `run` is that of any of them. All processes call this.
    """
    config = run.config.evaluation
    models = {BASE: run.identity_adapters(run.config.train.seed), **stages}
    if isinstance(run.source, Survey):
        metrics, what, names = ANSWER_METRICS, "answers", [POOLED, *models]
        frames = scored_answers(run, models, config.splits)
    else:
        metrics, what, names = PAIR_METRICS, "pairs", list(models)
        frames = scored_pairs(run, models, config.splits)
    splits = {
        split: stage_metrics(frame, names, list(stages), metrics, config.bootstrap, (config.seed, 11))
        for split, frame in frames.items()
    }
    return StageScores(metrics, what, {"rows": what, "splits": splits}, frames)


def stages_table(scores: StageScores) -> str:
    """A plain-text table for the terminal."""
    key, first = scores.first
    others = {name: metric for name, metric in scores.metrics.items() if name != key}
    header = ["split", "stage", f"{first.title.lower()} [95%]"]
    header += [f"{'less' if first.less_is_better else 'more'} than before by"]
    header += [f"{metric.title.lower()} [95%]" for metric in others.values()]
    rows: list[list[str]] = []
    for split, block in scores.values["splits"].items():
        for number, (name, found) in enumerate(block["stages"].items()):
            change = change_text(found["change"][key], first) if "change" in found else ""
            shown = [_text(found[other], metric) for other, metric in others.items()]
            rows.append(["" if number else split, title_of(name), _text(found[key], first), change, *shown])
    counts = "; ".join(
        f"{split}: {block['rows']:,} {scores.what} of {block['people']:,} people"
        for split, block in scores.values["splits"].items()
    )
    about = [f"{metric.title.lower()}: {metric.about}" for metric in scores.metrics.values()]
    if first.less_is_better:
        about[0] += "; 0 is best. It is proper: neither the likeliest answer nor a flat guess wins"
    if scores.what == "answers":
        about.append(f"{POOLED_TITLE}: the distribution of all training answers, the same for all people")
    return text_table(header, rows, notes=[counts, *about])


def title_of(stage: str) -> str:
    """What tables and pages call a row of `StageScores.values`."""
    return POOLED_TITLE if stage == POOLED else stage


def change_text(change: Mapping[str, float | None], metric: StageMetric) -> str:
    """A change for the better as a positive number, with its interval."""
    value, low, high = change["value"], change["low"], change["high"]
    if metric.less_is_better:
        value, low, high = (None if x is None else -x for x in (value, high, low))
    return _text({"value": value, "low": low, "high": high}, metric, "+")


def _text(found: Mapping[str, float | None], metric: StageMetric, sign: str = "") -> str:
    return interval_text(found, f"{{:{sign}.{metric.digits}f}}", undefined="not defined")
