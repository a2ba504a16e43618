"""The tokens of everything a run reads: pieces of survey rows, or whole conversations or pairs (kept in the cache).

Shapes: A answers, C conversations, X tokens of all conversations.
"""

from collections.abc import Iterable

import numpy as np

from cuma_jax.config import Config
from cuma_jax.data.batches import Buckets, fitting_rows
from cuma_jax.data.conversations import VERSION, ConversationTokens, build_conversation_tokens, chat
from cuma_jax.data.pairs import PairTokens
from cuma_jax.data.preference_pairs import VERSION as PAIRS_VERSION
from cuma_jax.data.preference_pairs import PairRules, build_preference_pairs
from cuma_jax.data.shots import build_shots
from cuma_jax.data.survey_tokens import SurveyTokens, build_survey_tokens
from cuma_jax.preferences.load import cached_folder
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.runtime.files import atomic_write, cache_dir, content_key
from cuma_jax.surveys.profiles import Profiles, profile_text
from cuma_jax.surveys.survey import Survey
from cuma_jax.tokenization.tokenizer import Message, Tokenizer


def survey_tokens(
    config: Config,
    survey: Survey,
    profiles: Profiles,
    tokenizer: Tokenizer,
    forms: Iterable[str],
    train_A: np.ndarray | None = None,
) -> dict[str, SurveyTokens]:
    """Token pieces of a survey's answers, by form.

    `forms` say how an answer is written: choice, sft (see `build_survey_tokens`). They come in one order in all
    processes: what is computed of them on the devices is computed together. Shots show some of the answers `train_A`.

    Raises:
        CumaError: see `build_survey_tokens`.
    """
    in_prompt, shots = profiles if config.profile.in_prompt else None, None
    if config.profile.shots:
        assert train_A is not None
        shots = build_shots(survey, profiles, train_A, config.profile.shots, config.data.split_seed)
    return {form: build_survey_tokens(survey.questions, in_prompt, tokenizer, form, shots) for form in forms}


def fitting_answers(
    config: Config, survey: Survey, profiles: Profiles, tokens: dict[str, SurveyTokens]
) -> tuple[np.ndarray, dict[str, int]]:
    """Answers whose rows are not too long, bool [A], and how many are, by question.

    Raises:
        CumaError: a row is too long and `data.too_long` is error.
    """
    limit = Buckets(config.data.buckets).limit(config.data.max_length)
    fits_A, left_out = np.ones(survey.num_answers, bool), dict[str, int]()
    for pieces in tokens.values():
        longest = pieces.template_lengths_M.max() + max((len(piece) for piece in pieces.system), default=0)
        if longest <= limit:  # nothing to look for, in what may be millions of answers
            continue
        profile_A, zeros_A = profiles.profile_R[survey.respondent_A], np.zeros(survey.num_answers, np.int32)
        # Every option's row is as long as the first's.
        fits, found = fitting_rows(pieces, profile_A, survey.question_A, zeros_A, limit, config.data.too_long)
        fits_A, left_out = fits_A & fits, found or left_out
    return fits_A, left_out


def conversation_tokens(
    config: Config,
    source: Preferences,
    profiles: Profiles,
    tokenizer: Tokenizer,
    cache: str = "",
    progress: bool = True,
) -> ConversationTokens:
    """Tokens of all conversations of preference data, whatever the run's objective.

    Raises:
        CumaError: see `build_conversation_tokens`.
    """
    data, person_C = config.data, source.conversations["person"].to_numpy()
    texts = [profile_text(profiles, p) for p in range(len(profiles))] if config.profile.in_prompt else []

    def messages(c: int) -> list[Message]:
        return chat(source, c, texts[int(profiles.profile_R[person_C[c]])] if texts else None)

    limit = Buckets(data.buckets).limit(data.max_length)
    people = profiles.profile_R[person_C] if texts else np.zeros(0, np.int32)
    content = cached_folder(data, cache).name  # its key is that of the conversations
    key = content_key(VERSION, content, tokenizer.fingerprint, str(limit), data.too_long, people, *texts)
    path = cache_dir(cache) / "tokens" / f"{key}.npz"
    if path.is_file():
        return ConversationTokens.load(path)
    names = source.conversations["conversation_id"].tolist()
    tokens = build_conversation_tokens(messages, names, tokenizer, limit, data.too_long, progress)
    atomic_write(path, tokens.save)
    return tokens


def tokenise_pairs(
    config: Config,
    source: Preferences,
    profiles: Profiles,
    tokenizer: Tokenizer,
    cache: str = "",
    progress: bool = True,
) -> PairTokens:
    """Tokens of all pairs of preference data, whatever the run's objective.

    Raises:
        CumaError: see `build_preference_pairs`.
    """
    data, dpo = config.data, config.dpo
    limit = Buckets(data.buckets).limit(data.max_length)
    rules = PairRules(config.profile.in_prompt, dpo.min_margin, limit, data.too_long, data.bad_rows)
    texts = [profile_text(profiles, p) for p in range(len(profiles))] if config.profile.in_prompt else []
    content = cached_folder(data, cache).name  # its key is that of the conversations
    # Which profile a reply belongs to is kept with its tokens; which pairs are too long is not.
    key = content_key(PAIRS_VERSION, content, tokenizer.fingerprint, str(dpo.min_margin), profiles.profile_R, *texts)
    return build_preference_pairs(
        source, profiles, tokenizer, rules, progress, cache_dir(cache) / "tokens" / f"pairs-{key}.npz"
    )
