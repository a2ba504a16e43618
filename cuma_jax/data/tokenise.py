"""The tokens of everything a run reads: pieces of survey rows, or whole conversations or pairs (kept in the cache).

Shapes: A answers, C conversations, X tokens of all conversations.
"""

import dataclasses
import pathlib
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


@dataclasses.dataclass(frozen=True)
class Conversations:
    """Preference data as they are before any weights are read.

    Attributes:
        tokenizer: the base's.
        cache: the cache folder.
        progress: whether slow steps are reported on stderr.
    """

    config: Config
    source: Preferences
    profiles: Profiles
    tokenizer: Tokenizer
    cache: str
    progress: bool

    @property
    def limit(self) -> int:
        """Most tokens of a row."""
        return Buckets(self.config.data.buckets).limit(self.config.data.max_length)

    @property
    def texts(self) -> list[str]:
        """What prompts say of each profile; empty where they say nothing."""
        count = len(self.profiles) if self.config.profile.in_prompt else 0
        return [profile_text(self.profiles, p) for p in range(count)]

    def file(self, name: str, version: str, *parts: str | np.ndarray) -> pathlib.Path:
        """Where tokens are kept: by `version`, what the conversations and the tokenizer are, and `parts`."""
        content = cached_folder(self.config.data, self.cache).name  # its key is that of the conversations
        key = content_key(version, content, self.tokenizer.fingerprint, *parts)
        return cache_dir(self.cache) / "tokens" / f"{name}{key}.npz"


def conversation_tokens(of: Conversations) -> ConversationTokens:
    """Tokens of all conversations of preference data, whatever the run's objective.

    Raises:
        CumaError: see `build_conversation_tokens`.
    """
    texts, limit, too_long = of.texts, of.limit, of.config.data.too_long
    profile_C = of.profiles.profile_R[of.source.conversations["person"].to_numpy()]

    def messages(c: int) -> list[Message]:
        return chat(of.source, c, texts[int(profile_C[c])] if texts else None)

    path = of.file("", VERSION, str(limit), too_long, profile_C if texts else np.zeros(0, np.int32), *texts)
    if path.is_file():
        return ConversationTokens.load(path)
    names = of.source.conversations["conversation_id"].tolist()
    tokens = build_conversation_tokens(messages, names, of.tokenizer, limit, too_long, of.progress)
    atomic_write(path, tokens.save)
    return tokens


def tokenise_pairs(of: Conversations) -> PairTokens:
    """Tokens of all pairs of preference data, whatever the run's objective.

    Raises:
        CumaError: see `build_preference_pairs`.
    """
    data, least = of.config.data, of.config.dpo.min_margin
    rules = PairRules(of.config.profile.in_prompt, least, of.limit, data.too_long, data.bad_rows)
    # Which profile a reply belongs to is kept with its tokens; which pairs are too long is not.
    path = of.file("pairs-", PAIRS_VERSION, str(least), of.profiles.profile_R, *of.texts)
    return build_preference_pairs(of.source, of.profiles, of.tokenizer, rules, of.progress, path)
