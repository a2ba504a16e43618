"""What preference data holds, counted: the numbers that `python -m cuma_jax.data show` prints of conversations.

Shapes: C conversations, T turns, R annotators, P opening prompts.
"""

import numpy as np
import pyarrow.compute as pc

from cuma_jax.commands.data.facts import Facts, by_value, field_facts, split_facts, weight_facts
from cuma_jax.config.data import DataConfig
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import preference_pairs
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.units import Units

_MOST_VALUES = 60
"""Columns of conversations with more distinct values are texts or ids, and are not counted by value."""


def preference_facts(preferences: Preferences, units: Units, profiles: Profiles, data: DataConfig) -> Facts:
    """Counts of conversations; `data` names the split and the field that stands for a country."""
    person_C = preferences.conversations["person"].to_numpy()
    turns_C = np.diff(preferences.first_turn_C)
    conversations_R = np.bincount(person_C, minlength=len(preferences.respondents))
    return {
        "kind": "conversations",
        "source": preferences.name,
        "annotators": len(preferences.respondents),
        "conversations": len(preferences.conversations),
        "turns": len(preferences.turns),
        "prompts": len(preferences.prompt_ids),
        "skipped": dict(preferences.skipped),
        "by_country": by_value(preferences, data.held_out_field, {"conversations": conversations_R}, "annotators"),
        "by_split": split_facts(units, data),
        "profiles": len(profiles),
        "profile_fields": field_facts(preferences, profiles.fields),
        "weights": weight_facts(preferences),
        "turns_per_conversation": _histogram(turns_C),
        "candidates_per_turn": _histogram(_candidates(preferences)),
        "chosen_position": _chosen(preferences),
        "shared_prompts": _shared_prompts(preferences),
        "columns": _columns(preferences),
        "pairs": _pairs(preferences),
    }


def _histogram(value_N: np.ndarray) -> list[Facts]:
    return [{"value": v, "count": int(n)} for v, n in enumerate(np.bincount(value_N)) if n]


def _candidates(preferences: Preferences) -> np.ndarray:
    return pc.list_value_length(preferences.turns["candidates"]).to_numpy().astype(np.int64)


def _chosen(preferences: Preferences) -> Facts:
    """How often the candidate at each position was chosen, by number of candidates: a check of order effects."""
    size_T = _candidates(preferences)
    chosen_T = preferences.turns["chosen"].to_numpy().astype(np.int64)
    by_size = []
    for size in np.unique(size_T[chosen_T >= 0]).tolist():
        counts = np.bincount(chosen_T[(size_T == size) & (chosen_T >= 0)], minlength=size)
        by_size.append({"candidates": size, "chosen": counts.tolist()})
    return {"by_candidates": by_size, "none_chosen": int(np.count_nonzero(chosen_T < 0))}


def _shared_prompts(preferences: Preferences) -> Facts:
    """Opening prompts that several annotators have: they must stand on one side of a split by prompt."""
    prompt_C = preferences.conversations["prompt"].to_numpy().astype(np.int64)
    person_C = preferences.conversations["person"].to_numpy()
    length = max(len(preferences.respondents), 1)
    pairs = np.unique(prompt_C * length + person_C)
    people_P = np.bincount(pairs // length, minlength=len(preferences.prompt_ids))
    shared_P = people_P > 1
    return {
        "prompts": int(np.count_nonzero(shared_P)),
        "conversations": int(np.count_nonzero(shared_P[prompt_C])),
        "most_annotators": int(people_P.max(initial=0)),
    }


def _columns(preferences: Preferences) -> list[Facts]:
    """What the source says of conversations (language, wave, ...), by value, the most frequent first."""
    found = []
    for name in preferences.conversations.columns:
        if name in ("conversation_id", "person", "prompt"):
            continue
        counts = preferences.conversations[name].astype("string").value_counts(dropna=False)
        counts = counts[counts > 0]
        if len(counts) <= _MOST_VALUES:
            values = [{"value": v if isinstance(v, str) else None, "conversations": int(n)} for v, n in counts.items()]
            found.append({"column": str(name), "values": values})
    return found


def _pairs(preferences: Preferences) -> Facts:
    """Preference pairs, what was too close to count, and the quartiles of margins where the source has scores."""
    pairs = preference_pairs(preferences)
    known = pairs.margin_P[np.isfinite(pairs.margin_P)].astype(np.float64)
    facts: Facts = {"pairs": len(pairs), "with_margin": len(known), "skipped": dict(pairs.skipped)}
    if len(known):
        names = ("min", "quarter", "median", "three_quarters", "max")
        facts["margin"] = dict(zip(names, np.quantile(known, [0, 0.25, 0.5, 0.75, 1]).tolist(), strict=True))
    return facts
