"""The stages of a chain on a survey: every held-out answer against what a stage predicts for that person.

Shapes: A answers, N sampled answers, O options, Q questions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.evaluation.metrics.baselines import fit_marginals
from cuma_jax.evaluation.metrics.energy import energy_scores
from cuma_jax.evaluation.metrics.ratios import CHANGE, SHARE
from cuma_jax.evaluation.stages.metrics import StageMetric, column
from cuma_jax.evaluation.surveys.prediction import predict, prediction_step
from cuma_jax.run.run import Run

ANSWER_METRICS = {
    "energy": StageMetric(
        "Energy score", "distance from what a person answered, on the scale of the options", "answers", 4,
        less_is_better=True,
    ),
    "pair_accuracy": StageMetric(
        "Pair accuracy", "a person's option is likelier than another option", "answers", 3,
        bounds=SHARE, change_bounds=CHANGE,
    ),
    "margin": StageMetric("Margin", "log-probability of a person's option less the others', nats", "answers", 2),
}  # fmt: skip
"""Of surveys; the first one decides the headline. energy: see `metrics.energy`. pair_accuracy: over all other
options, half for equals. margin: less the mean of the others'."""
POOLED = "everybody alike"
"""The row beside the stages, as stages.json names it: the pooled distribution of the training answers."""
POOLED_TITLE = "pooled"
"""As tables and pages name it."""
MOST_ANSWERS = 200
"""Answers of each question and split that are predicted by every stage, at most."""
_LEAST = 1e-6  # a probability below this counts as this much, so that one answer cannot make a margin infinite


def scored_answers(run: Run, models: Mapping[str, Any], splits: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """By split, one row an answer: `annotator`, `answers` (1), and every metric of every model and of `POOLED`.

    Args:
        run: of any stage, on a survey.
        models: name -> adapters, on the devices.
    """
    step = prediction_step(run)  # one for all, so that it is compiled once
    survey, pooled_QO, found = run.survey, _pooled(run), dict[str, pd.DataFrame]()
    people = survey.respondents["respondent_id"].to_numpy()
    for split in splits:
        index_N = _sample(run, split)
        question_N, respondent_N = survey.question_A[index_N], survey.respondent_A[index_N]
        frame = pd.DataFrame({
            "annotator": people[respondent_N], "question": [survey.questions[q].id for q in question_N], "answers": 1,
        })  # fmt: skip
        predicted = {POOLED: pooled_QO[question_N]}
        profile_N = run.profiles.profile_R[respondent_N]
        for name, adapters in models.items():
            title = f"predicting, {name}"
            predicted[name] = predict(run, adapters, profile_N, question_N, title, step).probs_NO
        for name, probs_NO in predicted.items():
            frame = frame.assign(**_scores(run, index_N, name, probs_NO))
        found[split] = frame
    return found


def _sample(run: Run, split: str) -> np.ndarray:
    """At most `MOST_ANSWERS` answers of each question, drawn by the seed, int64 [N], in order."""
    rng = np.random.default_rng([run.config.evaluation.seed, 7])
    question_A = run.survey.question_A
    found = []
    for question in range(len(run.survey.questions)):
        rows = np.flatnonzero(run.mask(split) & (question_A == question))
        found.append(rng.permutation(rows)[:MOST_ANSWERS])
    return np.sort(np.concatenate(found))


def _pooled(run: Run) -> np.ndarray:
    """Distribution of each question's training answers, [Q,O]; even where it has none."""
    survey, train_A = run.survey, run.mask("train")
    question_A, option_A = survey.question_A[train_A], survey.option_A[train_A]
    weight_A = survey.respondents["weight"].to_numpy(np.float64)[survey.respondent_A[train_A]]
    sizes_Q = np.array([len(q.options) for q in survey.questions])
    return fit_marginals(sizes_Q, 1, question_A, np.zeros_like(question_A), option_A, weight_A).pooled_QO


def _scores(run: Run, index_N: np.ndarray, stage: str, probs_NO: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of one stage."""
    survey = run.survey
    question_N, option_N = survey.question_A[index_N], survey.option_A[index_N]
    options_N = np.array([len(q.options) for q in survey.questions])[question_N]
    ordered_N = np.array([q.ordered for q in survey.questions])[question_N]
    accuracy_N, margin_N = against_others(probs_NO, option_N, options_N)
    return {
        column("energy", stage): energy_scores(probs_NO, option_N, options_N, ordered_N),
        column("pair_accuracy", stage): accuracy_N,
        column("margin", stage): margin_N,
    }


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
