"""What objectives have in common whose loss is of replies that people gave: one compiled program a step."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

from cuma_jax.config import Config
from cuma_jax.data.pipeline import TrainBatches
from cuma_jax.run.forward import Tables
from cuma_jax.run.layouts import Layout, SurveyLayout
from cuma_jax.run.objective import Conversations, Steps
from cuma_jax.run.run import Run
from cuma_jax.training.step import SupervisedSteps, UpdateRule

Tree = Any


class Supervised:
    """The parts of an `Objective` that choice, sft and dpo share; a new one overrides what it does otherwise."""

    name: str
    answer_tokens: Literal["choice", "sft"] = "choice"
    scores_pairs = False
    pairs_replies = False
    learns_answers = True
    reads_vocabulary = True
    rows_name = "train.batch_size"

    def check_surroundings(self, config: Config, cache: str) -> None:
        """Nothing lies outside."""

    def rows_per_step(self, config: Config) -> int:
        """`train.batch_size`."""
        return config.train.batch_size

    def updates_per_step(self, config: Config) -> int:
        """One."""
        return 1

    def survey_rows(self, layouts: Mapping[str, SurveyLayout]) -> Layout:
        """Cells or answers, one a row."""
        return layouts[self.answer_tokens]

    def conversation_tokens(self, data: Conversations) -> Any:
        """None: the config's rules let no conversations through."""
        raise NotImplementedError(f"objective {self.name} has no rows of conversations")

    def conversation_rows(self, data: Conversations, tokens: Any, tables: dict[int, Tables]) -> Layout:
        """See `conversation_tokens`."""
        raise NotImplementedError(f"objective {self.name} has no rows of conversations")

    def prepare(self, run: Run, folder: pathlib.Path) -> Run:
        """The run as it is."""
        return run

    def record(self, run: Run, folder: pathlib.Path) -> None:
        """Nothing."""

    def completer(self, run: Run) -> Callable[[Tables, Tree], Tree]:
        """Batches lack nothing."""
        return lambda tables, batch: batch

    def steps(self, run: Run, batches: TrainBatches, rule: UpdateRule) -> Steps:
        """One compiled step for each bucket, and one of validation."""
        return SupervisedSteps(run, rule)
