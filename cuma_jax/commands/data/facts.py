"""What a survey or preference data hold, counted: the numbers that `python -m cuma_jax.data show` prints.

Everything is a plain JSON value. Counting is by `np.bincount` over index columns, a chunk of answers at a time.

Shapes: A answers, R respondents or annotators, Q questions, O options, V values of a field, C conversations, T turns,
P opening prompts.
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from cuma_jax.config.checks import SPLITS
from cuma_jax.config.data import DataConfig
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import preference_pairs
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.fields.countries import with_one_name
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.splits import split_rows
from cuma_jax.surveys.survey import RESERVED_COLUMNS, HasRespondents, Survey
from cuma_jax.surveys.units import Units

Facts = dict[str, Any]
_CHUNK = 1 << 21
_MOST_VALUES = 60
"""Columns of conversations with more distinct values are texts or ids, and are not counted by value."""


def survey_facts(survey: Survey, units: Units, profiles: Profiles, data: DataConfig) -> Facts:
    """Counts of a survey; `data` names the split and the field that stands for a country."""
    count_QO, weight_QO, answers_R = _counts(survey)
    return {
        "kind": "survey",
        "source": survey.name,
        "respondents": len(survey.respondents),
        "questions": len(survey.questions),
        "answers": survey.num_answers,
        "skipped": dict(survey.skipped),
        "by_country": by_value(survey, data.held_out_field, {"answers": answers_R}),
        "by_split": split_facts(units, data),
        "profiles": len(profiles),
        "profile_fields": field_facts(survey, profiles.fields),
        "weights": weight_facts(survey),
        "by_question": _by_question(survey, count_QO, weight_QO),
        "duplicates": _duplicates(survey),
    }


def _counts(survey: Survey) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int64 [Q, O] answers by option, float64 [Q, O] the sum of their weights, and int64 [R] answers by respondent."""
    sizes = [len(q.options) for q in survey.questions]
    width, length = max(sizes, default=0), len(survey.respondents)
    count_QO, answers_R = np.zeros(len(sizes) * width, np.int64), np.zeros(length, np.int64)
    weight_QO, weight_R = np.zeros(len(count_QO)), survey.respondents["weight"].to_numpy(np.float64)
    for start in range(0, survey.num_answers, _CHUNK):
        part = slice(start, start + _CHUNK)
        cell_A = survey.question_A[part].astype(np.int64) * width + survey.option_A[part]
        count_QO += np.bincount(cell_A, minlength=len(count_QO))
        weight_QO += np.bincount(cell_A, weights=weight_R[survey.respondent_A[part]], minlength=len(count_QO))
        answers_R += np.bincount(survey.respondent_A[part], minlength=length)
    return count_QO.reshape(len(sizes), width), weight_QO.reshape(len(sizes), width), answers_R


def by_value(people: HasRespondents, field: str, counts: dict[str, np.ndarray], persons: str = "respondents") -> Facts:
    """Persons, and sums of `counts` (int [R] arrays), by value of a field; the most frequent value first.

    `field`; `values`: a list of {value, `persons`, *counts}; `missing`: the same for persons without a value, None
    where there are none. A country has one value, however it is spelled. A field that the source lacks has no values,
    and everybody is missing.
    """
    if field in people.respondents:
        column = categories(with_one_name(people.respondents[field], field))
        codes_R, names = column.cat.codes.to_numpy().astype(np.int64), [str(name) for name in column.cat.categories]
    else:
        codes_R, names = np.full(len(people.respondents), -1, np.int64), []
    respondents_V = np.bincount(codes_R + 1, minlength=len(names) + 1)
    sums = {persons: respondents_V}
    for name, count_R in counts.items():
        sums[name] = np.bincount(codes_R + 1, weights=count_R, minlength=len(names) + 1)
    rows = [{name: int(sum_V[v]) for name, sum_V in sums.items()} for v in range(len(names) + 1)]
    values: list[Facts] = [{"value": name, **row} for name, row in zip(names, rows[1:], strict=True) if row[persons]]
    last = next(reversed(sums))
    values.sort(key=lambda row: (-row[last], row["value"]))
    return {"field": field, "values": values, "missing": rows[0] if respondents_V[0] else None}


def split_facts(units: Units, data: DataConfig) -> Facts:
    """Rows, persons and items of each split that has rows, or why the split cannot be made.

    `splits`: a list of {split, answers, respondents, questions} (conversations, annotators and prompts, where rows are
    conversations); `problem`: the message, where it cannot be made.
    """
    try:
        split_N = split_rows(units, data)
    except CumaError as error:
        return {"splits": [], "problem": str(error)}
    rows = "answers" if units.conversation_ids is None else "conversations"
    found = []
    for split, name in [*enumerate(SPLITS), (-1, "(none)")]:
        here_N = split_N == split
        if not (total := int(np.count_nonzero(here_N))):
            continue
        persons, items = (
            int(np.count_nonzero(np.bincount(index_N[here_N]))) for index_N in (units.person_N, units.item_N)
        )
        found.append({"split": name, rows: total, f"{units.person}s": persons, f"{units.item}s": items})
    return {"splits": found}


def field_facts(people: HasRespondents, default: tuple[str, ...]) -> list[Facts]:
    """Every field (first those that profiles use, `default`): its values, whom it is missing for, the most frequent."""
    frame = people.respondents
    others = [str(name) for name in frame.columns if name not in (*RESERVED_COLUMNS, *default)]
    facts = []
    for field in (*default, *others):
        column = categories(frame[field])
        codes_R = column.cat.codes.to_numpy().astype(np.int64)
        count_V = np.bincount(codes_R + 1, minlength=len(column.cat.categories) + 1)
        known = int(count_V[1:].sum())
        top = int(count_V[1:].argmax()) if known else -1
        facts.append(
            {
                "field": field,
                "in_profile": field in default,
                "values": int(np.count_nonzero(count_V[1:])),
                "missing": int(count_V[0]),
                "missing_share": count_V[0] / max(len(frame), 1),
                "most_frequent": str(column.cat.categories[top]) if known else None,
                "most_frequent_share": count_V[top + 1] / known if known else None,
            }
        )
    return facts


def weight_facts(people: HasRespondents) -> Facts:
    """Least, greatest and mean weight; Kish's effective number of respondents, (sum w)^2 / sum w^2; design columns."""
    weight_R = people.respondents["weight"].to_numpy(np.float64)
    facts: Facts = {"all_equal": bool(len(weight_R) == 0 or (weight_R == weight_R[0]).all())}
    if len(weight_R):
        squares = float((weight_R**2).sum())
        effective = float(weight_R.sum()) ** 2 / squares if squares else 0.0
        facts |= {"min": float(weight_R.min()), "max": float(weight_R.max()), "mean": float(weight_R.mean())}
        facts |= {"effective_n": effective, "effective_share": effective / len(weight_R)}
    for name in ("stratum", "psu"):
        if name in people.respondents:
            facts[name] = int(people.respondents[name].nunique())
    return facts


def _by_question(survey: Survey, count_QO: np.ndarray, weight_QO: np.ndarray) -> list[Facts]:
    """Answers by option, and the share of each by survey weight."""
    people = max(len(survey.respondents), 1)
    facts = []
    for question, count_O, weight_O in zip(survey.questions, count_QO.tolist(), weight_QO.tolist(), strict=True):
        total, weights = sum(count_O), sum(weight_O) or 1.0
        options = [
            {"code": code, "text": text, "answers": n, "share": weight / weights}
            for code, text, n, weight in zip(question.codes, question.options, count_O, weight_O, strict=False)
        ]
        facts.append(
            {
                "id": question.id,
                "text": question.text,
                "source": question.source,
                "ordered": question.ordered,
                "answers": total,
                "missing_share": 1 - total / people,
                "options": options,
            }
        )
    return facts


def _duplicates(survey: Survey) -> Facts:
    """Questions that share a text, and questions that list an option text twice."""
    by_text: dict[str, list[str]] = {}
    for question in survey.questions:
        by_text.setdefault(" ".join(question.text.split()).casefold(), []).append(question.id)
    return {
        "question_texts": [ids for ids in by_text.values() if len(ids) > 1],
        "option_texts": [q.id for q in survey.questions if len(set(q.options)) < len(q.options)],
    }


def categories(column: pd.Series) -> pd.Series:
    """A column as categories: as it is, or of its values as text."""
    return column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype("string").astype("category")


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
