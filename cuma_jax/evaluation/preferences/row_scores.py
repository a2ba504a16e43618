"""Scores of a run on preference data: held-out conversations or choices, beside the model before training.

Conversations: loss in nats a supervised token, over all tokens of a split. Choices: loss in nats a choice, and how
often the likeliest response is the preferred one, beside chance. Intervals are 95%, by resampling annotators. The base
is the same model with fresh adapters, which add nothing, on the same rows: differences are paired.

Shapes: N rows (conversations or choices).
"""

import typing
from typing import Any

import numpy as np
import pandas as pd

from cuma_jax.data.batches import Rows
from cuma_jax.data.pipeline import Batcher
from cuma_jax.evaluation.metrics.ratios import CHANGE, SHARE, Ratio
from cuma_jax.evaluation.preferences.groups import add_people, metrics_with_groups
from cuma_jax.evaluation.results import SCHEMA, Results
from cuma_jax.objectives.conversation_rows import ConversationLayout
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.run.forward import row_choices, row_losses
from cuma_jax.run.inference import ask_rows, row_step
from cuma_jax.run.run import Run
from cuma_jax.runtime.text_table import interval_text, text_table
from cuma_jax.surveys.groups import check_group_fields

CONVERSATIONS, CHOICES, PAIRS = "conversations", "choices", "pairs"
"""`values["kind"]` of such results."""
_RATIOS = {
    "loss": Ratio({"loss": 1}, "units"),
    "base_loss": Ratio({"base_loss": 1}, "units"),
    "difference": Ratio({"loss": 1, "base_loss": -1}, "units"),
    "accuracy": Ratio({"correct": 1}, "units", SHARE),
    "base_accuracy": Ratio({"base_correct": 1}, "units", SHARE),
    "accuracy_difference": Ratio({"correct": 1, "base_correct": -1}, "units", CHANGE),
    "chance": Ratio({"chance": 1}, "units", SHARE),
}

_ABOUT = {
    CONVERSATIONS: "loss: nats a token of the answers people preferred, in conversations held out from training.",
    CHOICES: "accuracy: how often the likeliest response is the one the person preferred. loss: nats a choice.",
    PAIRS: "accuracy: how often the reply that the person preferred is the likelier of the two. loss: nats a token of "
    "the preferred replies.\ngained more: how often it gained more than the other against the reference. best "
    "of all: how often it is the likeliest a token of its turn's candidates.",
}


def evaluate_preferences(run: Run, adapters: Any, about: dict[str, Any]) -> Results:
    """Scores the splits of `evaluation.splits` of preference data; `about` is kept as it is.

    Returns:
        Results whose `values["splits"][split]` has `n` (rows, annotators, units: tokens or choices), the metrics
        `loss`, `base_loss`, `difference`, `accuracy`, `base_accuracy`, `accuracy_difference` and, of choices, `chance`,
        each {value, low, high}, and `groups` (the same by value of each `evaluation.group_by` field, for groups of at
        least `evaluation.min_cell` rows); `per_cell` has one row a conversation or choice.
    """
    config, source = run.config, run.source
    kind = CONVERSATIONS if isinstance(source, Preferences) else CHOICES
    base = run.identity_adapters(config.train.seed)
    check_group_fields(source, config.evaluation.group_by, some=False)
    frames: list[pd.DataFrame] = []
    splits: dict[str, Any] = {}
    for split in config.evaluation.splits:
        batcher, person_N, id_N, chance_N = _rows(run, split)
        loss_N, hit_N, unit_N = _scores(run, adapters, batcher, f"scoring {split}")
        base_N, base_hit_N, _ = _scores(run, base, batcher, f"scoring {split}, before training")
        frame = pd.DataFrame({"split": split, "id": id_N})
        frame = frame.assign(units=unit_N, loss=loss_N, base_loss=base_N, correct=hit_N, base_correct=base_hit_N)
        frame = add_people(frame.assign(chance=chance_N), source, person_N, config.evaluation.group_by)
        splits[split] = metrics_with_groups(frame, _RATIOS, "units", config.evaluation, len(splits))
        frames.append(frame)
    notes = _conversations(run).tokens.notes if isinstance(source, Preferences) else {}
    return preference_results(run, kind, notes, splits, about, pd.concat(frames, ignore_index=True))


def preference_results(
    run: Run, kind: str, notes: dict[str, int], splits: dict[str, Any], about: dict[str, Any], rows: pd.DataFrame
) -> Results:
    """Results on preference data, of scores of one kind: `notes` counts what was left out, by reason."""
    values = {
        "schema": SCHEMA,
        "kind": kind,
        "survey": run.source.name,
        "group_by": list(run.config.evaluation.group_by),
        "notes": notes | {f"read: {reason}": n for reason, n in run.source.skipped.items()},
        "splits": splits,
        "about": about,
    }
    return Results(values, rows)


def _conversations(run: Run) -> ConversationLayout:
    """The rows of a run that is trained on whole conversations."""
    return typing.cast(ConversationLayout, run.training)


def _rows(run: Run, split: str) -> tuple[Batcher, np.ndarray, np.ndarray, np.ndarray]:
    """Rows of a split: their batcher, the person and the id of each, and the chance of guessing right."""
    mask_N = run.mask(split)
    if isinstance(run.source, Preferences):
        layout = _conversations(run)
        frame, index_N = layout.source.conversations, np.flatnonzero(mask_N & layout.tokens.kept_C)
        ids, person_N = frame["conversation_id"].to_numpy(), frame["person"].to_numpy(np.int64)
        chance_N = np.zeros(len(index_N))
        return layout.batcher(index_N, packing=False), person_N[index_N], ids[index_N], chance_N
    survey, options, index_N = run.survey, run.prediction, np.flatnonzero(mask_N)
    assert options is not None
    respondent_N, question_N = survey.respondent_A[index_N], survey.question_A[index_N]
    profile_N = run.profiles.profile_R[respondent_N]
    rows = Rows(profile_N, question_N, survey.option_A[index_N], None, np.ones(len(index_N)))
    ids = np.array([question.id for question in survey.questions], dtype=object)
    chance_Q = np.array([1 / len(question.options) for question in survey.questions])
    return options.batcher(rows), respondent_N.astype(np.int64), ids[question_N], chance_Q[question_N]


def _scores(run: Run, adapters: Any, batcher: Batcher, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Summed loss in nats, what was right, and the number of tokens or choices of every row, float64 [N]."""
    found, options = np.zeros((3, len(batcher))), run.prediction
    step, tables = row_step(run, row_choices if options else row_losses), (options or run.training).tables
    for index_B, sums in ask_rows(run, step, adapters, batcher, tables, what):
        found[:, index_B] = sums
    return found[0], found[1], found[2]


def preferences_table(results: Results) -> str:
    """A plain-text table for the terminal: every split, and its groups where they are several."""
    kind = results.values["kind"]
    choices = kind != CONVERSATIONS
    first, base, change = (
        ("accuracy", "base_accuracy", "accuracy_difference") if choices else ("loss", "base_loss", "difference")
    )
    header = ["split", "group", kind, "people", f"{first} [95%]", "before", "difference [95%]"]
    header += ["chance", "loss"] if choices else []
    header += ["gained more [95%]", "best of all [95%]"] if kind == PAIRS else []
    rows: list[list[str]] = []
    for split, scores in results.values["splits"].items():
        blocks = {"all": scores} | {
            name: block for groups in scores["groups"].values() if len(groups) > 1 for name, block in groups.items()
        }
        for name, block in blocks.items():
            counts = [f"{block['n']['rows']:,}", f"{block['n']['annotators']:,}"]
            row = [interval_text(block[first]), f"{block[base]['value']:.4f}", interval_text(block[change], "{:+.4f}")]
            row += [f"{block[key]['value']:.4f}" for key in ("chance", "loss") if choices]
            row += [interval_text(block[key]) for key in ("reward_accuracy", "choice_accuracy") if kind == PAIRS]
            rows.append([split if name == "all" else "", name, *counts, *row])
    notes = (f"{why}: {count:,}" for why, count in results.values["notes"].items())
    return text_table(header, rows, notes=[_ABOUT[kind], *notes])
