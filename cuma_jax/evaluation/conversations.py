"""Scores of a run on conversations: how well held-out answers are predicted, beside the model before training.

Loss is in nats a supervised token, over all tokens of a split; intervals are 95%, by resampling annotators. The base
is the same model with fresh adapters, which add nothing, on the same tokens: the difference is paired.

Shapes: N conversations, R annotators with some of them, K resamples, M figures.
"""

import sys
from typing import Any

import jax
import numpy as np
import pandas as pd
from tqdm import tqdm

from cuma_jax.data.conversations import ConversationBatcher
from cuma_jax.data.pipeline import in_order
from cuma_jax.evaluation.bootstrap import centred_interval, resample_weights
from cuma_jax.evaluation.grouping import MISSING
from cuma_jax.evaluation.results import SCHEMA, Results
from cuma_jax.sharding import batch_sharding, local_rows, put_batch, replicated
from cuma_jax.training.assembly import Assembly
from cuma_jax.training.forward import row_losses
from cuma_jax.training.layouts import ConversationLayout

KIND = "conversations"
"""`values["kind"]` of such results."""
_CHUNK = 100


def evaluate_conversations(assembly: Assembly, adapters: Any, about: dict[str, Any]) -> Results:
    """Scores the splits of `evaluation.splits`.

    Args:
        assembly: a run on conversations.
        adapters: its trained adapters, on the devices.
        about: how this was measured, kept as it is.

    Returns:
        Results whose `values["splits"][split]` has `n` (conversations, annotators, tokens), `loss`, `base_loss`,
        `difference` (loss - base_loss), `accuracy` and `groups` (the same by value of each `evaluation.group_by`
        field, for groups of at least `evaluation.min_cell` conversations), each {value, low, high}; `per_cell` has
        one row a conversation.
    """
    config, source = assembly.config, assembly.source
    layout = assembly.training
    assert isinstance(layout, ConversationLayout)
    base = assembly.init_adapters(config.train.seed)
    frames: list[pd.DataFrame] = []
    splits: dict[str, Any] = {}
    for split in config.evaluation.splits:
        index_N = np.flatnonzero(assembly.mask(split) & layout.tokens.kept_C)
        batcher = layout.batcher(index_N, packing=False)
        loss_N, hit_N, tokens_N = _scores(assembly, adapters, batcher, f"scoring {split}")
        base_N, _, _ = _scores(assembly, base, batcher, f"scoring {split}, before training")
        frame = pd.DataFrame({"split": split, "conversation_id": _column(source, "conversation_id")[index_N]})
        person_N = _column(source, "person")[index_N].astype(np.int64)
        frame["annotator"] = source.respondents["respondent_id"].to_numpy()[person_N]
        frame = frame.assign(tokens=tokens_N, loss=loss_N, base_loss=base_N, correct=hit_N)
        for field in config.evaluation.group_by:
            column = source.respondents[field].astype("object")
            frame[field] = column.where(column.notna(), MISSING).to_numpy()[person_N]
        seed = (config.evaluation.seed, len(splits))
        splits[split] = _figures(frame, config.evaluation.bootstrap, seed) | {
            "groups": {
                field: {
                    str(value): _figures(part, config.evaluation.bootstrap, seed)
                    for value, part in frame.groupby(field, sort=True)
                    if len(part) >= config.evaluation.min_cell
                }
                for field in config.evaluation.group_by
            }
        }
        frames.append(frame)
    values = {
        "schema": SCHEMA,
        "kind": KIND,
        "survey": source.name,
        "group_by": list(config.evaluation.group_by),
        "notes": layout.tokens.notes | {f"read: {reason}": n for reason, n in source.skipped.items()},
        "splits": splits,
        "about": about,
    }
    return Results(values, pd.concat(frames, ignore_index=True))


def _column(source: Any, name: str) -> np.ndarray:
    return source.conversations[name].to_numpy()


def _scores(
    assembly: Assembly, adapters: Any, batcher: ConversationBatcher, what: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Summed loss in nats, correct tokens and supervised tokens of every row, float64 [N]."""
    a, whole = assembly, replicated(assembly.mesh)
    step = jax.jit(
        lambda adapters, base, tables, batch: row_losses(a.decoder, base, adapters, tables, batch),
        in_shardings=(a.adapter_shardings, a.base_shardings, whole, batch_sharding(a.mesh)),
        out_shardings=whole,
    )
    size = a.config.evaluation.batch_size
    found = np.zeros((3, len(batcher)))
    pace = 0.1 if sys.stderr.isatty() else 30.0
    quiet = jax.process_index() != 0
    bar = tqdm(total=len(batcher), desc=what, unit="conv", disable=quiet, mininterval=pace, dynamic_ncols=True)
    with jax.set_mesh(a.mesh):
        for index_N, bucket, batch in in_order(batcher, size, local_rows(a.mesh, size)):
            sums = jax.device_get(step(adapters, a.base, a.training.tables[bucket], put_batch(batch, a.mesh)))
            found[:, index_N] = [sum_B[: len(index_N)] for sum_B in sums]
            bar.update(len(index_N))
    bar.close()
    return found[0], found[1], found[2]


def _figures(frame: pd.DataFrame, resamples: int, seed: tuple[int, ...]) -> dict[str, Any]:
    """The figures of some conversations: each a ratio of sums over annotators, with its interval."""
    by_person = frame.groupby("annotator", sort=True)[["loss", "base_loss", "correct", "tokens"]].sum()
    sums_R4 = by_person.to_numpy(np.float64)

    def ratios(sums_4K: np.ndarray) -> np.ndarray:
        loss, base, correct, tokens = sums_4K
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.stack([loss, base, loss - base, correct]) / tokens

    point_M = ratios(sums_R4.sum(axis=0)[:, None])[:, 0]
    chunks = [ratios(sums_R4.T @ weight_RK) for weight_RK in resample_weights(len(sums_R4), resamples, seed, _CHUNK)]
    low_M, high_M = centred_interval(point_M, np.concatenate(chunks, axis=1) if chunks else np.zeros((4, 0)))
    names = ("loss", "base_loss", "difference", "accuracy")
    known = len(sums_R4) > 1
    figures = {
        name: {"value": float(value), "low": float(low) if known else None, "high": float(high) if known else None}
        for name, value, low, high in zip(names, point_M, low_M, high_M, strict=True)
    }
    n = {"conversations": len(frame), "annotators": len(sums_R4), "tokens": int(frame["tokens"].sum())}
    return {"n": n, **figures}


def conversations_table(results: Results) -> str:
    """A plain-text table for the terminal: every split, and its groups where they are several."""
    header = ["split", "group", "conversations", "annotators", "loss [95%]", "before training", "difference [95%]"]
    rows: list[list[str]] = []
    for split, scores in results.values["splits"].items():
        blocks = {"all": scores} | {
            name: block for groups in scores["groups"].values() if len(groups) > 1 for name, block in groups.items()
        }
        for name, block in blocks.items():
            rows.append([
                split if name == "all" else "", name, f"{block['n']['conversations']:,}",
                f"{block['n']['annotators']:,}", _figure(block["loss"]), f"{block['base_loss']['value']:.4f}",
                _figure(block["difference"], "+"),
            ])  # fmt: skip
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [header, *rows]]
    lines.insert(1, "  ".join("-" * w for w in widths))
    notes = [f"{reason}: {count:,}" for reason, count in results.values["notes"].items()]
    about = "loss: nats a token of the answers people preferred, in conversations held out from training."
    return "\n".join([*lines, "", about, *notes])


def _figure(figure: dict[str, Any], sign: str = "") -> str:
    if figure["low"] is None:
        return f"{figure['value']:{sign}.4f}"
    return f"{figure['value']:{sign}.4f} [{figure['low']:{sign}.4f}, {figure['high']:{sign}.4f}]"
