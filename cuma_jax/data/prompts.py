"""Prompts to write replies to, one row per prompt: what is asked, and by whom.

Of a survey: its questions, put to people's profiles, drawn as training rows are. Of conversations: every user's turn
that a person chose a reply to, with the turns before it; its tokens are those that training on whole conversations puts
before that reply.

Shapes: N prompts, C conversations, B rows of a batch, T tokens.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cuma_jax.data.batches import Batch, Buckets, Rows, fitting_rows, row_weights
from cuma_jax.data.conversations import ConversationTokens
from cuma_jax.data.survey_tokens import SurveyTokens
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.preferences.tasks import conversation_messages
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.prompts import question_message
from cuma_jax.surveys.survey import Question
from cuma_jax.tokenization.tokenizer import Message


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What a reply is asked for, as texts."""

    profile: int  # row of the profile table
    messages: tuple[Message, ...]  # the turns, the user's last; without a system message
    question: int = -1  # surveys: position of the question; -1 elsewhere
    reference: str = ""  # conversations: the reply that the person chose; else empty


class SurveyPrompts:
    """Questions put to profiles; see `pipeline.Batcher`.

    `tokens` are pieces of the objective choice, whose rows end before the answer.

    Raises:
        CumaError: a prompt is longer; names the question.
    """

    moves_up = True

    def __init__(
        self, rows: Rows, tokens: SurveyTokens, questions: Sequence[Question], buckets: Buckets, max_length: int
    ):
        self.rows, self.questions, self._tokens, self._buckets = rows, questions, tokens, buckets
        limit = buckets.limit(max_length)
        fitting_rows(tokens, rows.profile_N, rows.question_N, np.zeros_like(rows.question_N), limit, "error")
        self._template_N = tokens.template_QO[rows.question_N, 0]
        self._length_N = tokens.lengths(rows.profile_N, self._template_N)
        self.bucket_N = buckets.of(self._length_N, max_length)
        self.mass_N, self.question_N = rows.mass_N, rows.question_N

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index_B: np.ndarray, bucket: int, real: int | None = None) -> Batch:
        """Prompts `index_B` padded to `bucket`; rows from `real` on weigh nothing.

        tokens int32 [B,T]; lengths, profile int32 [B]; row int64 [B], numbers of the prompts; weight float32 [B].
        """
        profile_B = self.rows.profile_N[index_B]
        tokens_BT = self._tokens.fill(profile_B, self._template_N[index_B], self._buckets.lengths[bucket])
        return _batch(tokens_BT, self._length_N[index_B], profile_B, index_B, real)

    def prompt(self, row: int) -> Prompt:
        """Prompt number `row`."""
        question = int(self.rows.question_N[row])
        message = {"role": "user", "content": question_message(self.questions[question])}
        return Prompt(int(self.rows.profile_N[row]), (message,), question)

    def option(self, row: int, tokens: Sequence[int], end_id: int) -> int:
        """The option that a reply to prompt `row` chooses: exactly its letter and the end of the turn; else -1."""
        if len(tokens) != 2 or tokens[1] != end_id:
            return -1
        question = int(self.rows.question_N[row])
        letters = self._tokens.option_ids_QO[question, : len(self.questions[question].options)]
        found = np.flatnonzero(letters == tokens[0])
        return int(found[0]) if len(found) else -1


class ConversationPrompts:
    """The user's turns of conversations that a reply was chosen to; see `pipeline.Batcher`.

    A conversation is drawn as in training on whole conversations, and its turns alike.

    Turns that were left out of `tokens` are left out here. Prompt n is of conversation `conversation_N[n]`, and the
    prompt of its reply number `turn_N[n]`, from 0.
    """

    moves_up, question_N = True, None

    def __init__(
        self,
        source: Preferences,
        tokens: ConversationTokens,
        index_M: np.ndarray,
        profile_C: np.ndarray,
        mass_C: np.ndarray,
        buckets: Buckets,
    ):
        self.source, self._tokens, self._buckets, self._profile_C = source, tokens, buckets, profile_C
        # A supervised token after one that is not: there a reply starts, and the prompt ends.
        starts_X = tokens.supervised_X & ~np.append(False, tokens.supervised_X[:-1])
        conversation_N, length_N, turn_N = list[int](), list[int](), list[int]()
        mass_N = list[float]()
        for c in index_M[tokens.kept_C[index_M]].tolist():
            found = np.flatnonzero(starts_X[tokens.start_C[c] : tokens.start_C[c + 1]])
            conversation_N += [c] * len(found)
            length_N += found.tolist()
            turn_N += range(len(found))
            mass_N += [mass_C[c] / len(found)] * len(found)
        self.conversation_N, self.turn_N = np.array(conversation_N, np.int64), np.array(turn_N, np.int64)
        self._length_N, self.mass_N = np.array(length_N, np.int32), np.array(mass_N, np.float64)
        self.bucket_N = buckets.of(self._length_N, buckets.lengths[-1])

    def __len__(self) -> int:
        return len(self.conversation_N)

    def batch(self, index_B: np.ndarray, bucket: int, real: int | None = None) -> Batch:
        """As `SurveyPrompts.batch`."""
        tokens_BT = np.full((len(index_B), self._buckets.lengths[bucket]), self._tokens.pad_id, np.int32)
        for b, n in enumerate(index_B):
            start, length = self._tokens.start_C[self.conversation_N[n]], self._length_N[n]
            tokens_BT[b, :length] = self._tokens.ids_X[start : start + length]
        profile_B = self._profile_C[self.conversation_N[index_B]]
        return _batch(tokens_BT, self._length_N[index_B], profile_B, index_B, real)

    def prompt(self, row: int) -> Prompt:
        """Prompt number `row`."""
        conversation = int(self.conversation_N[row])
        messages = conversation_messages(self.source, conversation)
        replies = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        place = replies[int(self.turn_N[row])]
        profile = int(self._profile_C[conversation])
        return Prompt(profile, tuple(messages[:place]), reference=messages[place]["content"])

    def option(self, row: int, tokens: Sequence[int], end_id: int) -> int:
        """-1: a conversation has no options."""
        return -1


Prompts = SurveyPrompts | ConversationPrompts


def check_prompts(prompts: Prompts, samples: int) -> None:
    """Raises a `CumaError` where there is no prompt to reply to."""
    if not len(prompts):
        raise CumaError(
            f"there are no prompts to write {samples} replies to: no conversation has a reply that was chosen; check "
            "data.path and the shares held out in data.*"
        )


def _batch(
    tokens_BT: np.ndarray, length_B: np.ndarray, profile_B: np.ndarray, index_B: np.ndarray, real: int | None
) -> Batch:
    return {
        "tokens": tokens_BT,
        "lengths": length_B.astype(np.int32),
        "profile": profile_B.astype(np.int32),
        "row": index_B.astype(np.int64),
        "weight": row_weights(len(index_B), real),
    }
