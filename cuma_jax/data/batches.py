"""Rows become a batch: a few integer arrays of one static shape.

Shapes: B rows, T tokens (one of the buckets), S supervised positions, O options, N all rows.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from cuma_jax.data.survey_tokens import SurveyTokens
from cuma_jax.runtime.errors import CumaError

TooLong = Literal["error", "skip"]
Batch = dict[str, np.ndarray]
"""Arrays by name, the first axis is the row:

tokens int32 [B,T], or `template` int32 [B], the row of the bucket's table of hidden states; lengths int32 [B];
profile int32 [B], row of the profile table; positions int32 [B,S], where logits are read; weight float32 [B], 0 for
padding rows. choice: option_ids int32 [B,O], options int32 [B], target float32 [B,O], and where predictions start from
the pooled answers `offset` float32 [B,O], added to the options' logits; if trained towards them, also `pooled` float32
[B,O] and the weight `prior` float32 [B] that they have in the target. sft: labels int32 [B,S].
"""


POSITIONS = 32
"""The number of supervised positions of a bucket's rows is a multiple of this: the chunk of the cross-entropy."""


@dataclasses.dataclass(frozen=True)
class Buckets:
    """The few lengths that batches come in: increasing numbers of tokens."""

    lengths: tuple[int, ...]

    def limit(self, max_length: int) -> int:
        """Tokens of the longest row there may be."""
        return min(self.lengths[-1], max_length)

    def of(self, length_N: np.ndarray, max_length: int) -> np.ndarray:
        """The shortest bucket (its number, int32) that holds each row; -1 for rows that are too long."""
        limit = self.limit(max_length)
        # By a table: there are millions of rows, but few lengths.
        bucket_L = np.searchsorted(np.array(self.lengths), np.arange(limit + 2)).astype(np.int32)
        bucket_L[limit + 1] = -1
        return bucket_L[np.minimum(length_N, limit + 1)]


@dataclasses.dataclass(frozen=True)
class Rows:
    """N rows to train on or to predict: three integers each, and a target."""

    profile_N: np.ndarray  # int32
    question_N: np.ndarray  # int32
    option_N: np.ndarray  # int32, the answer; 0 where the target is a distribution
    target_NO: np.ndarray | None  # float32, distribution of the answers; None: one-hot of option_N
    mass_N: np.ndarray  # float64, how often a row is drawn, relative to others

    def __len__(self) -> int:
        return len(self.profile_N)


@dataclasses.dataclass(frozen=True)
class QuestionStart:
    """What predictions of each question start from, and are held to; see `run.pooled_start`."""

    offset_QO: np.ndarray  # float32, added to the logits of the options
    pooled_QO: np.ndarray  # float32, the pooled answers; 0 past the options, and without training answers
    prior_Q: np.ndarray  # float32, weight of the pooled answers in a training row's target, below 1


@dataclasses.dataclass(frozen=True)
class HiddenCache:
    """Where the hidden states of texts are cached: in tables, one table per bucket.

    Shapes: K texts, M templates. Texts are sorted by profile and template; without a profile in the prompt text k is
    template k, whoever is asked.
    """

    templates: int
    profile_K: np.ndarray
    template_K: np.ndarray
    in_prompt: bool  # whether the profile is in the prompt
    bucket_K: np.ndarray  # int32, its table; -1: it is too long, and in none
    slot_K: np.ndarray  # int32, its place there

    def slots(self, profile_N: np.ndarray, template_N: np.ndarray) -> np.ndarray:
        """Place of each row in its bucket's table, int32 [N]."""
        if not self.in_prompt:
            return self.slot_K[template_N]
        keys_K = self.profile_K.astype(np.int64) * self.templates + self.template_K
        keys_N = profile_N.astype(np.int64) * self.templates + template_N
        place_N = np.minimum(np.searchsorted(keys_K, keys_N), len(keys_K) - 1)
        if (keys_K[place_N] != keys_N).any():
            raise ValueError("a row whose hidden states are not cached")
        return self.slot_K[place_N]


def plan_hidden_cache(
    tokens: SurveyTokens, buckets: Buckets, max_length: int, profile_N: np.ndarray, template_N: np.ndarray
) -> HiddenCache:
    """The tables that hold the hidden states of texts, and each text's place in them.

    Without a profile in the prompt every template is cached; with one, `profile_N` and `template_N` are the rows there
    will be.
    """
    count = len(tokens.templates)
    if tokens.system:
        pairs_K = np.unique(profile_N.astype(np.int64) * count + template_N)
        profile_K, template_K = (pair.astype(np.int32) for pair in np.divmod(pairs_K, count))
    else:
        template_K = np.arange(count, dtype=np.int32)
        profile_K = np.zeros(count, np.int32)
    bucket_K = buckets.of(tokens.lengths(profile_K, template_K), max_length)
    slot_K = np.zeros(len(bucket_K), np.int32)
    for bucket in np.unique(bucket_K[bucket_K >= 0]):
        members = np.flatnonzero(bucket_K == bucket)
        slot_K[members] = np.arange(len(members))
    return HiddenCache(count, profile_K, template_K, bool(tokens.system), bucket_K, slot_K)


def fitting_rows(
    tokens: SurveyTokens,
    profile_N: np.ndarray,
    question_N: np.ndarray,
    option_N: np.ndarray,
    limit: int,
    too_long: TooLong,
) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows are at most `limit` tokens long, bool [N], and how many are longer, by question.

    Raises:
        CumaError: a row is longer, and `too_long` is error; names the question and the length.
    """
    template_N = tokens.template_QO[question_N, option_N]
    length_N = tokens.lengths(profile_N, template_N)
    fits_N = length_N <= limit
    if fits_N.all():
        return fits_N, {}
    if too_long == "error":
        longest = int(np.argmax(length_N))
        enough = -(-int(length_N[longest]) // 64) * 64
        raise CumaError(
            f"data: question {tokens.question_name(int(question_N[longest]))} has a row of {length_N[longest]} tokens, "
            f"more than the {limit} allowed; set data.max_length to {enough} and add {enough} to the end of "
            "data.buckets, leave the question out (data.questions), or set data.too_long to skip"
        )
    count_Q = np.bincount(question_N[~fits_N])
    names = {int(q): tokens.question_name(int(q)) for q in np.flatnonzero(count_Q)}
    return fits_N, {f"question {name}: longer than {limit} tokens": int(count_Q[q]) for q, name in names.items()}


def row_weights(size: int, real: int | None) -> np.ndarray:
    """float32 [B]: 1 for the first `real` rows of a batch (None: for all), 0 for those that fill it up."""
    return (np.arange(size) < (size if real is None else real)).astype(np.float32)


def survey_rows(
    tokens: SurveyTokens, cache: HiddenCache | None, profile_N: np.ndarray, template_N: np.ndarray, width: int
) -> Batch:
    """Lengths and supervised positions of survey rows, and their tokens [N, width]; with `cache` their places in it."""
    length_N, supervised = tokens.lengths(profile_N, template_N), tokens.supervised
    rows = {
        "lengths": length_N,
        "positions": length_N[:, None] - supervised + np.arange(supervised, dtype=np.int32)[None, :],
    }
    if cache is not None:
        return rows | {"template": cache.slots(profile_N, template_N)}
    return rows | {"tokens": tokens.fill(profile_N, template_N, width)}


class SurveyBatcher:
    """Survey rows as batches of one bucket each; see `pipeline.Batcher`.

    With `cache`, where rows' hidden states are cached, batches name their places instead of holding tokens. With
    `start` batches hold what predictions start from.

    Raises:
        CumaError: a row is longer than the longest bucket, or `max_length`; names the question and the length.
    """

    def __init__(
        self,
        rows: Rows,
        tokens: SurveyTokens,
        sizes_Q: Sequence[int],
        form: str,
        buckets: Buckets,
        max_length: int,
        cache: HiddenCache | None,
        start: QuestionStart | None = None,
    ):
        self.tokens, self.form, self.buckets = tokens, form, buckets
        self._sizes_Q, self._start = np.asarray(sizes_Q, np.int32), start
        fitting_rows(tokens, rows.profile_N, rows.question_N, rows.option_N, buckets.limit(max_length), "error")
        length_N = tokens.lengths(rows.profile_N, tokens.template_QO[rows.question_N, rows.option_N])
        self.rows, self.bucket_N, self.moves_up = rows, buckets.of(length_N, max_length), cache is None
        self.mass_N, self.question_N, self._cache = rows.mass_N, rows.question_N, cache

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index_B: np.ndarray, bucket: int, real: int | None = None) -> Batch:
        """The batch of rows `index_B`, all of them no longer than `bucket`; rows from `real` on weigh nothing."""
        rows, tokens = self.rows, self.tokens
        profile_B, question_B, option_B = rows.profile_N[index_B], rows.question_N[index_B], rows.option_N[index_B]
        template_B = tokens.template_QO[question_B, option_B]
        batch = survey_rows(tokens, self._cache, profile_B, template_B, self.buckets.lengths[bucket])
        batch |= {"profile": profile_B.astype(np.int32), "weight": row_weights(len(index_B), real)}
        if self.form == "sft":
            batch["labels"] = tokens.labels_MS[template_B]
            return batch
        batch["option_ids"] = tokens.option_ids_QO[question_B]
        batch["options"] = self._sizes_Q[question_B]
        if self._start is not None:
            batch["offset"] = self._start.offset_QO[question_B]
            if self._start.prior_Q.any():
                batch |= {"pooled": self._start.pooled_QO[question_B], "prior": self._start.prior_Q[question_B]}
        if rows.target_NO is None:
            batch["target"] = np.eye(tokens.option_ids_QO.shape[1], dtype=np.float32)[option_B]
        else:
            batch["target"] = rows.target_NO[index_B]
        return batch
