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
from cuma_jax.run.forward import Model, hidden, option_logits
from cuma_jax.run.objective import Objective, Shapes, register

Tree = Any


class Choice(Objective):
    """Cross-entropy, or squared distance of cumulative distributions (`objective.loss`), over the letters alone."""

    name = "choice"
    reads_vocabulary = False

    def sums(self, config: Config, model: Model, batch: dict[str, jax.Array], key: jax.Array | None) -> BatchSums:
        """See `losses.choice.choice_sums`; `batch` is of `data.batches.Batcher`."""
        h_BSD, stats = hidden(model, batch, key)
        logits_BO = option_logits(model, h_BSD[:, 0], dropped_starts(batch, config.objective.start_dropout, key))
        target_BO = batch["target"] if key is None else prior_targets(batch)
        sums = choice_sums(logits_BO, batch["options"], target_BO, batch["weight"], config.objective.loss)
        return BatchSums(sums, router_sums(stats), jnp.sum(batch["lengths"]))

    def batch_shapes(self, config: Config, positions: int, options: int) -> Shapes:
        """The letters' tokens, the answers, and what predictions start from."""
        shapes: Shapes = {
            "option_ids": ("int32", (options,)),
            "options": ("int32", ()),
            "target": ("float32", (options,)),
        }
        if config.objective.start == "pooled":
            shapes |= {"offset": ("float32", (options,))}
        if config.objective.start_answers:
            shapes |= {"pooled": ("float32", (options,)), "prior": ("float32", ())}
        return shapes


def prior_targets(batch: dict[str, jax.Array]) -> jax.Array:
    """The targets of training rows [B,O]: their answers, and the pooled ones at the weight `prior`."""
    if "prior" not in batch:
        return batch["target"]
    prior_B1 = batch["prior"][:, None]
    return (1 - prior_B1) * batch["target"] + prior_B1 * batch["pooled"]


def dropped_starts(batch: dict[str, jax.Array], share: float, key: jax.Array | None) -> dict[str, jax.Array]:
    """The batch with `offset` at zero in a share of its rows, drawn by `key`; as it is where `key` is None."""
    if key is None or not share:
        return batch
    # Another key than that of the masks inside the model.
    keep_B = jax.random.bernoulli(jax.random.fold_in(key, 0x57A7), 1 - share, batch["weight"].shape)
    return batch | {"offset": jnp.where(keep_B[:, None], batch["offset"], 0.0)}


register(Choice())
