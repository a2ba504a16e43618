"""Single replies as rows: a prompt, and the reply whose tokens are supervised (its end of turn included).

Pairs are made of two of them; several pairs may share a reply, so each is kept, and scored, once.

Shapes: X replies, T turns, N rows or B rows of a batch (numbers of replies), K tokens of a row, S supervised positions.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from cuma_jax.data.batches import POSITIONS, Batch, Buckets, HiddenCache, row_weights, survey_rows
from cuma_jax.data.survey_tokens import SurveyTokens
from cuma_jax.runtime.files import cached_arrays


@dataclasses.dataclass(frozen=True)
class TextReplyTokens:
    """Replies as texts: prompts and replies, all tokens of each one after the other."""

    prompt_ids: np.ndarray  # int32
    prompt_start: np.ndarray  # int64 [prompts + 1]
    reply_ids: np.ndarray  # int32
    reply_start: np.ndarray  # int64 [X + 1]
    prompt_X: np.ndarray  # int32, the prompt of each reply
    profile_X: np.ndarray  # int32, row of the profile table
    pad_id: int

    moves_up = True  # whether a reply may be in a batch of a longer bucket than its own

    @property
    def supervised_X(self) -> np.ndarray:
        """int64 [X], supervised tokens."""
        return np.diff(self.reply_start)

    @property
    def fed_X(self) -> np.ndarray:
        """int64 [X], tokens fed to the model: all but the last, which is only predicted."""
        return np.diff(self.prompt_start)[self.prompt_X] + self.supervised_X - 1

    def tokens(self, reply: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of a reply's prompt, and its own."""
        p = int(self.prompt_X[reply])
        prompt = self.prompt_ids[self.prompt_start[p] : self.prompt_start[p + 1]]
        return prompt, self.reply_ids[self.reply_start[reply] : self.reply_start[reply + 1]]

    def fill(self, reply_N: np.ndarray, length: int, supervised: int) -> Batch:
        """Rows: tokens int32 [N,K] of `length`, lengths int32 [N], positions and labels int32 and label_weight float32
        [N,S] of `supervised`."""
        size = len(reply_N)
        batch: Batch = {
            "tokens": np.full((size, length), self.pad_id, np.int32),
            "lengths": self.fed_X[reply_N].astype(np.int32),
            "positions": np.zeros((size, supervised), np.int32),
            "labels": np.zeros((size, supervised), np.int32),
            "label_weight": np.zeros((size, supervised), np.float32),
        }
        for n, x in enumerate(reply_N):
            prompt, reply = self.tokens(int(x))
            at, count = len(prompt), len(reply)
            batch["tokens"][n, :at] = prompt
            batch["tokens"][n, at : at + count - 1] = reply[:-1]
            # The logits of the token before a supervised one predict it.
            batch["positions"][n, :count] = at - 1 + np.arange(count)
            batch["labels"][n, :count] = reply
            batch["label_weight"][n, :count] = 1.0
        return batch

    def content(self, reply_N: np.ndarray) -> tuple[np.ndarray, ...]:
        """Arrays that decide what the rows of these replies hold, for a key."""
        arrays = (self.prompt_ids, self.prompt_start, self.reply_ids, self.reply_start, self.prompt_X, self.profile_X)
        return (*arrays, reply_N)

    def save(self, path: pathlib.Path) -> None:
        """Writes them to one .npz file (no pickle)."""
        np.savez(
            path, allow_pickle=False, **{f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self)}
        )

    @classmethod
    def load(cls, path: pathlib.Path) -> "TextReplyTokens":
        """Reads what `save` wrote; a `CumaError` for a damaged file."""
        arrays: dict[str, Any] = cached_arrays(path)
        return cls(**arrays | {"pad_id": int(arrays["pad_id"])})


@dataclasses.dataclass(frozen=True)
class SurveyReplyTokens:
    """Answers to survey questions (the letter and the end of the turn), from pieces that are tokenised once."""

    profile_X: np.ndarray  # int32, whose answer: row of the profile table
    template_X: np.ndarray  # int32, which (`SurveyTokens.templates`)
    pieces: SurveyTokens  # of the survey, as for the objective sft
    cache: HiddenCache | None = None  # for batches that name hidden states' places instead of holding tokens

    @property
    def moves_up(self) -> bool:
        """Not where a table has no place for it."""
        return self.cache is None

    @property
    def fed_X(self) -> np.ndarray:
        """int32 [X]; this and the next: see `TextReplyTokens`."""
        return self.pieces.lengths(self.profile_X, self.template_X)

    @property
    def supervised_X(self) -> np.ndarray:
        """int64 [X]."""
        return np.full(len(self.profile_X), self.pieces.supervised)

    def fill(self, reply_N: np.ndarray, length: int, supervised: int) -> Batch:
        """See `TextReplyTokens`; with a cache, template int32 [N] instead of tokens. There are always
        `SurveyTokens.supervised` positions."""
        profile_N, template_N = self.profile_X[reply_N], self.template_X[reply_N]
        return survey_rows(self.pieces, self.cache, profile_N, template_N, length) | {
            "labels": self.pieces.labels_MS[template_N],
            "label_weight": np.ones((len(reply_N), self.pieces.supervised), np.float32),
        }

    def content(self, reply_N: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `TextReplyTokens`."""
        pieces = [*self.pieces.templates, *self.pieces.system, self.pieces.labels_MS.ravel()]
        sizes = np.array([len(piece) for piece in pieces])
        return np.concatenate(pieces), sizes, self.profile_X[reply_N], self.template_X[reply_N]


ReplyTokens = TextReplyTokens | SurveyReplyTokens


def supervised_widths(supervised_N: np.ndarray, bucket_N: np.ndarray, buckets: int) -> list[int]:
    """Supervised positions S of batches of each bucket: those of the row with most in it or a shorter one, and then up
    to a multiple of the cross-entropy's chunk (few positions stay as they are)."""
    most_K = [int(supervised_N[bucket_N <= b].max(initial=1)) for b in range(buckets)]
    return [most if most < POSITIONS // 4 else -(-most // POSITIONS) * POSITIONS for most in most_K]


class ReplyBatcher:
    """Replies `reply_N` as batches, to be scored; see `pipeline.Batcher`."""

    question_N = None

    def __init__(self, replies: ReplyTokens, reply_N: np.ndarray, buckets: Buckets):
        self.replies, self.reply_N, self.buckets = replies, reply_N, buckets
        self.bucket_N = buckets.of(replies.fed_X[reply_N], buckets.lengths[-1])
        self.mass_N, self.moves_up = np.ones(len(reply_N)), replies.moves_up
        self._width_K = supervised_widths(replies.supervised_X[reply_N], self.bucket_N, len(buckets.lengths))

    def __len__(self) -> int:
        return len(self.reply_N)

    def batch(self, index_B: np.ndarray, bucket: int, real: int | None = None) -> Batch:
        """The batch of rows `index_B`; rows from `real` on weigh nothing.

        See `TextReplyTokens.fill`; and profile int32 [B], weight float32 [B].
        """
        reply_B = self.reply_N[index_B]
        batch = self.replies.fill(reply_B, self.buckets.lengths[bucket], self._width_K[bucket])
        batch["profile"] = self.replies.profile_X[reply_B].astype(np.int32)
        batch["weight"] = row_weights(len(index_B), real)
        return batch
