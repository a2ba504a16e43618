"""The objective grpo: what it needs and how its parts go together."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from cuma_jax.config import Config
from cuma_jax.data.conversations import ConversationTokens
from cuma_jax.data.pipeline import TrainBatches
from cuma_jax.data.tokenise import Conversations, conversation_tokens
from cuma_jax.losses.sums import BatchSums
from cuma_jax.objectives.grpo.policy import reply_sums
from cuma_jax.objectives.grpo.prompt_rows import PromptLayout
from cuma_jax.objectives.grpo.steps import GrpoSteps
from cuma_jax.objectives.reference import ReferencePolicy, reference_of
from cuma_jax.rewards.total import check_parts
from cuma_jax.run.forward import Model, Tables
from cuma_jax.run.layouts import SurveyLayout, plain_tables
from cuma_jax.run.objective import Objective, register
from cuma_jax.run.run import Run
from cuma_jax.training.step import UpdateRule

Tree = Any


class Grpo(Objective):
    """Group-relative policy optimisation (sections `grpo`, `sampling`, `reward`). Rows are prompts."""

    name = "grpo"
    scores_pairs = True
    learns_answers = False
    rows_name = "train.batch_size / grpo.samples (prompts per step)"

    def check_surroundings(self, config: Config, cache: str) -> None:
        """The reward's function is imported, its judge asked once."""
        check_parts(config, cache)

    def rows_per_step(self, config: Config) -> int:
        """Prompts: each has `grpo.samples` of the step's `train.batch_size` replies."""
        return config.train.batch_size // config.grpo.samples

    def updates_per_step(self, config: Config) -> int:
        """`grpo.updates`."""
        return config.grpo.updates

    def survey_rows(self, layouts: Mapping[str, SurveyLayout]) -> PromptLayout:
        """Prompts as those of choices, which end before the answer. No hidden states are kept for them."""
        answers = layouts["choice"]
        vectors_PM = next(iter(answers.tables.values())).profile_PC
        tables = plain_tables(answers.config, vectors_PM)
        return PromptLayout(answers.config, answers.survey, answers.profiles, answers.tokens, tables, answers.left_out)

    def conversation_tokens(self, data: Conversations) -> ConversationTokens:
        """Of whole conversations."""
        return conversation_tokens(data)

    def conversation_rows(
        self, data: Conversations, tokens: ConversationTokens, tables: dict[int, Tables]
    ) -> PromptLayout:
        """The opening prompts of conversations."""
        return PromptLayout(data.config, data.source, data.profiles, tokens, tables, {})

    def sums(self, config: Config, model: Model, batch: dict[str, jax.Array], key: jax.Array | None) -> BatchSums:
        """Of replies that are laid out for an update; see `grpo.policy.reply_sums`."""
        return reply_sums(config, model, batch, key)

    def reference(self, run: Run) -> ReferencePolicy | None:
        """What the policy is held to; None where `grpo.kl` is 0."""
        return reference_of(run) if run.config.grpo.kl else None

    def prepare(self, run: Run, folder: pathlib.Path) -> Run:
        """The run as it is, its reference checked."""
        if (reference := self.reference(run)) is not None:
            reference.check(folder)
        return run

    def record(self, run: Run, folder: pathlib.Path) -> None:
        """Which reference it is."""
        if (reference := self.reference(run)) is not None:
            reference.save(folder)

    def steps(self, run: Run, batches: TrainBatches, rule: UpdateRule) -> GrpoSteps:
        """Sampling, rewards and updates."""
        return GrpoSteps(run, batches, rule, self.reference(run))


register(Grpo())
