"""Loads the data of a config: a survey, or preferences as conversations or as choices; the units of its splits; and
keys of what the data hold, by which a run knows its own again."""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cuma_jax.config import Config, DataConfig, ProfileConfig
from cuma_jax.config.checks import SPLITS
from cuma_jax.preferences.load import SOURCES, load_preferences
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import choice_survey
from cuma_jax.preferences.texts import number_prompts
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir, content_key
from cuma_jax.surveys.derived import add_derived
from cuma_jax.surveys.fields.context import contexts_json
from cuma_jax.surveys.fields.joined import add_context, joined_fields
from cuma_jax.surveys.load import keep_questions, load_survey
from cuma_jax.surveys.profiles import Profiles, build_profiles
from cuma_jax.surveys.splits import split_and_table
from cuma_jax.surveys.survey import Survey, other_fields
from cuma_jax.surveys.units import Units, survey_units

_Source = TypeVar("_Source", Survey, Preferences)
Contents = dict[str, list[Any]]
"""Part of the data -> [how many, key]."""

if TYPE_CHECKING:  # it imports jax, which reading needs not
    from cuma_jax.profile_encoders.profile_table import ProfileTable


@dataclasses.dataclass(frozen=True)
class KeptData:
    """What a trained run has kept of its data besides.

    Attributes:
        table: the profile vectors, given an encoder for others (None: no others can be embedded); None where no
            router sees profiles.
    """

    table: "ProfileTable | None"


@dataclasses.dataclass(frozen=True)
class RunData:
    """What a run reads, before any weights.

    Attributes:
        source, units, profiles, split_N: as those of `Run`.
        train_P: bool, which profiles have training rows.
        kept: None where the source was read. A trained run can be used without it: then `source` has nothing but its
            people and questions.
    """

    source: Survey | Preferences
    units: Units
    profiles: Profiles
    split_N: np.ndarray
    train_P: np.ndarray
    kept: KeptData | None = None
    split_table: pd.DataFrame | None = None
    contents: Contents = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def people_P(self) -> np.ndarray:
        """How many persons with training rows each profile has, int [P]."""
        trained_R = np.zeros(len(self.profiles.profile_R), bool)
        trained_R[self.units.person_N[self.split_N == SPLITS.index("train")]] = True
        return np.bincount(self.profiles.profile_R[trained_R], minlength=len(self.profiles))


def load_source(
    data: DataConfig, choices: bool, cache: str = "", profile: ProfileConfig | None = None
) -> Survey | Preferences:
    """What `data` names: a survey, or preferences as choices between responses (`Config.reads_choices`), or else as
    conversations. The fields of `derived` and `context` of `profile` become columns of the respondents (None: none).

    Raises:
        CumaError: the source cannot be read, or has no country to derive fields from; or see `add_context`.
    """
    if data.source not in SOURCES:
        return _with_facts(load_survey(data, cache), profile)
    preferences = load_preferences(data, cache)
    if not choices:
        return _with_facts(preferences, profile)
    survey = choice_survey(preferences)
    return _with_facts(keep_questions(survey, data.questions) if data.questions else survey, profile)


def _with_facts(source: _Source, profile: ProfileConfig | None) -> _Source:
    profile = profile or ProfileConfig()
    return add_context(add_derived(source, profile.derived), profile)


def source_profiles(source: Survey | Preferences, profile: ProfileConfig) -> Profiles:
    """The distinct profiles of a source of `load_source`; errors are those of `build_profiles`."""
    return build_profiles(source, profile.fields, profile.sentence, profile.derived, joined_fields(source, profile))


def source_units(source: Survey | Preferences) -> Units:
    """What may be held out: respondents and questions of a survey, annotators and prompts of preference data.

    Two questions of a choice task with the same prompt (and other responses) are one prompt. Where
    a survey has no persons (`global_opinions`), one is a country's answers to a question: they are held out together.
    """
    if isinstance(source, Preferences):
        return _conversation_units(source)
    units = survey_units(source)
    if source.name in SOURCES:
        texts = pa.array([question.text for question in source.questions], pa.large_string())
        ids, item_Q = number_prompts(texts)
        item_N = item_Q[source.question_A]
        return dataclasses.replace(units, person="annotator", item="prompt", item_ids=list(ids), item_N=item_N)
    if not source.persons:
        return dataclasses.replace(units, person_ids=[name.rpartition("/")[0] for name in units.person_ids])
    return units


def _conversation_units(preferences: Preferences) -> Units:
    """Prompts that meet in a conversation are one item: one opens it, and another, which opens other ones, follows.

    Held out together, no opening prompt that is held out is anywhere in a training conversation.
    """
    frame, turns = preferences.conversations, preferences.turns
    later = turns.filter(pc.greater(turns["turn"], 0))
    position = {name: i for i, name in enumerate(preferences.prompt_ids)}
    ids, number_T = number_prompts(later["prompt"].combine_chunks())
    follows_T = np.array([position.get(name, -1) for name in ids] + [-1], np.int64)[number_T]
    opens_T = frame["prompt"].to_numpy()[later["conversation"].to_numpy()]
    both = follows_T >= 0
    size = len(preferences.prompt_ids)
    links = coo_array((np.ones(int(both.sum())), (opens_T[both], follows_T[both])), shape=(size, size))
    group_P = connected_components(links, directed=False)[1]
    # A group bears the id of its first prompt; ids are sorted, so which one that is does not depend on the rows.
    groups, first = np.unique(group_P, return_index=True)
    assert np.array_equal(groups, np.arange(len(groups)))
    return Units(
        name=preferences.name,
        respondents=preferences.respondents,
        person_ids=preferences.respondents["respondent_id"].tolist(),
        person_N=frame["person"].to_numpy(np.int32),
        item_ids=[preferences.prompt_ids[i] for i in first],
        item_N=group_P[frame["prompt"].to_numpy()].astype(np.int32),
        person="annotator",
        item="prompt",
        conversation_ids=frame["conversation_id"].tolist(),
    )


def contents(source: Survey | Preferences) -> Contents:
    """Keys of respondents, questions and answers, or of respondents and conversations; and of joined tables.

    They are of values in their order, never of files: what is read from a cache has the key of what it was made from.
    """
    people = source.respondents
    found: Contents = {"respondents": [len(people), content_key(*(_column(people[name]) for name in sorted(people)))]}
    if source.context:  # rows of what nobody has as well: a new profile gets them
        found["context"] = [len(source.context), content_key(json.dumps(contexts_json(source.context)))]
    if isinstance(source, Survey):
        wording = json.dumps([[q.id, q.text, q.options, q.ordered] for q in source.questions])
        answers = [source.respondent_A, source.question_A, source.option_A]
        if source.official_A is not None:
            answers.append(source.official_A)
        found["questions"] = [len(source.questions), content_key(wording)]
        found["answers"] = [source.num_answers, content_key(*(part.astype(np.int32) for part in answers))]
        return found
    frame, turns = source.conversations, source.turns
    parts = [_column(frame[name]) for name in ("conversation_id", "person", "prompt")]
    parts += [turns[name].to_numpy() for name in ("conversation", "turn", "chosen")]
    parts += _texts(turns["prompt"]) + _lists(turns["candidates"], _texts) + _lists(turns["scores"], _numbers)
    found["conversations"] = [len(frame), content_key(*parts)]
    return found


def _column(column: pd.Series) -> bytes:
    """Values in the order of their rows, whatever type holds them."""
    code_N, values = pd.factorize(column)
    return code_N.astype(np.int32).tobytes() + json.dumps([column.name, *map(str, values)]).encode()


def _lists(column: pa.ChunkedArray, values: Callable[[Any], list[Any]]) -> list[Any]:
    whole = column.combine_chunks()
    return [pc.fill_null(pc.list_value_length(whole), -1).to_numpy(zero_copy_only=False), *values(whole.flatten())]


def _texts(texts: pa.ChunkedArray | pa.Array) -> list[Any]:
    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    if not len(whole):
        return []
    binary = whole.cast(pa.large_binary())
    start_N = np.frombuffer(binary.buffers()[1], np.int64)[binary.offset : binary.offset + len(binary) + 1]
    return [np.diff(start_N), memoryview(binary.buffers()[2])[start_N[0] : start_N[-1]].tobytes()]


def _numbers(numbers: pa.Array) -> list[Any]:
    return [numbers.to_numpy(zero_copy_only=False).astype(np.float32)]


def check_splits(config: Config, split_N: np.ndarray) -> None:
    """Before any training: a split that could not be scored after it."""
    there = [name for i, name in enumerate(SPLITS) if np.any(split_N == i)]
    for split in config.evaluation.splits:
        if split not in there:
            raise CumaError(
                f"config field evaluation.splits asks for {split!r}, which has no rows here; the data have "
                f"{', '.join(there)}. Raise its share in data.*, or change evaluation.splits"
            )


def check_needs(config: Config, source: Survey | Preferences) -> None:
    """Checks that the source has what the config's method is about.

    Raises:
        CumaError: a lookup by a field that the source lacks; a profile in the prompt, but nobody has one; shots of
            conversations.
    """
    profile, known = config.profile, (*source.profile_fields, *other_fields(source))
    if config.router.inputs == "lookup" and profile.fields[0] not in known:
        raise CumaError(
            f"method per_country (router.inputs lookup) has one expert for each {profile.fields[0]}, but "
            f"{source.name!r} has no such field (it has: {', '.join(known) or 'none'}); name another in "
            "profile.fields, or choose another method"
        )
    if profile.in_prompt and not (profile.fields or source.profile_fields):
        raise CumaError(
            f"the persona methods (profile.in_prompt) write who is asked in the prompt, but {source.name!r} has no "
            f"profile fields by default; name some in profile.fields ({', '.join(known) or 'it has none at all'}), or "
            "choose another method"
        )
    if config.data.questions_per_batch and not isinstance(source, Survey):
        raise CumaError(
            f"data.questions_per_batch is {config.data.questions_per_batch}, but {source.name!r} is read as "
            "conversations, which have no questions; set it to 0"
        )
    if profile.shots and not isinstance(source, Survey):
        raise CumaError(
            f"profile.shots is {profile.shots} (method persona_few_shot), which shows answers to survey questions, but "
            f"{source.name!r} is read as conversations; use the objective choice, or set profile.shots to 0"
        )


def read_data(config: Config, check: Callable[[Contents], None] = lambda known: None) -> RunData:
    """Reads a config's source, its profiles and its splits; `check` is called with the keys of what was read.

    Raises:
        CumaError: whatever is wrong with the data, or with what the config asks of them.
    """
    source = load_source(config.data, config.reads_choices, str(cache_dir(config.run.cache_dir)), config.profile)
    check(known := contents(source))
    check_needs(config, source)
    units = source_units(source)
    profiles = source_profiles(source, config.profile)
    # Once, of all rows: a split of those that are left when some are too long could hold out others.
    split_N, split_table = split_and_table(units, config.data)
    known["split"] = [len(split_N), content_key(split_N)]
    check(known)
    check_splits(config, split_N)
    train_N, train_P = split_N == SPLITS.index("train"), np.zeros(len(profiles), bool)
    train_P[profiles.profile_R[units.person_N[train_N]]] = True
    return RunData(source, units, profiles, split_N, train_P, split_table=split_table, contents=known)
