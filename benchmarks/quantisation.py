"""What a base in int8 costs in accuracy: option distributions beside those of the same base in float32.

    python benchmarks/quantisation.py                                                  SmolLM2 on open_values, 96 rows
    python benchmarks/quantisation.py --source random:tiny --data invented --rows 32   seconds, and nothing real

The model is used as it is, with the profile in the prompt, so every row is another text. Storages that are compared
with float32, all computed in float32: bfloat16 (what an accelerator would hold otherwise), int8 (`model.quantize
int8`), and int8 with the embedding rounded too, one scale per token, which the package does not offer: what that would
cost.

Shapes: N rows, O options, V vocabulary, D model width.
"""

import argparse
import dataclasses
import sys
from typing import Any

import numpy as np
import steps

from cuma_jax.config import Config
from cuma_jax.config.methods import apply_method


def make_config(args: argparse.Namespace) -> Config:
    """The quickstart's data and model, the profile in the prompt, nothing trained."""
    # Prompts with profiles are longer than the quickstart's buckets.
    config = apply_method(steps.quickstart(args, (104, 124, 160, 224)), "persona")
    train = dataclasses.replace(
        config.train, batch_size=args.batch, steps=-(-args.rows // args.batch), question_cache="off"
    )
    return dataclasses.replace(config, train=train)


def storages(run: Any) -> dict[str, tuple[Any, Any]]:
    """Name -> (decoder, base) of every storage."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    from cuma_jax.models.quantised import output_scales, quantise_into
    from cuma_jax.models.weights import load_params
    from cuma_jax.run.decoders import abstract_variables
    from cuma_jax.runtime.sharding import tree_shardings

    decoder = run.decoder.clone(quantize="int8")
    boxed = abstract_variables(decoder, 0)["params"]
    shardings = tree_shardings(boxed, run.mesh)
    int8 = load_params(run.files, run.decoder_config, nn.meta.unbox(boxed), shardings, decoder.n_frozen)

    embed_VD = np.asarray(run.base["embed"])
    q_DV, scale_V = np.empty(embed_VD.shape[::-1], np.int8), output_scales(embed_VD)
    quantise_into(q_DV, embed_VD, scale_V)
    rounded_VD = jax.device_put(q_DV.T * scale_V[:, None], run.base_shardings["embed"])
    short = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), run.base)
    return {
        "float32": (run.decoder, run.base),
        "bfloat16": (run.decoder, short),
        "int8": (decoder, int8),
        "int8, embedding too": (decoder, int8 | {"embed": rounded_VD}),
    }


def option_figures(run: Any, batches: Any, decoder: Any, base: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits and log-probabilities of the options of every row, [N,O] each; past a row's options -inf and 0."""
    import jax
    import jax.numpy as jnp

    from cuma_jax.losses.choice import option_log_probs, option_mask
    from cuma_jax.run.forward import Model, hidden
    from cuma_jax.runtime.sharding import put_batch

    @jax.jit
    def last_hidden(base: Any, tables: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
        h_BSD, _ = hidden(Model(decoder, base, {}, tables), batch, None)
        logits_BO: Any = decoder.apply({"params": base}, h_BSD[:, 0], batch["option_ids"], method="option_logits")
        mask_BO = option_mask(batch["options"], logits_BO.shape[1])
        logp_BO = option_log_probs(logits_BO, batch["options"])
        return jnp.where(mask_BO, logits_BO, -jnp.inf), jnp.where(mask_BO, logp_BO, 0.0)

    found = []
    with jax.set_mesh(run.mesh):
        for number, (bucket, batch) in enumerate(batches):
            print(f"\r{name}: batch {number + 1} of {len(batches)}", end="", file=sys.stderr, flush=True)
            placed = put_batch(batch, run.mesh)
            found.append(jax.device_get(last_hidden(base, run.training.tables[bucket], placed)))
    print(file=sys.stderr)
    logits_NO, logp_NO = (np.concatenate(part).astype(np.float64) for part in zip(*found, strict=True))
    return logits_NO, logp_NO


def compare(exact: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """How far `other` is from `exact`, each (logits, log-probabilities) [N,O]."""
    (logits_NO, logp_NO), (other_NO, other_logp_NO) = exact, other
    there_NO = np.isfinite(logits_NO)
    probs_NO = np.where(there_NO, np.exp(logp_NO), 0.0)
    kl_N = np.sum(probs_NO * (logp_NO - other_logp_NO), axis=1)
    apart_N = np.abs(np.subtract(logits_NO, other_NO, where=there_NO, out=np.zeros_like(logits_NO))).max(axis=1)
    moved_N = np.abs(probs_NO - np.where(there_NO, np.exp(other_logp_NO), 0.0)).sum(axis=1) / 2
    return {
        "kl_mean_nats": float(kl_N.mean()),
        "kl_max_nats": float(kl_N.max()),
        "total_variation_mean": float(moved_N.mean()),
        "logit_difference_mean": float(apart_N.mean()),
        "logit_difference_max": float(apart_N.max()),
        "same_likeliest": float(np.mean(logits_NO.argmax(1) == other_NO.argmax(1))),
    }


def megabytes(base: Any, name: str) -> float:
    """What the base takes, stored as `name` says (what is not in int8 counts as bfloat16, but for float32)."""
    import jax

    size = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(base):
        embedding = jax.tree_util.keystr(path, simple=True) == "embed"
        if leaf.dtype == np.int8:
            size += leaf.size
        elif name == "float32" or jax.tree_util.keystr(path).endswith("_scale']"):
            size += 4 * leaf.size
        elif embedding and "embedding" in name:
            size += leaf.size + 4 * len(leaf)
        else:
            size += 2 * leaf.size
    return size / 1e6


def main() -> None:
    """Parses, predicts with every storage, prints."""
    parser = steps.quickstart_arguments(__doc__)
    parser.add_argument("--rows", type=int, default=96, help="training rows, drawn as training draws them")
    args = parser.parse_args()

    from cuma_jax.data.pipeline import TrainBatches
    from cuma_jax.run.build import build_run
    from cuma_jax.run.rows import rows_of
    from cuma_jax.runtime.jax_setup import prepare_jax
    from cuma_jax.runtime.sharding import local_rows

    config = make_config(args)
    prepare_jax(config.run.cache_dir)
    run = build_run(config)
    rows, train = rows_of(run, "train"), config.train
    stream = TrainBatches(rows, args.batch, train.steps, train.seed, local_rows(run.mesh, args.batch))
    batches = [stream[step] for step in range(train.steps)]
    print(f"{train.steps * args.batch} rows of {config.data.source}, {args.source}, against float32")
    columns = ("storage", "MB", "KL", "largest", "TV", "logit", "largest", "same")
    print("{:20s} {:>7s} {:>10s} {:>9s} {:>8s} {:>7s} {:>8s} {:>6s}".format(*columns))
    results: dict[str, dict[str, float]] = {}
    exact: Any = None
    for name, (decoder, base) in storages(run).items():
        found = option_figures(run, batches, decoder, base, name)
        exact = exact or found
        row = results[name] = {"megabytes": megabytes(base, name)} | compare(exact, found)
        print(
            f"{name:20s} {row['megabytes']:7.1f} {row['kl_mean_nats']:10.2e} {row['kl_max_nats']:9.1e} "
            f"{row['total_variation_mean']:8.5f} {row['logit_difference_mean']:7.3f} "
            f"{row['logit_difference_max']:8.3f} {row['same_likeliest']:6.1%}",
            flush=True,
        )
    print("KL of option distributions, in nats; TV: their total variation; logit: a row's largest difference")
    steps.report(args, {"rows": train.steps * args.batch, "storages": results})


if __name__ == "__main__":
    main()
