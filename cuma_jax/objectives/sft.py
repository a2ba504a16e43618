"""The objective sft: cross-entropy on the tokens of people's answers, or of the responses that they preferred.

Shapes: B rows, S supervised positions, D model width, V vocabulary.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from cuma_jax.config import Config
from cuma_jax.data.conversations import ConversationTokens
from cuma_jax.data.tokenise import Conversations, conversation_tokens
from cuma_jax.losses.balance import router_sums
from cuma_jax.losses.sft import sft_sums
from cuma_jax.losses.sums import BatchSums
from cuma_jax.objectives.conversation_rows import ConversationLayout
from cuma_jax.run.forward import Model, Tables, apply, hidden, label_weights
from cuma_jax.run.objective import Objective, Shapes, register

Tree = Any


class Sft(Objective):
    """The answer's letter and the end of the turn, or every assistant turn of a conversation."""

    name = "sft"
    answer_tokens: Literal["choice", "sft"] = "sft"

    def conversation_tokens(self, data: Conversations) -> ConversationTokens:
        """Of whole conversations."""
        return conversation_tokens(data)

    def conversation_rows(
        self, data: Conversations, tokens: ConversationTokens, tables: dict[int, Tables]
    ) -> ConversationLayout:
        """One conversation a row, or several with `data.packing`."""
        return ConversationLayout(data.config, data.source, data.profiles, tokens, tables)

    def sums(self, config: Config, model: Model, batch: dict[str, jax.Array], key: jax.Array | None) -> BatchSums:
        """See `losses.sft.sft_sums`; `batch` is of `data.batches.Batcher` or `data.conversations`."""
        h_BSD, stats = hidden(model, batch, key)
        unembed_VD = apply(model.decoder, "unembedding", model.variables)
        sums = sft_sums(h_BSD, unembed_VD, batch["labels"], label_weights(batch))
        return BatchSums(sums, router_sums(stats), jnp.sum(batch["lengths"]))

    def batch_shapes(self, config: Config, positions: int, options: int) -> Shapes:
        """The labels; conversations have a weight for each of theirs."""
        shapes: Shapes = {"labels": ("int32", (positions,))}
        return shapes if config.reads_answers else shapes | {"label_weight": ("float32", (positions,))}


register(Sft())
