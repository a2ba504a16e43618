"""Scores of a run on preference data: held-out conversations or choices, beside the model before training.

Conversations: loss in nats a supervised token, over all tokens of a split. Choices: loss in nats a choice, and how
often the likeliest response is the preferred one, beside chance. Intervals are 95%, by resampling annotators. The base
is the same model with fresh adapters, which add nothing, on the same rows: differences are paired.

Shapes: N rows (conversations or choices), R annotators with some of them, K resamples, M figures.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.data.batches import Rows
from cuma_jax.data.pipeline import Gatherer
from cuma_jax.errors import CumaError
from cuma_jax.evaluation.bootstrap import centred_interval, resample_weights
from cuma_jax.evaluation.grouping import MISSING
from cuma_jax.evaluation.results import SCHEMA, Results
from cuma_jax.surveys.survey import other_fields
from cuma_jax.training.assembly import Assembly
from cuma_jax.training.forward import row_choices, row_losses
from cuma_jax.training.layouts import ConversationLayout
from cuma_jax.training.rows import ask_rows, row_step

CONVERSATIONS, CHOICES = "conversations", "choices"
"""`values["kind"]` of such results."""
_CHUNK = 100
_FIGURES = ("loss", "base_loss", "difference", "accuracy", "base_accuracy", "accuracy_difference", "chance")


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows of a split: what gathers them, the person and the id of each, and the chance of guessing right."""

    batcher: Gatherer
    person_N: np.ndarray
    id_N: np.ndarray
    chance_N: np.ndarray


def evaluate_preferences(assembly: Assembly, adapters: Any, about: dict[str, Any]) -> Results:
    """Scores the splits of `evaluation.splits`.

    Args:
        assembly: a run on preference data.
        adapters: its trained adapters, on the devices.
        about: how this was measured, kept as it is.

    Returns:
        Results whose `values["splits"][split]` has `n` (rows, annotators, units: tokens or choices), the figures
        `loss`, `base_loss`, `difference`, `accuracy`, `base_accuracy`, `accuracy_difference` and, of choices, `chance`,
        each {value, low, high}, and `groups` (the same by value of each `evaluation.group_by` field, for groups of at
        least `evaluation.min_cell` rows); `per_cell` has one row a conversation or choice.
    """
    config, source = assembly.config, assembly.source
    kind = CONVERSATIONS if isinstance(assembly.training, ConversationLayout) else CHOICES
    base = assembly.idle_adapters(config.train.seed)
    for field in config.evaluation.group_by:
        if field not in source.respondents:
            raise CumaError(
                f"config field evaluation.group_by names {field!r}, which {source.name!r} does not have; it has "
                f"{', '.join((*source.profile_fields, *other_fields(source)))}"
            )
    frames: list[pd.DataFrame] = []
    splits: dict[str, Any] = {}
    for split in config.evaluation.splits:
        rows = _rows(assembly, split)
        loss_N, hit_N, unit_N = _scores(assembly, adapters, rows.batcher, f"scoring {split}")
        base_N, base_hit_N, _ = _scores(assembly, base, rows.batcher, f"scoring {split}, before training")
        frame = pd.DataFrame({"split": split, "id": rows.id_N})
        frame["annotator"] = source.respondents["respondent_id"].to_numpy()[rows.person_N]
        frame = frame.assign(units=unit_N, loss=loss_N, base_loss=base_N, correct=hit_N, base_correct=base_hit_N)
        frame = frame.assign(chance=rows.chance_N)
        for field in config.evaluation.group_by:
            column = source.respondents[field].astype("object")
            frame[field] = column.where(column.notna(), MISSING).to_numpy()[rows.person_N]
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
    notes = assembly.training.tokens.notes if isinstance(assembly.training, ConversationLayout) else {}
    values = {
        "schema": SCHEMA,
        "kind": kind,
        "survey": source.name,
        "group_by": list(config.evaluation.group_by),
        "notes": notes | {f"read: {reason}": n for reason, n in source.skipped.items()},
        "splits": splits,
        "about": about,
    }
    return Results(values, pd.concat(frames, ignore_index=True))


def _rows(assembly: Assembly, split: str) -> _Rows:
    layout, mask_N = assembly.training, assembly.mask(split)
    if isinstance(layout, ConversationLayout):
        frame, index_N = layout.source.conversations, np.flatnonzero(mask_N & layout.tokens.kept_C)
        ids, person_N = frame["conversation_id"].to_numpy(), frame["person"].to_numpy(np.int64)
        chance_N = np.zeros(len(index_N))
        return _Rows(layout.batcher(index_N, packing=False), person_N[index_N], ids[index_N], chance_N)
    survey, options, index_N = assembly.survey, assembly.prediction, np.flatnonzero(mask_N)
    assert options is not None
    respondent_N, question_N = survey.respondent_A[index_N], survey.question_A[index_N]
    profile_N = assembly.profiles.profile_R[respondent_N]
    rows = Rows(profile_N, question_N, survey.option_A[index_N], None, np.ones(len(index_N)))
    ids = np.array([question.id for question in survey.questions], dtype=object)
    chance_Q = np.array([1 / len(question.options) for question in survey.questions])
    return _Rows(options.batcher(rows), respondent_N.astype(np.int64), ids[question_N], chance_Q[question_N])


def _scores(
    assembly: Assembly, adapters: Any, batcher: Gatherer, what: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Summed loss in nats, what was right, and the number of tokens or choices of every row, float64 [N]."""
    asked, layout = (row_losses, assembly.training)
    if assembly.prediction is not None:
        asked, layout = row_choices, assembly.prediction
    found = np.zeros((3, len(batcher)))
    step = row_step(assembly, asked)
    for index_B, sums in ask_rows(assembly, step, adapters, batcher, layout.tables, what):
        found[:, index_B] = sums
    return found[0], found[1], found[2]


def _figures(frame: pd.DataFrame, resamples: int, seed: tuple[int, ...]) -> dict[str, Any]:
    """The figures of some rows: each a ratio of sums over annotators, with its interval."""
    columns = ["loss", "base_loss", "correct", "base_correct", "chance", "units"]
    sums_R6 = frame.groupby("annotator", sort=True)[columns].sum().to_numpy(np.float64)

    def ratios(sums_6K: np.ndarray) -> np.ndarray:
        loss, base, right, base_right, chance, units = sums_6K
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.stack([loss, base, loss - base, right, base_right, right - base_right, chance]) / units

    point_M = ratios(sums_R6.sum(axis=0)[:, None])[:, 0]
    chunks = [ratios(sums_R6.T @ weight_RK) for weight_RK in resample_weights(len(sums_R6), resamples, seed, _CHUNK)]
    low_M, high_M = centred_interval(point_M, np.concatenate(chunks, axis=1) if chunks else np.zeros((len(point_M), 0)))
    known = len(sums_R6) > 1
    figures = {
        name: {
            "value": float(value),
            "low": float(low) if known and np.isfinite(low) else None,
            "high": float(high) if known and np.isfinite(high) else None,
        }
        for name, value, low, high in zip(_FIGURES, point_M, low_M, high_M, strict=True)
    }
    return {"n": {"rows": len(frame), "annotators": len(sums_R6), "units": int(frame["units"].sum())}, **figures}


def preferences_table(results: Results) -> str:
    """A plain-text table for the terminal: every split, and its groups where they are several."""
    choices = results.values["kind"] == CHOICES
    shown = ("accuracy", "base_accuracy", "accuracy_difference") if choices else ("loss", "base_loss", "difference")
    header = ["split", "group", results.values["kind"], "people", f"{shown[0]} [95%]", "before", "difference [95%]"]
    rows: list[list[str]] = []
    for split, scores in results.values["splits"].items():
        blocks = {"all": scores} | {
            name: block for groups in scores["groups"].values() if len(groups) > 1 for name, block in groups.items()
        }
        for name, block in blocks.items():
            counts = [f"{block['n']['rows']:,}", f"{block['n']['annotators']:,}"]
            figures = [_figure(block[shown[0]]), f"{block[shown[1]]['value']:.4f}", _figure(block[shown[2]], "+")]
            last = [f"{block['chance']['value']:.4f}", f"{block['loss']['value']:.4f}"] if choices else []
            rows.append([split if name == "all" else "", name, *counts, *figures, *last])
    header += ["chance", "loss"] if choices else []
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [header, *rows]]
    lines.insert(1, "  ".join("-" * w for w in widths))
    about = "loss: nats a token of the answers people preferred, in conversations held out from training."
    if choices:
        about = "accuracy: how often the likeliest response is the one the person preferred. loss: nats a choice."
    return "\n".join([*lines, "", about, *(f"{why}: {count:,}" for why, count in results.values["notes"].items())])


def _figure(figure: dict[str, Any], sign: str = "") -> str:
    if figure["low"] is None:
        return f"{figure['value']:{sign}.4f}"
    return f"{figure['value']:{sign}.4f} [{figure['low']:{sign}.4f}, {figure['high']:{sign}.4f}]"
