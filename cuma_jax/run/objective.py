"""What an objective is, and the one registry that finds it by name.

An objective says which rows are trained on, what the loss of a batch is, how a run is validated, and what it needs
besides. The classes stand in `cuma_jax.objectives`, one a module of the objective's name, and register themselves; what
an objective needs of a config is in `config.objective_rules`, which imports no jax.
"""

import importlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import jax

from cuma_jax.config import Config
from cuma_jax.data.batches import Batch
from cuma_jax.data.pipeline import TrainBatches
from cuma_jax.data.tokenise import Conversations
from cuma_jax.losses.sums import BatchSums
from cuma_jax.run.forward import Model, Tables
from cuma_jax.run.layouts import Layout, SurveyLayout

Tree = Any
Run = Any
"""`run.run.Run`, which has an objective."""
Shapes = dict[str, tuple[str, tuple[int, ...]]]


class Steps(Protocol):
    """The steps of a run that is trained, and their validation."""

    synchronous: bool
    """Whether a step has ended when it returns, because the host takes part in it."""

    def step(self, state: Any, bucket: int, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """One step on this process's part of a batch: the next `TrainState` and metrics. The old state's buffers are
        reused."""

    def validate(self, adapters: Tree) -> dict[str, float]:
        """Means over held-out rows, `loss` in nats among them; empty without any."""


class Objective:
    """What training minimises. What is here is right for a loss of replies that people gave; `sums` is its own."""

    name: str
    answer_tokens: Literal["choice", "sft"] = "choice"
    """How a survey's answers are rows: up to the option's letter, or with the letter and the end of the turn."""
    scores_pairs = False
    """Whether an evaluation also tells how often the preferred of two replies is the likelier one."""
    pairs_replies = False
    """Whether a row is a pair of replies; `Run.training` is then a `PairLayout`."""
    learns_answers = True
    """Whether `sums` is a loss of what people answered, so that gradients of groups can be compared."""
    reads_vocabulary = True
    """Whether the loss needs the logits of the whole vocabulary."""
    rows_name = "train.batch_size"
    """What `rows_per_step` is called in messages."""

    def __str__(self) -> str:
        return self.name

    def sums(self, config: Config, model: Model, batch: dict[str, jax.Array], key: jax.Array | None) -> BatchSums:
        """Loss and metrics of one (micro-)batch as sums; `key` is that of dropout, None without."""
        raise NotImplementedError(f"objective {self.name} has no loss")

    def batch_shapes(self, config: Config, positions: int, options: int) -> Shapes | None:
        """What a batch holds for the loss, as name -> (dtype, shape of a row), for `plan`; None where that cannot
        compile a step.

        Args:
            positions: supervised positions of a row.
            options: most options of a question.
        """
        return None

    def check_surroundings(self, config: Config, cache: str) -> None:
        """Checks what lies outside of config and data, before any long work.

        Raises:
            CumaError: what cannot be had.
        """

    def rows_per_step(self, config: Config) -> int:
        """Rows drawn for a step, over all processes."""
        return config.train.batch_size

    def updates_per_step(self, config: Config) -> int:
        """Optimiser updates of a step."""
        return 1

    def survey_rows(self, layouts: Mapping[str, SurveyLayout]) -> Layout:
        """The rows of a survey, from its answers laid out by form (`answer_tokens` and choice)."""
        return layouts[self.answer_tokens]

    def conversation_tokens(self, data: Conversations) -> Any:
        """The tokens of all rows of preference data; not asked of an objective whose rules let no conversations pass.

        Raises:
            CumaError: rows that cannot be tokenised, or none at all.
        """
        raise NotImplementedError(f"objective {self.name} has no rows of conversations")

    def conversation_rows(self, data: Conversations, tokens: Any, tables: dict[int, Tables]) -> Layout:
        """The rows of preference data; `tokens` are those of `conversation_tokens`."""
        raise NotImplementedError(f"objective {self.name} has no rows of conversations")

    def prepare(self, run: Run, folder: pathlib.Path) -> Run:
        """The run with all that its batches hold, before training starts or goes on in `folder`.

        Raises:
            CumaError: the folder's run was begun with something else.
        """
        return run

    def record(self, run: Run, folder: pathlib.Path) -> None:
        """Writes into the run's folder what `prepare` checks when the run goes on."""

    def completer(self, run: Run) -> Callable[[Tables, Tree], Tree]:
        """`complete(tables, batch)`: a batch on the devices with what it lacks for `sums`."""
        return lambda tables, batch: batch

    def steps(self, run: Run, batches: TrainBatches, rule: Any) -> Steps | None:
        """The run's steps, where they are more than one compiled program; None: `training.step.SupervisedSteps`.

        `rule` is a `training.step.UpdateRule`.
        """
        return None


_REGISTERED: dict[str, Objective] = {}


def register(new: Objective) -> None:
    """Makes an objective known by its name."""
    _REGISTERED[new.name] = new


def objective_of(config: Config) -> Objective:
    """The objective of a config."""
    name = config.objective.name
    if name not in _REGISTERED:
        importlib.import_module(f"cuma_jax.objectives.{name}")
    return _REGISTERED[name]
