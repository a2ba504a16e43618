"""Rows as the model sees them, with the tokens that the loss is taken on marked: for people to read.

They are rendered by the same functions as training rows. Shapes: N examples.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from cuma_jax.config import Config
from cuma_jax.data.batches import Buckets
from cuma_jax.data.conversations import build_conversation_tokens, chat
from cuma_jax.data.load import source_units
from cuma_jax.data.pairs import other_options
from cuma_jax.data.preference_pairs import pair_chat, reply_tokens
from cuma_jax.data.shots import Shots, build_shots
from cuma_jax.data.survey_tokens import build_survey_tokens
from cuma_jax.hub.model_files import resolve
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import Pairs, pair_messages, preference_pairs
from cuma_jax.run.objective import objective_of
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import Profiles, profile_text
from cuma_jax.surveys.prompts import question_message, system_message
from cuma_jax.surveys.splits import TRAIN, split_rows
from cuma_jax.surveys.survey import Survey
from cuma_jax.tokenization.tokenizer import Message, Tokenizer, load_tokenizer

Segment = tuple[str, bool]
"""A stretch of text, and whether its tokens are supervised."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One row to look at.

    Attributes:
        title: whose it is, e.g. `invented.0007, invented.tea`.
        profile: what the router is told of the person.
        tokens, supervised: how many tokens, and how many of them the loss is taken on; None without a tokenizer.
        note: what training does to the row besides: shortens it, or leaves it out.
    """

    title: str
    profile: str
    segments: tuple[Segment, ...]
    tokens: int | None = None
    supervised: int | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The example as plain JSON values; `text` is the row, `supervised_texts` the marked stretches of it."""
        return {
            "title": self.title,
            "profile": self.profile,
            "text": "".join(text for text, _ in self.segments),
            "supervised_texts": [text for text, marked in self.segments if marked],
            "tokens": self.tokens,
            "supervised_tokens": self.supervised,
            "note": self.note,
        }


def try_tokenizer(config: Config, cache_dir: str) -> tuple[Tokenizer | None, str]:
    """The tokenizer of a config's model, or None and why there is none."""
    source = config.model.tokenizer or config.model.source
    try:
        revision = "" if config.model.tokenizer else config.model.revision
        return load_tokenizer(resolve(source, revision, cache_dir, weights=False)), ""
    except CumaError as error:
        return None, str(error)


def draw_answers(survey: Survey, n: int, seed: int) -> list[int]:
    """Positions of `n` answers, of different questions as long as there are some."""
    rng = np.random.default_rng(seed)
    answered = np.flatnonzero(np.bincount(survey.question_A, minlength=len(survey.questions)))
    if not len(answered):
        return []
    questions = np.concatenate([rng.permutation(answered) for _ in range(-(-n // len(answered)))])[:n]
    return [int(rng.choice(np.flatnonzero(survey.question_A == question))) for question in questions]


def survey_example(
    survey: Survey,
    profiles: Profiles,
    answer: int,
    tokenizer: Tokenizer | None,
    config: Config,
    shots: Shots | None = None,
) -> Example:
    """The row of one answer; `shots`: of all profiles, where they are in the prompt.

    For the objective `choice` the answer's letter is supervised; for `sft` the letter and the end of the turn.
    """
    respondent, option = int(survey.respondent_A[answer]), int(survey.option_A[answer])
    question = survey.questions[survey.question_A[answer]]
    row = int(profiles.profile_R[respondent])
    person = survey.respondents["respondent_id"].iloc[respondent]
    title, profile = f"{person}, {question.id}", profile_text(profiles, row)
    if shots is not None:
        variant = shots.variant(np.array([row]), survey.question_A[[answer]])[0]
        profile += shots.text(row, int(variant))
    if tokenizer is None:
        system = system_message(profile if config.profile.in_prompt else None)
        text = f"system: {system}\nuser: {question_message(question)}\nassistant: "
        return Example(title, profile, ((text, False), (chr(ord("A") + option), True)))
    # A survey of this one question and person: the same pieces as in training, and only those.
    alone = dataclasses.replace(profiles, codes_PF=profiles.codes_PF[[row]], profile_R=np.zeros(1, np.int32))
    in_prompt = alone if config.profile.in_prompt else None
    own = None if shots is None else shots.alone(row, int(survey.question_A[answer]))
    pieces = build_survey_tokens([question], in_prompt, tokenizer, objective_of(config).answer_tokens, own)
    first, template = np.zeros(1, np.int32), pieces.template_QO[[0], [option]]
    fed = pieces.fill(first, template, int(pieces.lengths(first, template)[0]))[0].tolist()
    letter = int(pieces.option_ids_QO[0, option])
    labels = [letter, *pieces.labels_MS[template[0], 1:].tolist()]
    prompt = fed[: len(fed) - (len(labels) - 1)]
    ids, mask = [*prompt, *labels], [False] * len(prompt) + [True] * len(labels)
    return Example(title, profile, segments(ids, mask, tokenizer), len(ids), len(labels))


def conversation_example(
    preferences: Preferences, profiles: Profiles, conversation: int, tokenizer: Tokenizer | None, config: Config
) -> Example:
    """A whole conversation; every turn of the assistant and its end are supervised.

    It is shortened where training would shorten it; one that training would refuse or leave out is shown without
    tokens, and why.
    """
    row = preferences.conversations.iloc[conversation]
    person, name = int(row["person"]), str(row["conversation_id"])
    title = f"{preferences.respondents['respondent_id'].iloc[person]}, conversation {name}"
    profile = profile_text(profiles, int(profiles.profile_R[person]))
    messages = chat(preferences, conversation, profile if config.profile.in_prompt else None)
    limit, note = Buckets(config.data.buckets).limit(config.data.max_length), ""
    if tokenizer is not None:
        try:
            tokens = build_conversation_tokens(lambda _: messages, [name], tokenizer, limit, "error", progress=False)
            ids, mask = tokens.ids_X.tolist(), tokens.supervised_X.tolist()
            return Example(title, profile, segments(ids, mask, tokenizer), len(ids), sum(mask), "; ".join(tokens.notes))
        except CumaError as error:
            note = str(error)
    parts: list[Segment] = []
    for message in messages:
        parts += [(f"{message['role']}: ", False), (message["content"], message["role"] == "assistant"), ("\n", False)]
    return Example(title, profile, tuple(parts), note=note)


def segments(ids: list[int], mask: list[bool], tokenizer: Tokenizer) -> tuple[Segment, ...]:
    """Runs of tokens that are supervised or not, each decoded by itself."""
    runs = itertools.groupby(zip(ids, map(bool, mask), strict=True), key=lambda pair: pair[1])
    return tuple((tokenizer.decode([token for token, _ in run]), marked) for marked, run in runs)


def survey_rows(
    survey: Survey, profiles: Profiles, tokenizer: Tokenizer | None, config: Config, count: int, seed: int
) -> list[Example]:
    """`count` answers, or their pairs."""
    shots = None
    if config.profile.in_prompt and config.profile.shots:
        train_A = split_rows(source_units(survey), config.data) == TRAIN
        shots = build_shots(survey, profiles, train_A, config.profile.shots, config.data.split_seed)
    answers = draw_answers(survey, count, seed)
    if not objective_of(config).pairs_replies:
        return [survey_example(survey, profiles, a, tokenizer, config, shots) for a in answers]
    return [row for a in answers for row in survey_pair_examples(survey, profiles, a, tokenizer, config, shots)]


def conversation_rows(
    source: Preferences, profiles: Profiles, tokenizer: Tokenizer | None, config: Config, count: int, seed: int
) -> list[Example]:
    """`count` conversations, or as many pairs."""
    rng = np.random.default_rng(seed)
    if not objective_of(config).pairs_replies:
        picked = rng.permutation(len(source.conversations))[:count].tolist()
        return [conversation_example(source, profiles, c, tokenizer, config) for c in picked]
    pairs = preference_pairs(source, config.dpo.min_margin)
    picked = rng.permutation(len(pairs))[:count].tolist()
    return [row for p in picked for row in text_pair_examples(source, profiles, pairs, p, tokenizer, config)]


def survey_pair_examples(
    survey: Survey,
    profiles: Profiles,
    answer: int,
    tokenizer: Tokenizer | None,
    config: Config,
    shots: Shots | None = None,
) -> list[Example]:
    """Both sides of an answer's pair; see `survey_example`."""
    one = survey_example(survey, profiles, answer, tokenizer, config, shots)
    option_A = survey.option_A.copy()
    option_A[answer] = other_options(survey, np.array([answer]), config.data.split_seed)[0]
    swapped = dataclasses.replace(survey, option_A=option_A)
    other = survey_example(swapped, profiles, answer, tokenizer, config, shots)
    return _sides(one, other)


def text_pair_examples(
    source: Preferences, profiles: Profiles, pairs: Pairs, pair: int, tokenizer: Tokenizer | None, config: Config
) -> list[Example]:
    """Both sides of a pair; only the last turn is supervised. What training would refuse is shown with the reason."""
    conversation = source.turns["conversation"][int(pairs.turn_P[pair])].as_py()
    row = source.conversations.iloc[conversation]
    person, turn = int(row["person"]), source.turns["turn"][int(pairs.turn_P[pair])].as_py() + 1
    profile = profile_text(profiles, int(profiles.profile_R[person]))
    name = source.respondents["respondent_id"].iloc[person]
    title = f"{name}, conversation {row['conversation_id']}, turn {turn}"
    messages = pair_chat(source, pairs, pair, profile if config.profile.in_prompt else None)
    _, *replies = pair_messages(source, pairs, pair)
    limit = Buckets(config.data.buckets).limit(config.data.max_length)
    return _sides(*(_side(title, profile, messages, reply, tokenizer, limit) for reply in replies))


def _side(
    title: str, profile: str, messages: list[Message], reply: str, tokenizer: Tokenizer | None, limit: int
) -> Example:
    note = ""
    if tokenizer is not None:
        try:
            prompt, own = reply_tokens(tokenizer, messages, reply)
        except CumaError as error:
            note = str(error)
        else:
            ids, mask = [*prompt.tolist(), *own.tolist()], [False] * len(prompt) + [True] * len(own)
            if len(ids) - 1 > limit:
                note = f"longer than data.max_length: {len(ids) - 1} tokens, at most {limit}"
            return Example(title, profile, segments(ids, mask, tokenizer), len(ids), len(own), note)
    parts: list[Segment] = [(f"{message['role']}: {message['content']}\n", False) for message in messages]
    return Example(title, profile, (*parts, ("assistant: ", False), (reply, True)), note=note)


def _sides(*examples: Example) -> list[Example]:
    return [
        dataclasses.replace(example, title=f"{example.title}: the {side} reply")
        for example, side in zip(examples, ("preferred", "other"), strict=True)
    ]
