"""Evaluations without a model: the predictions are a function of the pairs."""

from cuma_jax.evaluation.surveys.grouping import select_answers
from cuma_jax.evaluation.surveys.prediction import Predictions
from cuma_jax.evaluation.surveys.scores import evaluate


def evaluate_guess(survey, profiles, split_A, guess, config, about=None):
    """The results of `guess(profile_N, question_N) -> probs_NO`."""
    selection = select_answers(survey, profiles, split_A, config)
    return evaluate(selection, Predictions(*selection.pairs, guess(*selection.pairs)), config, about)
