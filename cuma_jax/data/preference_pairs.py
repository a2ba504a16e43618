"""Pairs from preference data: every candidate of a turn is rendered and tokenised once, and kept in the cache.

Only the last turn, the candidate, is supervised, its end of turn included.

Shapes: P pairs, X replies (candidates), T turns that have pairs, K tokens of a row; 2: the chosen reply, the rejected.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc
from tqdm import tqdm

from cuma_jax.data.pairs import PairTokens
from cuma_jax.data.reply_tokens import TextReplyTokens
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import Pairs, pair_messages, preference_pairs
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write
from cuma_jax.surveys.profiles import Profiles, profile_text
from cuma_jax.surveys.prompts import conversation_system_message
from cuma_jax.tokenization.tokenizer import Message, Tokenizer

VERSION = "1"
"""Raised whenever the same pairs would get other tokens: part of the cache key."""
TOO_LONG = "pairs with a reply beyond data.max_length"
EQUAL = "pairs whose sides are equal once they are rendered"


@dataclasses.dataclass(frozen=True)
class PairRules:
    """How pairs of texts are made; fields as in the config, `in_prompt`: the profile is in the system message."""

    in_prompt: bool
    min_margin: float
    max_length: int  # most tokens fed for one side
    too_long: str  # `error`, or `skip`: leave pairs that are longer out and count them
    bad_rows: str  # the same, for pairs whose sides are equal once they are rendered


def build_preference_pairs(
    source: Preferences,
    profiles: Profiles,
    tokenizer: Tokenizer,
    rules: PairRules,
    progress: bool = True,
    cached: pathlib.Path | None = None,
) -> PairTokens:
    """The chosen candidate of every turn against each other; every candidate is rendered and tokenised once.

    `cached` is the file where the tokens are kept; its name is the key of their content.

    Raises:
        CumaError: no pair, or one that is too long or equal (with `error`), or cannot be rendered.
    """
    pairs = preference_pairs(source, rules.min_margin)
    if not len(pairs):
        why = "; ".join(f"{reason}: {count:,}" for reason, count in pairs.skipped.items())
        raise CumaError(
            f"{source.name} has no pairs for the objective dpo: no turn where a person chose between two replies"
            f"{f' ({why})' if why else ''}"
        )
    turn_T, first_T = np.unique(pairs.turn_P, return_index=True)
    if cached is not None and cached.is_file():
        replies = TextReplyTokens.load(cached)
    else:
        replies = _tokenise(source, profiles, tokenizer, rules, pairs, first_T, progress)
        if cached is not None:
            atomic_write(cached, replies.save)
    count_T = pc.list_value_length(source.turns["candidates"]).to_numpy()[turn_T]
    start_T = np.cumsum(count_T) - count_T
    of_P = np.searchsorted(turn_T, pairs.turn_P)
    reply_P2 = start_T[of_P][:, None] + np.stack([pairs.chosen_P, pairs.rejected_P], axis=1)
    conversation_P = source.turns["conversation"].to_numpy()[pairs.turn_P].astype(np.int64)
    names = source.conversations["conversation_id"].tolist()
    kept_P, notes = _usable(replies, reply_P2, rules, [names[c] for c in conversation_P])
    return PairTokens(
        replies=replies,
        reply_P2=reply_P2[kept_P],
        turn_X=np.repeat(turn_T, count_T).astype(np.int64),
        row_P=conversation_P[kept_P],
        person_P=source.conversations["person"].to_numpy()[conversation_P[kept_P]].astype(np.int64),
        question_P=None,
        items=names,
        item_P=conversation_P[kept_P],
        notes=dict(pairs.skipped) | notes,
    )


def pair_chat(source: Preferences, pairs: Pairs, pair: int, profile: str | None) -> list[Message]:
    """What both replies of a pair answer: the turns up to the user's, after a system message with `profile`."""
    messages, _, _ = pair_messages(source, pairs, pair)
    if profile is None:
        return messages
    return [{"role": "system", "content": conversation_system_message(profile)}, *messages]


def reply_tokens(tokenizer: Tokenizer, messages: Sequence[Message], reply: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of a chat up to a reply, and of the reply with its end of turn; int32.

    Raises:
        CumaError: see `Tokenizer.supervised_tokens`.
    """
    ids, mask_K = tokenizer.supervised_tokens([*messages, {"role": "assistant", "content": reply}])
    last = int(np.flatnonzero(mask_K)[-1])
    first = int(np.flatnonzero(~mask_K[: last + 1])[-1]) + 1  # earlier turns of the assistant are marked, too
    return np.array(ids[:first], np.int32), np.array(ids[first : last + 1], np.int32)


def _tokenise(
    source: Preferences,
    profiles: Profiles,
    tokenizer: Tokenizer,
    rules: PairRules,
    pairs: Pairs,
    first_T: np.ndarray,
    progress: bool,
) -> TextReplyTokens:
    """All candidates of the turns that have pairs; pair `first_T[t]` is the first of turn t."""
    prompts: list[np.ndarray] = []
    replies: list[np.ndarray] = []
    prompt_X: list[int] = []
    profile_X: list[int] = []
    conversation_T, person_C = source.turns["conversation"].to_numpy(), source.conversations["person"].to_numpy()
    candidates_T = source.turns["candidates"].combine_chunks()
    quiet = not progress or not sys.stderr.isatty()
    for p in tqdm(first_T.tolist(), desc="tokenising pairs", unit="turn", disable=quiet, dynamic_ncols=True):
        turn = int(pairs.turn_P[p])
        conversation = int(conversation_T[turn])
        profile = int(profiles.profile_R[person_C[conversation]])
        messages = pair_chat(source, pairs, p, profile_text(profiles, profile) if rules.in_prompt else None)
        fresh = True
        for candidate in candidates_T[turn].as_py():
            try:
                prompt, reply = reply_tokens(tokenizer, messages, candidate)
            except CumaError as error:
                name = source.conversations["conversation_id"].iloc[conversation]
                raise CumaError(f"conversation {name}: {error}") from None
            if fresh or not np.array_equal(prompt, prompts[-1]):
                prompts.append(prompt)
            fresh = False
            replies.append(reply)
            prompt_X.append(len(prompts) - 1)
            profile_X.append(profile)
    return TextReplyTokens(
        prompt_ids=np.concatenate(prompts),
        prompt_start=np.cumsum([0, *map(len, prompts)]),
        reply_ids=np.concatenate(replies),
        reply_start=np.cumsum([0, *map(len, replies)]),
        prompt_X=np.array(prompt_X, np.int32),
        profile_X=np.array(profile_X, np.int32),
        pad_id=tokenizer.pad_id,
    )


def _usable(
    replies: TextReplyTokens, reply_P2: np.ndarray, rules: PairRules, names: Sequence[str]
) -> tuple[np.ndarray, dict[str, int]]:
    """Which pairs can be compared and are not too long, bool [P], and how many are not, by reason."""
    fed_P = replies.fed_X[reply_P2].max(axis=1)
    long_P = fed_P > rules.max_length
    if long_P.any() and rules.too_long == "error":
        worst = int(np.argmax(fed_P))
        raise CumaError(
            f"conversation {names[worst]} has a pair with a side of {fed_P[worst]} tokens, more than data.max_length "
            f"{rules.max_length}; raise it (with a bucket as long in data.buckets), or leave such pairs out and "
            "counted with --data.too_long skip"
        )
    equal_P = np.zeros(len(reply_P2), bool)
    size_P2 = replies.supervised_X[reply_P2]
    for p in np.flatnonzero(size_P2[:, 0] == size_P2[:, 1]):
        one, other = (replies.tokens(int(x))[1] for x in reply_P2[p])
        equal_P[p] = np.array_equal(one, other)
    if equal_P.any() and rules.bad_rows == "error":
        raise CumaError(
            f"conversation {names[int(np.argmax(equal_P))]} has a pair whose sides are equal once they are rendered: "
            "nothing can be learned from it; correct the file, or leave such pairs out and counted with "
            "--data.bad_rows skip"
        )
    kept_P = ~(long_P | equal_P)
    notes = {TOO_LONG: int(long_P.sum()), EQUAL: int((equal_P & ~long_P).sum())}
    notes = {reason: count for reason, count in notes.items() if count}
    if not kept_P.any():
        raise CumaError(f"no pair is left: {'; '.join(f'{reason}: {count:,}' for reason, count in notes.items())}")
    return kept_P, notes
