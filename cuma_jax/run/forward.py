"""The one forward pass that training, validation and prediction share, and what is asked of it.

Shapes: B rows, T tokens, D model width, P profiles, C profile width, M templates, S positions, O options, L layers,
E experts.
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from cuma_jax.losses.choice import option_log_probs, option_mask
from cuma_jax.losses.linear_cross_entropy import linear_cross_entropy
from cuma_jax.models.attention import Segments
from cuma_jax.models.cached_decoder import last_positions
from cuma_jax.models.decoder import Decoder

Tree = Any


@flax.struct.dataclass
class Tables:
    """What batches index into.

    Attributes:
        profile_PC: profile vectors; None where no router sees them.
        hidden_MTD: hidden states below the first adapted layer, one row a template of the batch's bucket; None where
            batches hold tokens.
    """

    profile_PC: jax.Array | None = None
    hidden_MTD: jax.Array | None = None


class Model(NamedTuple):
    """What a batch is put to.

    Attributes:
        decoder: the module; with dropout on in training.
        base, adapters: its variables.
        tables: what the batch indexes into.
    """

    decoder: Decoder
    base: Tree
    adapters: Tree
    tables: Tables

    @property
    def variables(self) -> Tree:
        """As the decoder takes them."""
        return {"params": self.base, "adapters": self.adapters}


def apply(decoder: Decoder, method: str, *args: Any, **kwargs: Any) -> Any:
    """One of the decoder's methods; `apply` alone is typed for modules that return variables, too."""
    return decoder.apply(*args, method=method, **kwargs)


def hidden(model: Model, batch: dict[str, jax.Array], key: jax.Array | None) -> tuple[jax.Array, Tree]:
    """Hidden states at the batch's positions [B,S,D] after the final norm, and the routers' statistics."""
    decoder, variables, tables = model.decoder, model.variables, model.tables
    rngs = None if key is None else {"dropout": key}
    segments = Segments(batch["segment"], batch["position"]) if "segment" in batch else None
    if "below" in batch:
        x_BTD = batch["below"]
    elif tables.hidden_MTD is not None:
        x_BTD = tables.hidden_MTD[batch["template"]]
    else:
        x_BTD = apply(decoder, "lower", variables, batch["tokens"], segments)
    # One vector a row [B,C], or in packed rows one a conversation [B,G,C].
    profile_BXC = None if tables.profile_PC is None else tables.profile_PC[batch["profile"]]
    x_BTD, stats = apply(decoder, "upper", variables, x_BTD, batch["lengths"], profile_BXC, segments, rngs=rngs)
    return apply(decoder, "at_positions", variables, x_BTD, batch["positions"]), stats


def option_logits(model: Model, h_BD: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """Logits of the options of each row's question, float32 [B,O]: the letters' and what they start from."""
    logits_BO: jax.Array = apply(model.decoder, "option_logits", model.variables, h_BD, batch["option_ids"])
    return logits_BO + batch["offset"] if "offset" in batch else logits_BO


def label_weights(batch: dict[str, jax.Array]) -> jax.Array:
    """Weight of every supervised position, float32 [B,S]: that of its row, and 0 where a row has fewer."""
    weight_BS = jnp.broadcast_to(batch["weight"][:, None], batch["labels"].shape)
    return weight_BS * batch["label_weight"] if "label_weight" in batch else weight_BS


def row_losses(model: Model, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of each row: loss in nats and correct tokens, summed over its supervised tokens, and their number; each [B]."""
    h_BSD, _ = hidden(model, batch, None)
    unembed_VD = apply(model.decoder, "unembedding", model.variables)
    loss_BS, hit_BS = linear_cross_entropy(h_BSD, unembed_VD, batch["labels"])
    weight_BS = label_weights(batch)
    return jnp.sum(loss_BS * weight_BS, 1), jnp.sum(hit_BS * weight_BS, 1), jnp.sum(weight_BS, 1)


def row_choices(model: Model, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of each row: loss in nats, whether the likeliest option is the answer, and its weight; each [B]."""
    h_BSD, _ = hidden(model, batch, None)
    logits_BO = option_logits(model, h_BSD[:, 0], batch)
    logp_BO = option_log_probs(logits_BO, batch["options"])
    mask_BO = option_mask(batch["options"], logits_BO.shape[1])
    best_B = jnp.argmax(jnp.where(mask_BO, logits_BO, -jnp.inf), axis=-1)
    hit_B = jnp.take_along_axis(batch["target"], best_B[:, None], axis=1)[:, 0]
    return -jnp.sum(batch["target"] * logp_BO, -1) * batch["weight"], hit_B * batch["weight"], batch["weight"]


def predict(model: Model, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Distributions over the options [B,O], and the mean gate of each expert [B,L,E] (mean over routers of a layer).

    Without routers the gates are [B,0,0].
    """
    h_BSD, stats = hidden(model, batch, None)
    gates = [s.gate_BE for routers in stats.values() for s in routers.values()]
    gate_LBE = sum(gates) / len(gates) if gates else None
    return _distributions(model, h_BSD, batch), _mean_gates(gate_LBE, batch)


def predict_last(model: Model, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The same where each row's answer comes after its last token, in fewer operations; of batches without segments."""
    decoder, tables = model.decoder, model.tables
    if not decoder.n_adapted or decoder.quantize != "none":
        return predict(model, batch)
    if tables.hidden_MTD is not None:
        x_BTD = tables.hidden_MTD[batch["template"]]
    else:
        x_BTD = apply(decoder, "lower", model.variables, batch["tokens"], None)
    profile_BC = None if tables.profile_PC is None else tables.profile_PC[batch["profile"]]
    x_BD, layers = last_positions(decoder, model.base, model.adapters, x_BTD, batch["lengths"], profile_BC)
    h_BSD = apply(decoder, "at_positions", model.variables, x_BD[:, None], jnp.zeros_like(batch["positions"]))
    routers = [[s.gate_BE for group in stats.values() for s in group.values()] for stats in layers]
    gate_LBE = jnp.stack([sum(of) / len(of) for of in routers]) if routers[0] else None
    return _distributions(model, h_BSD, batch), _mean_gates(gate_LBE, batch)


def _distributions(model: Model, h_BSD: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    logits_BO = option_logits(model, h_BSD[:, 0], batch)
    mask_BO = option_mask(batch["options"], logits_BO.shape[1])
    return jnp.where(mask_BO, jnp.exp(option_log_probs(logits_BO, batch["options"])), 0.0)


def _mean_gates(gate_LBE: jax.Array | None, batch: dict[str, jax.Array]) -> jax.Array:
    if gate_LBE is None:
        return jnp.zeros((len(batch["lengths"]), 0, 0))
    return jnp.swapaxes(gate_LBE, 0, 1) / batch["lengths"][:, None, None]
