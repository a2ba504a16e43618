"""Whole conversations as rows: what the objective sft trains on.

Shapes: C conversations, N rows.
"""

import dataclasses

import numpy as np

from cuma_jax.config import Config
from cuma_jax.data.batches import Buckets
from cuma_jax.data.conversations import ConversationBatcher, ConversationTokens
from cuma_jax.data.pipeline import Batcher
from cuma_jax.data.sampling import conversation_masses, describe_sampling
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.run.forward import Tables
from cuma_jax.surveys.profiles import Profiles


@dataclasses.dataclass(frozen=True)
class ConversationLayout:
    """Whole conversations as rows.

    Attributes:
        tokens: of all conversations.
        tables: per bucket, what batches index into, on the devices.
    """

    config: Config
    source: Preferences
    profiles: Profiles
    tokens: ConversationTokens
    tables: dict[int, Tables]
    cached: bool = False
    by_question: bool = False

    @property
    def profile_C(self) -> np.ndarray:
        """int32 [C], row of the profile table of each conversation's person."""
        return self.profiles.profile_R[self.source.conversations["person"].to_numpy()]

    def batcher(self, index_N: np.ndarray, packing: bool) -> ConversationBatcher:
        """Gathers conversations `index_N` into batches."""
        mass_C = conversation_masses(self.source, self.config.data)
        return ConversationBatcher(
            self.tokens, index_N, self.profile_C, mass_C, Buckets(self.config.data.buckets), packing
        )

    def training_rows(self, mask_C: np.ndarray) -> ConversationBatcher:
        """The conversations that `mask_C` (bool [C]) selects."""
        return self.batcher(np.flatnonzero(mask_C), self.config.data.packing)

    def describe(self, batcher: Batcher, drawn: int) -> list[str]:
        """What training sees of its rows, as lines to print; `drawn` rows in all."""
        assert isinstance(batcher, ConversationBatcher)
        lines = [describe_sampling(batcher.mass_N, drawn, order=self.config.data.order)]
        if batcher.packing:
            lines.append(f"  {sum(map(len, batcher.rows)):,} conversations packed into these rows")
        return lines + [f"{reason}: {count:,} conversations" for reason, count in self.tokens.notes.items()]
