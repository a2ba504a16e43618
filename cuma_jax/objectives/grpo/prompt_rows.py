"""Prompts as rows: what the objective grpo trains on."""

import dataclasses

import numpy as np

from cuma_jax.config import Config
from cuma_jax.data.batches import Buckets
from cuma_jax.data.conversations import ConversationTokens
from cuma_jax.data.pipeline import Batcher
from cuma_jax.data.prompts import ConversationPrompts, Prompts, SurveyPrompts, check_prompts
from cuma_jax.data.sampling import answer_rows, cell_rows, conversation_masses, describe_sampling
from cuma_jax.data.survey_tokens import SurveyTokens
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.run.forward import Tables
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey


@dataclasses.dataclass(frozen=True)
class PromptLayout:
    """Prompts as rows.

    Attributes:
        tokens: of a survey, the pieces of the objective choice; of conversations, their tokens.
        tables: per bucket, what batches index into, on the devices.
        left_out: answers whose rows are too long, by reason; they are in no split.
        cached: no hidden states are kept: replies go through every layer.
    """

    config: Config
    source: Survey | Preferences
    profiles: Profiles
    tokens: SurveyTokens | ConversationTokens
    tables: dict[int, Tables]
    left_out: dict[str, int]
    cached: bool = False
    by_question: bool = False

    def training_rows(self, mask_N: np.ndarray) -> Prompts:
        """The prompts of the answers or conversations that `mask_N` selects.

        Raises:
            CumaError: there is none, or one is too long.
        """
        data, buckets = self.config.data, Buckets(self.config.data.buckets)
        found: Prompts
        if isinstance(self.source, Survey):
            assert isinstance(self.tokens, SurveyTokens)
            build = cell_rows if self.config.objective.aggregate == "cell" else answer_rows
            rows = build(self.source, self.profiles, mask_N, data)
            found = SurveyPrompts(rows, self.tokens, self.source.questions, buckets, data.max_length)
        else:
            assert isinstance(self.tokens, ConversationTokens)
            profile_C = self.profiles.profile_R[self.source.conversations["person"].to_numpy()]
            mass_C = conversation_masses(self.source, data)
            index_M = np.flatnonzero(mask_N)
            found = ConversationPrompts(self.source, self.tokens, index_M, profile_C, mass_C, buckets)
        check_prompts(found, self.config.grpo.samples)
        return found

    def describe(self, batcher: Batcher, drawn: int) -> list[str]:
        """What training sees of its prompts, as lines to print; `drawn` prompts in all."""
        names = [question.id for question in self.source.questions] if isinstance(self.source, Survey) else []
        lines = [describe_sampling(batcher.mass_N, drawn, batcher.question_N, names, self.config.data.order)]
        lines += [f"left out: {count:,} answers to {reason}" for reason, count in self.left_out.items()]
        if isinstance(self.tokens, ConversationTokens):
            lines += [f"{reason}: {count:,} conversations" for reason, count in self.tokens.notes.items()]
        return lines
