"""The rows that `python -m cuma_jax.data show` prints: single ones, or for dpo both sides of pairs, tokens marked."""

import dataclasses

import numpy as np

from cuma_jax.commands.data.examples import (
    Example,
    Segment,
    conversation_example,
    draw_answers,
    segments,
    survey_example,
)
from cuma_jax.config import Config
from cuma_jax.data.batches import Buckets
from cuma_jax.data.load import source_units
from cuma_jax.data.pairs import other_options
from cuma_jax.data.preference_pairs import pair_chat, reply_tokens
from cuma_jax.data.shots import Shots, build_shots
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import Pairs, pair_messages, preference_pairs
from cuma_jax.run.objective import objective_of
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import Profiles, profile_text
from cuma_jax.surveys.splits import TRAIN, split_rows
from cuma_jax.surveys.survey import Survey
from cuma_jax.tokenization.tokenizer import Message, Tokenizer


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
    """Both sides of an answer's pair; see `survey_example`. One side where the question has one option."""
    one = survey_example(survey, profiles, answer, tokenizer, config, shots)
    if len(survey.questions[survey.question_A[answer]].options) < 2:
        return [dataclasses.replace(one, note="a question with one option: there is no pair")]
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
