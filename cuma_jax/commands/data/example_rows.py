"""Draws the rows that `python -m cuma_jax.data show` prints: single ones, or for dpo both sides of pairs."""

import numpy as np

from cuma_jax.commands.data.examples import Example, conversation_example, draw_answers, survey_example
from cuma_jax.commands.data.pair_examples import survey_pair_examples, text_pair_examples
from cuma_jax.config import Config
from cuma_jax.data.load import source_units
from cuma_jax.data.shots import build_shots
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import preference_pairs
from cuma_jax.run.objective import objective_of
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.splits import TRAIN, split_rows
from cuma_jax.surveys.survey import Survey
from cuma_jax.tokenization.tokenizer import Tokenizer


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
