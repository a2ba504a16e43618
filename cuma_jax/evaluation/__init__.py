"""How close a model's predicted answer distributions come to the real ones."""

from cuma_jax.evaluation.results import Results, read_results, summary_table, write_results
from cuma_jax.evaluation.surveys.grouping import select_answers
from cuma_jax.evaluation.surveys.prediction import Predictions
from cuma_jax.evaluation.surveys.scores import evaluate

__all__ = [
    "Predictions",
    "Results",
    "evaluate",
    "read_results",
    "select_answers",
    "summary_table",
    "write_results",
]
