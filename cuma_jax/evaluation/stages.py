"""The stages of a chain on the same held-out answers: does each serve people better than the one before?

Every answer is compared with the option distribution that a stage predicts for that person. Figures are means over
answers, with 95% intervals by resampling respondents; differences are paired.

Shapes: A answers, N sampled answers, O options, R respondents with some of them, K resamples.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.evaluation.bootstrap import centred_interval, resample_weights
from cuma_jax.evaluation.energy import energy_scores
from cuma_jax.evaluation.predict import Predictor
from cuma_jax.training.assembly import Assembly

FIGURES = ("energy", "pair_accuracy", "margin")
"""energy: energy score, smaller is nearer (`evaluation.energy`). pair_accuracy: how often the person's option is
likelier than another option of the question (half for equals), over all others. margin: its log-probability less the
mean of the others', nats."""
ALIKE, BASE = "everybody alike", "base"
"""Rows beside the stages: the training answers' distribution for everybody, and the model before training."""
MOST_ANSWERS = 200
"""Answers of each question and split that are predicted by every stage, at most."""
_CHUNK = 100
_LEAST = 1e-6  # a probability below this counts as this much, so that one answer cannot make a margin infinite


@dataclasses.dataclass(frozen=True)
class StageScores:
    """Scores of the stages of a chain.

    Attributes:
        values: plain JSON values: `splits[split]` has `answers`, `respondents` and `stages[name]`, each figure of
            FIGURES as {value, low, high}, and `change` (all but the first two rows): the figures less those of the row
            before.
        frame: one row a (split, stage, answer).
    """

    values: dict[str, Any]
    frame: pd.DataFrame


def score_stages(assembly: Assembly, stages: Mapping[str, Any]) -> StageScores:
    """Scores adapters on the splits of `evaluation.splits`; all processes call this.

    Args:
        assembly: of any of the stages, on a survey.
        stages: name -> adapters, on the devices, first to last.
    """
    config = assembly.config.evaluation
    models = {BASE: assembly.idle_adapters(assembly.config.train.seed), **stages}
    predictor = Predictor(assembly, None)  # one for all, so that it is compiled once
    pooled_QO = _pooled(assembly)
    splits: dict[str, Any] = {}
    frames: list[pd.DataFrame] = []
    for split in config.splits:
        index_N = _sample(assembly, split)
        question_N = assembly.survey.question_A[index_N]
        profile_N = assembly.profiles.profile_R[assembly.survey.respondent_A[index_N]]
        parts = [_scored(assembly, index_N, ALIKE, pooled_QO[question_N])]
        for name, predictor.adapters in models.items():
            parts.append(_scored(assembly, index_N, name, predictor(profile_N, question_N)))
        frame = pd.concat(parts, ignore_index=True)
        splits[split] = _figures(frame, [ALIKE, *models], config.bootstrap, config.seed)
        frames.append(frame.assign(split=split))
    return StageScores({"splits": splits}, pd.concat(frames, ignore_index=True))


def _sample(assembly: Assembly, split: str) -> np.ndarray:
    """At most `MOST_ANSWERS` answers of each question, drawn by the seed, int64 [N], in order."""
    rng = np.random.default_rng([assembly.config.evaluation.seed, 7])
    question_A = assembly.survey.question_A
    found = []
    for question in range(len(assembly.survey.questions)):
        rows = np.flatnonzero(assembly.mask(split) & (question_A == question))
        found.append(rng.permutation(rows)[:MOST_ANSWERS])
    return np.sort(np.concatenate(found))


def _pooled(assembly: Assembly) -> np.ndarray:
    """Distribution of each question's training answers, [Q,O]; even where it has none."""
    survey, train_A = assembly.survey, assembly.mask("train")
    sizes_Q = np.array([len(q.options) for q in survey.questions])
    count_QO = np.zeros((len(sizes_Q), sizes_Q.max()))
    weight_A = survey.respondents["weight"].to_numpy(np.float64)[survey.respondent_A]
    np.add.at(count_QO, (survey.question_A[train_A], survey.option_A[train_A]), weight_A[train_A])
    even_QO = (np.arange(sizes_Q.max()) < sizes_Q[:, None]) / sizes_Q[:, None]
    total_Q1 = count_QO.sum(1, keepdims=True)
    return np.where(total_Q1 > 0, count_QO / np.where(total_Q1 > 0, total_Q1, 1), even_QO)


def _scored(assembly: Assembly, index_N: np.ndarray, stage: str, probs_NO: np.ndarray) -> pd.DataFrame:
    survey = assembly.survey
    question_N, option_N = survey.question_A[index_N], survey.option_A[index_N]
    options_N = np.array([len(q.options) for q in survey.questions])[question_N]
    ordered_N = np.array([q.ordered for q in survey.questions])[question_N]
    accuracy_N, margin_N = against_others(probs_NO, option_N, options_N)
    return pd.DataFrame(
        {
            "stage": stage,
            "respondent": survey.respondent_A[index_N],
            "question": [survey.questions[q].id for q in question_N],
            "energy": energy_scores(probs_NO, option_N, options_N, ordered_N),
            "pair_accuracy": accuracy_N,
            "margin": margin_N,
        }
    )


def against_others(
    probs_NO: np.ndarray, option_N: np.ndarray, options_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The chosen option against every other one: how often it is likelier, and by how many nats on average.

    Args:
        probs_NO: distributions over the options, zero past each question's.
        option_N: what was chosen.
        options_N: how many options there are.

    Returns:
        Both float64 [N]; equal probabilities count half.
    """
    other_NO = np.arange(probs_NO.shape[1]) < options_N[:, None]
    other_NO[np.arange(len(option_N)), option_N] = False
    chosen_N1 = np.take_along_axis(probs_NO, option_N[:, None], axis=1)
    wins_NO = (chosen_N1 > probs_NO) + 0.5 * (chosen_N1 == probs_NO)
    log_NO = np.log(np.maximum(np.asarray(probs_NO, np.float64), _LEAST))
    gap_NO = np.take_along_axis(log_NO, option_N[:, None], axis=1) - log_NO
    count_N = options_N - 1
    return (wins_NO * other_NO).sum(1) / count_N, (gap_NO * other_NO).sum(1) / count_N


def _figures(frame: pd.DataFrame, names: list[str], resamples: int, seed: int) -> dict[str, Any]:
    """Means over answers and their intervals, and each stage less the row before."""
    respondents = np.unique(frame["respondent"])
    sums_SFR = np.stack(
        [
            frame[frame["stage"] == name].groupby("respondent", sort=True)[list(FIGURES)].sum().to_numpy().T
            for name in names
        ]
    )
    count_R = frame[frame["stage"] == names[0]].groupby("respondent", sort=True).size().to_numpy(np.float64)
    point_SF = sums_SFR.sum(-1) / count_R.sum()
    draws = [
        (sums_SFR @ weight_RK) / (count_R @ weight_RK)
        for weight_RK in resample_weights(len(respondents), resamples, (seed, 11), _CHUNK)
    ]
    drawn_SFK = np.concatenate(draws, axis=-1) if draws else np.zeros((*point_SF.shape, 0))
    low_SF, high_SF = centred_interval(point_SF, drawn_SFK)
    share = FIGURES.index("pair_accuracy")
    low_SF[:, share], high_SF[:, share] = low_SF[:, share].clip(0, 1), high_SF[:, share].clip(0, 1)
    change_SF = np.diff(point_SF, axis=0)
    change_low_SF, change_high_SF = centred_interval(change_SF, np.diff(drawn_SFK, axis=0))
    stages: dict[str, dict[str, Any]] = {}
    for s, name in enumerate(names):
        stages[name] = {f: _figure(point_SF[s, i], low_SF[s, i], high_SF[s, i]) for i, f in enumerate(FIGURES)}
        if s > 1:
            stages[name]["change"] = {
                f: _figure(change_SF[s - 1, i], change_low_SF[s - 1, i], change_high_SF[s - 1, i])
                for i, f in enumerate(FIGURES)
            }
    return {"answers": int(count_R.sum()), "respondents": len(respondents), "stages": stages}


def _figure(value: float, low: float, high: float) -> dict[str, float | None]:
    return {
        "value": float(value),
        "low": float(low) if np.isfinite(low) else None,
        "high": float(high) if np.isfinite(high) else None,
    }


def stages_table(scores: StageScores) -> str:
    """A plain-text table for the terminal."""
    header = [
        "split",
        "stage",
        "energy score [95%]",
        "less than before by",
        "pair accuracy [95%]",
        "margin, nats [95%]",
    ]
    rows: list[list[str]] = []
    for split, block in scores.values["splits"].items():
        for name, figures in block["stages"].items():
            change = "" if "change" not in figures else _text(figures["change"]["energy"], flip=True)
            rows.append(
                [
                    split if not rows or rows[-1][-1] != split else "", name, _text(figures["energy"]), change,
                    _text(figures["pair_accuracy"], 3), _text(figures["margin"], 2), split,
                ]
            )  # fmt: skip
    shown = [row[:-1] for row in rows]
    widths = [max(len(row[i]) for row in [header, *shown]) for i in range(len(header))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [header, *shown]]
    lines.insert(1, "  ".join("-" * w for w in widths))
    counts = "; ".join(
        f"{split}: {block['answers']:,} answers of {block['respondents']:,} respondents"
        for split, block in scores.values["splits"].items()
    )
    about = (
        "energy score: distance from what a person answered, on the scale of the options, 0 is best; proper, so "
        "neither the\nlikeliest answer nor a flat guess wins. pair accuracy: how often a person's option is likelier "
        "than another option."
    )
    return "\n".join([*lines, "", counts, about])


def _text(figure: dict[str, float | None], digits: int = 4, flip: bool = False) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    assert value is not None
    sign = "+" if flip else ""
    if flip:
        value, low, high = -value, None if high is None else -high, None if low is None else -low
    if low is None or high is None:
        return f"{value:{sign}.{digits}f}"
    return f"{value:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
