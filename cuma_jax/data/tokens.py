"""Every row's tokens, from pieces that are rendered and tokenised once.

A row is a question (and, for `sft`, an answer) put to one profile. Without the profile in the prompt the tokens
depend on the question alone, so one *template* serves all respondents. With it, a row is the profile's system piece
joined to the question's piece; the join is checked against tokenising the whole.

Shapes: M templates, P profiles, S supervised positions, O options.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cuma_jax.data.tokenizer import Message, Tokenizer
from cuma_jax.errors import CumaError
from cuma_jax.surveys.profiles import Profiles, profile_text
from cuma_jax.surveys.prompts import question_message, system_message
from cuma_jax.surveys.survey import Question

# Two questions that differ in their first character: what their chats share is the piece before the question.
_SENTINELS = ("A?", "Why?")
_CHECKED_PROFILES = 64


@dataclasses.dataclass(frozen=True)
class RowTokens:
    """Token pieces of all rows.

    Attributes:
        templates: per template, the tokens after the profile's piece (all tokens, where no profile is in the prompt).
        template_QO: int32, template of question q answered by option o; for `choice` the same for every option.
        labels_MS: int32, the S supervised tokens of each template, the last S of the row; the token before each is
            where its logits are read.
        option_ids_QO: int32, tokens of the option letters, 0 past the question's options.
        system: per profile, the tokens before the question; empty where no profile is in the prompt.
        pad_id: token for padding.
    """

    templates: tuple[np.ndarray, ...]
    template_QO: np.ndarray
    labels_MS: np.ndarray
    option_ids_QO: np.ndarray
    system: tuple[np.ndarray, ...]
    pad_id: int

    @property
    def supervised(self) -> int:
        """S: supervised tokens a row."""
        return self.labels_MS.shape[1]

    def lengths(self, profile_N: np.ndarray, template_N: np.ndarray) -> np.ndarray:
        """Tokens fed to the model for each row, int32 [N]; the last label is predicted, not fed."""
        fixed_M = np.array([len(t) for t in self.templates], np.int32)
        length_N = fixed_M[template_N]
        if self.system:
            length_N = length_N + np.array([len(s) for s in self.system], np.int32)[profile_N]
        return length_N

    def fill(self, profile_N: np.ndarray, template_N: np.ndarray, width: int) -> np.ndarray:
        """Rows padded on the right to `width`, int32 [N, T]."""
        tokens_NT = np.full((len(template_N), width), self.pad_id, np.int32)
        for row_T, profile, template in zip(tokens_NT, profile_N, template_N, strict=True):
            body = self.templates[template]
            start = 0
            if self.system:
                head = self.system[profile]
                start = len(head)
                row_T[:start] = head
            row_T[start : start + len(body)] = body
        return tokens_NT


def build_row_tokens(
    questions: Sequence[Question], profiles: Profiles | None, tokenizer: Tokenizer, objective: str
) -> RowTokens:
    """Renders and tokenises every piece once.

    Args:
        questions: the survey's questions.
        profiles: the profiles, if they belong in the prompt; else None.
        tokenizer: the model's.
        objective: `choice`: the row ends before the answer's letter, the one supervised token. `sft`: the letter and
            the end of the turn are supervised.

    Raises:
        CumaError: an option letter that is not one token, or a template whose pieces do not join exactly.
    """
    head = 0
    system: tuple[np.ndarray, ...] = ()
    if profiles is not None:
        head, system = _system_pieces(questions, profiles, tokenizer)
    text = None if profiles is None else profile_text(profiles, 0)
    prompts = [_prompt_ids(question, text, tokenizer) for question in questions]
    options = max(len(q.options) for q in questions)
    option_ids_QO = np.zeros((len(questions), options), np.int32)
    template_QO = np.zeros((len(questions), options), np.int32)
    templates: list[np.ndarray] = []
    labels: list[list[int]] = []
    for i, question in enumerate(questions):
        size = len(question.options)
        prompt = tokenizer.render(_chat(question, None), add_generation_prompt=True)
        option_ids_QO[i, :size] = tokenizer.letter_ids(size, prompt)
        body = prompts[i][head:]
        if objective == "choice":
            template_QO[i] = len(templates)
            templates.append(np.array(body, np.int32))
            labels.append([int(option_ids_QO[i, 0])])
            continue
        for o in range(size):
            template_QO[i, o] = len(templates)
            letter = int(option_ids_QO[i, o])
            templates.append(np.array([*body, letter], np.int32))
            labels.append([letter, tokenizer.end_of_turn_id])
    return RowTokens(tuple(templates), template_QO, np.array(labels, np.int32), option_ids_QO, system, tokenizer.pad_id)


def _chat(question: Question, profile: str | None) -> list[Message]:
    return [
        {"role": "system", "content": system_message(profile)},
        {"role": "user", "content": question_message(question)},
    ]


def _prompt_ids(question: Question, profile: str | None, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode_chat(_chat(question, profile), add_generation_prompt=True)


def _system_pieces(
    questions: Sequence[Question], profiles: Profiles, tokenizer: Tokenizer
) -> tuple[int, tuple[np.ndarray, ...]]:
    """Length of the first profile's piece, and the piece of every profile."""

    def piece(row: int) -> list[int]:
        text = system_message(profile_text(profiles, row))
        chats = [[{"role": "system", "content": text}, {"role": "user", "content": s}] for s in _SENTINELS]
        one, two = (tokenizer.encode_chat(chat, add_generation_prompt=True) for chat in chats)
        shared = next(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
        return one[:shared]

    pieces = [piece(row) for row in range(len(profiles))]
    head = len(pieces[0])
    bodies = [_prompt_ids(q, profile_text(profiles, 0), tokenizer) for q in questions]
    step = max(len(profiles) // _CHECKED_PROFILES, 1)
    pairs = [(0, q) for q in range(len(questions))] + [
        (p, p % len(questions)) for p in range(0, len(profiles), step)
    ]  # fmt: skip
    for p, q in pairs:
        whole = _prompt_ids(questions[q], profile_text(profiles, p), tokenizer)
        if whole != pieces[p] + bodies[q][head:]:
            raise CumaError(
                f"tokenizer {tokenizer.name}: the chat template does not split into a profile piece and a question "
                f"piece (question {questions[q].id}); train with the profile in the router only (profile.in_prompt "
                "False), or use another model"
            )
    return head, tuple(np.array(p, np.int32) for p in pieces)
