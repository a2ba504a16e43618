"""The policy of GRPO over replies that are laid out for an update: log-probabilities, sums, and one step's updates.

Log-probabilities are of logits over `sampling.temperature`, as the writer's are.

Shapes: B replies of a step, R rows, n replies a row, K tokens of a row, S tokens of a reply (padded).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cuma_jax.config import Config
from cuma_jax.losses.balance import router_sums
from cuma_jax.losses.grpo import group_advantages, grpo_sums
from cuma_jax.losses.linear_cross_entropy import linear_cross_entropy
from cuma_jax.losses.sums import BatchSums
from cuma_jax.models.decoder import Decoder
from cuma_jax.run.forward import Model, Tables, apply, hidden
from cuma_jax.runtime.sharding import batch_sharding, replicated
from cuma_jax.training.step import TrainState, UpdateRule, in_parts, loss_of_batch

Tree = Any


def reply_logps(
    temperature: float, model: Model, batch: dict[str, jax.Array], key: jax.Array | None = None
) -> tuple[jax.Array, Tree]:
    """Log-probability in nats of every token of the replies, float32 [R,n,S], and the routers' statistics."""
    h_RXD, stats = hidden(model, batch, key)
    unembed_VD = apply(model.decoder, "unembedding", model.variables)
    loss_RX, _ = linear_cross_entropy(h_RXD / temperature, unembed_VD, batch["labels"])
    return -loss_RX.reshape(batch["old_logp"].shape), stats


def reply_sums(config: Config, model: Model, batch: dict[str, jax.Array], key: jax.Array | None) -> BatchSums:
    """The sums of one (micro-)batch of replies; see `grpo.rollouts` for its arrays."""
    logp_RnS, stats = reply_logps(config.sampling.temperature, model, batch, key)
    longest = logp_RnS.shape[-1]
    reference = batch.get("reference_logp")
    sums = grpo_sums(
        logp_RnS.reshape(-1, longest),
        batch["old_logp"].reshape(-1, longest),
        None if reference is None else reference.reshape(-1, longest),
        batch["advantage"].reshape(-1),
        batch["label_weight"].reshape(-1, longest),
        batch["valid"].reshape(-1),
        config.grpo,
        config.sampling.max_new_tokens,
    )
    return BatchSums(sums, router_sums(stats), jnp.sum(batch["lengths"]))


def make_update(
    decoder: Decoder,
    config: Config,
    rule: UpdateRule,
    mesh: Mesh,
    base_shardings: Tree,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """`update(state, base, reference, tables, below, batch) -> (state, metrics)`, jitted: all updates of a step.

    `reference` are the adapters of the policy that training starts from (None where `grpo.kl` is 0); their
    log-probabilities are computed once, before the first update. `below` is `rollouts.Written.below`. The old state's
    buffers are reused. Metrics are means over the updates.
    """
    grpo = config.grpo

    def update(
        state: TrainState, base: Tree, reference: Tree, tables: Tables, below: jax.Array | None, batch: Tree
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        reward_B, valid_B = batch["reward"].reshape(-1), batch["valid"].reshape(-1) > 0
        advantage_B = group_advantages(reward_B, valid_B, grpo.samples, grpo.advantage)
        batch = batch | {"advantage": advantage_B.reshape(batch["valid"].shape)}
        if below is not None:
            batch["below"] = below[batch.pop("source")]
        if grpo.kl:
            batch["reference_logp"] = in_parts(
                lambda part: reply_logps(config.sampling.temperature, Model(decoder, base, reference, tables), part)[0],
                batch,
                config.train.micro_batches,
            )

        def one(carry: Any, number: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            adapters, opt_state = carry
            key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step * grpo.updates + number)
            grad = jax.value_and_grad(loss_of_batch, argnums=2, has_aux=True)
            (_, (sums, metrics)), grads = grad(decoder, config, adapters, base, tables, batch, key, reply_sums)
            with jax.named_scope("optimizer"):
                updates, opt_state = rule.optimizer.update(grads, opt_state, adapters)
                adapters = optax.apply_updates(adapters, updates)
            metrics |= {"gradient_norm": optax.global_norm(grads), "tokens": sums.tokens}
            return (adapters, opt_state), metrics

        carry = (state.adapters, state.opt_state)
        (adapters, opt_state), stacked = jax.lax.scan(one, carry, jnp.arange(grpo.updates))
        metrics = {name: jnp.mean(values) for name, values in stacked.items()}
        metrics |= {
            "tokens": jnp.sum(stacked["tokens"]),
            # The optimiser counts updates, and so does the schedule.
            "learning_rate": jnp.asarray(rule.schedule(state.step * grpo.updates), jnp.float32),
        }
        return TrainState(state.step + 1, adapters, opt_state, state.key), metrics

    whole = replicated(mesh)
    reference_shardings = rule.shardings.adapters if grpo.kl else None
    return jax.jit(
        update,
        in_shardings=(rule.shardings, base_shardings, reference_shardings, whole, whole, batch_sharding(mesh)),
        out_shardings=(rule.shardings, whole),
        donate_argnums=0,
    )
