"""Pairs of replies to one prompt by one person, one preferred to the other: tokens and batches.

From preference data (`preference_pairs`): the candidate that a person chose against each other candidate of the turn.
From a survey: the option that a respondent chose against another of the question, drawn by a hash of (respondent,
question, seed). Only the reply is supervised, its end of turn included; earlier turns of the assistant are not.

Shapes: P pairs, X replies, N rows (pairs), B rows of a batch, K tokens of a row, S supervised positions; 2: the chosen
reply, the rejected one.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cuma_jax.data.batches import Batch, Buckets, HiddenCache, row_weights
from cuma_jax.data.reply_tokens import ReplyTokens, SurveyReplyTokens, supervised_widths
from cuma_jax.data.survey_tokens import SurveyTokens
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.held_out import hash_shares
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey


@dataclasses.dataclass(frozen=True)
class PairTokens:
    """Tokens of P pairs; a reply of several pairs is there once.

    With preference data all candidates of a turn that has a pair are replies, those that are too long as well.
    """

    replies: ReplyTokens
    reply_P2: np.ndarray  # int64, number of the chosen and of the rejected reply
    turn_X: np.ndarray | None  # int64, row of `Preferences.turns` that each reply is a candidate of; None for a survey
    row_P: np.ndarray  # int64, row of the source: the conversation, or the answer; splits and masses go by it
    person_P: np.ndarray  # int64, row of `respondents`
    question_P: np.ndarray | None  # int64, question of a survey; None for preference data
    items: Sequence[str]  # names of what is answered: conversations or questions
    item_P: np.ndarray  # int64, which of them
    notes: dict[str, int]  # how many pairs were left out, by reason

    def __len__(self) -> int:
        return len(self.reply_P2)

    @property
    def profile_P(self) -> np.ndarray:
        """int32 [P], row of the profile table."""
        return self.replies.profile_X[self.reply_P2[:, 0]]

    @property
    def fed_P(self) -> np.ndarray:
        """int64 [P], tokens of the longer side that are fed to the model."""
        return self.replies.fed_X[self.reply_P2].max(axis=1)


class PairBatcher:
    """Pairs as batches, in buckets by their longer side; see `pipeline.Batcher`.

    `reference_X` float32 is the reference's summed log-probability of each reply (nan where it is not known), or None.
    """

    def __init__(
        self,
        pairs: PairTokens,
        index_N: np.ndarray,
        mass_N: np.ndarray,
        buckets: Buckets,
        reference_X: np.ndarray | None = None,
    ):
        self.pairs, self.index_N, self.mass_N, self.buckets = pairs, index_N, mass_N, buckets
        self.bucket_N = buckets.of(pairs.fed_P[index_N], buckets.lengths[-1])
        self.question_N = None if pairs.question_P is None else pairs.question_P[index_N]
        self.moves_up, self._reference_X = pairs.replies.moves_up, reference_X
        count_N = pairs.replies.supervised_X[pairs.reply_P2[index_N]].max(axis=1, initial=0)
        self._width_K = supervised_widths(count_N, self.bucket_N, len(buckets.lengths))

    def __len__(self) -> int:
        return len(self.index_N)

    def batch(self, index_B: np.ndarray, bucket: int, real: int | None = None) -> Batch:
        """The batch of rows `index_B`; rows from `real` on weigh nothing.

        tokens int32 [B,2,K] (or template int32 [B,2]); lengths int32 [B,2]; profile int32 [B]; positions, labels int32
        and label_weight float32 [B,2,S]; weight float32 [B]; reference_logp float32 [B,2], where it is known.
        """
        pair_B, size = self.index_N[index_B], len(index_B)
        reply_B2 = self.pairs.reply_P2[pair_B]
        rows = self.pairs.replies.fill(reply_B2.ravel(), self.buckets.lengths[bucket], self._width_K[bucket])
        batch = {name: values.reshape(size, 2, *values.shape[1:]) for name, values in rows.items()}
        batch["profile"] = self.pairs.replies.profile_X[reply_B2[:, 0]].astype(np.int32)
        batch["weight"] = row_weights(size, real)
        if self._reference_X is not None:
            batch["reference_logp"] = self._reference_X[reply_B2]
        return batch


def build_survey_pairs(
    survey: Survey, profiles: Profiles, pieces: SurveyTokens, seed: int, cache: HiddenCache | None = None
) -> PairTokens:
    """One pair per answer: its option, against another of the question, drawn by a hash with `seed`.

    `pieces` are those of the objective sft; no row may be too long.

    Raises:
        CumaError: no question has two options.
    """
    sizes_Q = np.array([len(question.options) for question in survey.questions])
    row_P = np.flatnonzero(sizes_Q[survey.question_A] > 1)
    if not len(row_P):
        raise CumaError(f"survey {survey.name!r} has no answer to a question with two options: there are no pairs")
    respondent_P, question_P = survey.respondent_A[row_P].astype(np.int64), survey.question_A[row_P].astype(np.int64)
    chosen_P = survey.option_A[row_P].astype(np.int64)
    other_P = other_options(survey, row_P, seed)
    template_P2 = pieces.template_QO[question_P[:, None], np.stack([chosen_P, other_P], axis=1)].astype(np.int64)
    profile_P = profiles.profile_R[respondent_P].astype(np.int64)
    count = len(pieces.templates)
    key_X, reply_P2 = np.unique(profile_P[:, None] * count + template_P2, return_inverse=True)
    profile_X, template_X = (x.astype(np.int32) for x in np.divmod(key_X, count))
    return PairTokens(
        replies=SurveyReplyTokens(profile_X, template_X, pieces, cache),
        reply_P2=reply_P2.reshape(-1, 2),
        turn_X=None,
        row_P=row_P,
        person_P=respondent_P,
        question_P=question_P,
        items=[question.id for question in survey.questions],
        item_P=question_P,
        notes={},
    )


def other_options(survey: Survey, row_P: np.ndarray, seed: int) -> np.ndarray:
    """An option that was not chosen, of each of the answers `row_P` (to questions of two options or more), int64 [P].

    By ids, so that it does not depend on the rest of the data.
    """
    question_P, chosen_P = survey.question_A[row_P], survey.option_A[row_P].astype(np.int64)
    size_P = np.array([len(question.options) for question in survey.questions])[question_P]
    of_R = hash_shares(survey.respondents["respondent_id"].astype(str), seed, "pair, respondent")
    of_Q = hash_shares([question.id for question in survey.questions], seed, "pair, question")
    # What is left of a large multiple is uniform, and for another question another number.
    share_P = of_R[survey.respondent_A[row_P]] * (1.0 + of_Q[question_P]) * 2.0**20 % 1.0
    return (chosen_P + 1 + np.minimum(share_P * (size_P - 1), size_P - 2).astype(np.int64)) % size_P
