"""How close a model's predicted answer distributions come to the real ones."""

from cuma_jax.evaluation.results import Results, read_results, summary_table, write_results
from cuma_jax.evaluation.surveys.scores import evaluate

__all__ = ["Results", "evaluate", "read_results", "summary_table", "write_results"]
