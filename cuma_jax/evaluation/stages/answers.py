"""The stages of a chain on a survey: every held-out answer against what a stage predicts for that person.

Shapes: A answers, N sampled answers, O options, Q questions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.evaluation.metrics.distances import energy_scores
from cuma_jax.evaluation.metrics.ratios import CHANGE, SHARE
from cuma_jax.evaluation.stages.metrics import StageMetric, column
from cuma_jax.evaluation.surveys.prediction import predict, prediction_step
from cuma_jax.evaluation.surveys.scores import survey_marginals
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
"""Of surveys; the first one decides the headline. energy: see `distances.energy_scores`. pair_accuracy: over all other
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

    `run` is that of any stage, `models` name -> adapters, on the devices.
    """
    step = prediction_step(run)  # one for all, so that it is compiled once
    survey, found = run.survey, dict[str, pd.DataFrame]()
    people = survey.respondents["respondent_id"].to_numpy()
    pooled_QO = survey_marginals(survey, run.mask("train"), np.zeros(len(people), np.int64), 1).pooled_QO
    sizes_Q = np.array([len(q.options) for q in survey.questions])
    ordered_Q = np.array([q.ordered for q in survey.questions])
    for split in splits:
        index_N = _sample(run, split)
        question_N, respondent_N, option_N = (
            x[index_N] for x in (survey.question_A, survey.respondent_A, survey.option_A)
        )
        options_N, ordered_N = sizes_Q[question_N], ordered_Q[question_N]
        frame = pd.DataFrame({
            "annotator": people[respondent_N], "question": [survey.questions[q].id for q in question_N], "answers": 1,
        })  # fmt: skip
        predicted = {POOLED: pooled_QO[question_N]}
        profile_N = run.profiles.profile_R[respondent_N]
        for name, adapters in models.items():
            title = f"predicting, {name}"
            predicted[name] = predict(run, adapters, profile_N, question_N, title, step).probs_NO
        for name, probs_NO in predicted.items():
            frame[column("energy", name)] = energy_scores(probs_NO, option_N, options_N, ordered_N)
            accuracy_N, margin_N = against_others(probs_NO, option_N, options_N)
            frame[column("pair_accuracy", name)], frame[column("margin", name)] = accuracy_N, margin_N
        found[split] = frame
    return found


def _sample(run: Run, split: str) -> np.ndarray:
    """At most `MOST_ANSWERS` answers of each question, drawn by the seed, int64 [N], in order."""
    rng = np.random.default_rng([run.config.evaluation.seed, 7])
    mask_A, question_A = run.mask(split), run.survey.question_A
    rows = [np.flatnonzero(mask_A & (question_A == q)) for q in range(len(run.survey.questions))]
    return np.sort(np.concatenate([rng.permutation(rows_N)[:MOST_ANSWERS] for rows_N in rows]))


def against_others(probs_NO: np.ndarray, option_N: np.ndarray, options_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The chosen option against the others of `options_N`: how often it is likelier (equals count half), and by how
    many nats on average; both float64 [N].
    """
    other_NO = np.arange(probs_NO.shape[1]) < options_N[:, None]
    other_NO[np.arange(len(option_N)), option_N] = False
    chosen_N1 = np.take_along_axis(probs_NO, option_N[:, None], axis=1)
    wins_NO = (chosen_N1 > probs_NO) + 0.5 * (chosen_N1 == probs_NO)
    log_NO = np.log(np.maximum(np.asarray(probs_NO, np.float64), _LEAST))
    gap_NO = np.take_along_axis(log_NO, option_N[:, None], axis=1) - log_NO
    count_N = options_N - 1
    return (wins_NO * other_NO).sum(1) / count_N, (gap_NO * other_NO).sum(1) / count_N
