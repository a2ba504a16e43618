"""The objective choice: the model's distribution over the option letters against how people answered.

Shapes: B rows, S supervised positions (1), O options.
"""

from typing import Any

import jax
import jax.numpy as jnp

from cuma_jax.config import Config
from cuma_jax.losses.balance import router_sums
from cuma_jax.losses.choice import choice_sums
from cuma_jax.losses.sums import BatchSums
from cuma_jax.run.forward import Model, apply, hidden
from cuma_jax.run.objective import Objective, Shapes, register

Tree = Any


class Choice(Objective):
    """Cross-entropy, or squared distance of cumulative distributions (`objective.loss`), over the letters alone."""

    name = "choice"
    reads_vocabulary = False

    def sums(self, config: Config, model: Model, batch: dict[str, jax.Array], key: jax.Array | None) -> BatchSums:
        """See `losses.choice.choice_sums`; `batch` is of `data.batches.Batcher`."""
        h_BSD, stats = hidden(model, batch, key)
        logits_BO = apply(model.decoder, "option_logits", model.variables, h_BSD[:, 0], batch["option_ids"])
        sums = choice_sums(logits_BO, batch["options"], batch["target"], batch["weight"], config.objective.loss)
        return BatchSums(sums, router_sums(stats), jnp.sum(batch["lengths"]))

    def batch_shapes(self, config: Config, positions: int, options: int) -> Shapes:
        """The letters' tokens and the answers."""
        return {
            "option_ids": ("int32", (options,)),
            "options": ("int32", ()),
            "target": ("float32", (options,)),
        }


register(Choice())
