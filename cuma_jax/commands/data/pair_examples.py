"""Pairs as the model sees them, for people to read: the preferred reply and the other, supervised tokens marked."""

import dataclasses

import numpy as np

from cuma_jax.commands.data.examples import Example, Segment, segments, survey_example
from cuma_jax.config import Config
from cuma_jax.data.batches import Buckets
from cuma_jax.data.pairs import other_options
from cuma_jax.data.preference_pairs import pair_chat, reply_tokens
from cuma_jax.data.shots import Shots
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import Pairs, pair_messages
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import Profiles, profile_text
from cuma_jax.surveys.survey import Survey
from cuma_jax.tokenization.tokenizer import Message, Tokenizer

SIDES = ("preferred", "other")


def survey_pair_examples(
    survey: Survey,
    profiles: Profiles,
    answer: int,
    tokenizer: Tokenizer | None,
    config: Config,
    shots: Shots | None = None,
) -> list[Example]:
    """Both sides of an answer's pair; see `survey_example`. One side where the question has one option."""
    one = survey_example(survey, profiles, answer, tokenizer, config, shots)
    if len(survey.questions[survey.question_A[answer]].options) < 2:
        return [dataclasses.replace(one, note="a question with one option: there is no pair")]
    option_A = survey.option_A.copy()
    option_A[answer] = other_options(survey, np.array([answer]), config.data.split_seed)[0]
    swapped = dataclasses.replace(survey, option_A=option_A)
    other = survey_example(swapped, profiles, answer, tokenizer, config, shots)
    return [_named(example, side) for example, side in zip((one, other), SIDES, strict=True)]


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
    found = [_side(title, profile, messages, reply, tokenizer, limit) for reply in replies]
    return [_named(example, side) for example, side in zip(found, SIDES, strict=True)]


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


def _named(example: Example, side: str) -> Example:
    return dataclasses.replace(example, title=f"{example.title}: the {side} reply")
