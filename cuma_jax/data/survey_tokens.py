"""Every row's tokens, from pieces that are rendered and tokenised once.

A row is a question (and, for `sft`, an answer) put to one profile. Without the profile in the prompt the tokens
depend on the question alone, so one *template* serves all respondents. With it, a row is the profile's system piece
joined to the question's piece; the join is checked against tokenising the whole. With shots (`profile.shots`) a profile
has a few such pieces, and the question says which.

Shapes: M templates, P profiles, V system pieces (one per profile; with shots, some), S supervised positions, O
options.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cuma_jax.data.shots import Shots
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import Profiles, profile_text
from cuma_jax.surveys.prompts import question_message, system_message
from cuma_jax.surveys.survey import Question
from cuma_jax.tokenization.tokenizer import Message, Tokenizer

# Two questions that differ in their first character: what their chats share is the piece before the question.
_SENTINELS = ("A?", "Why?")
_PROFILE = "Zebra."  # a system message that no template contains
_CHECKED_PROFILES = 64


@dataclasses.dataclass(frozen=True)
class SurveyTokens:
    """Token pieces of all rows."""

    templates: tuple[np.ndarray, ...]  # the tokens after the profile's piece (all, where no profile is in the prompt)
    template_QO: np.ndarray  # int32, of question q answered by option o; for `choice` the same for every option
    labels_MS: np.ndarray  # int32, the last S tokens of the row; the token before each is where its logits are read
    option_ids_QO: np.ndarray  # int32, tokens of the option letters, 0 past the question's options
    system: tuple[np.ndarray, ...]  # tokens before the question, per profile (with shots, per variant of each)
    pad_id: int
    question_ids: tuple[str, ...] = ()  # for errors
    shots: Shots | None = None  # of the profiles, where they are in the prompt

    @property
    def supervised(self) -> int:
        """S: supervised tokens per row."""
        return self.labels_MS.shape[1]

    @functools.cached_property
    def template_lengths_M(self) -> np.ndarray:
        """int32, number of tokens of each template."""
        return np.array([len(t) for t in self.templates], np.int32)

    @functools.cached_property
    def system_lengths_V(self) -> np.ndarray:
        """int32, number of tokens of each system piece; empty where no profile is in the prompt."""
        return np.array([len(s) for s in self.system], np.int32)

    @functools.cached_property
    def _flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All pieces one after another, and where each template and each system piece starts."""
        pieces = [*self.templates, *self.system]
        start = np.zeros(len(pieces) + 1, np.int64)
        np.cumsum([len(piece) for piece in pieces], out=start[1:])
        tokens = np.concatenate([*pieces, np.array([self.pad_id])]).astype(np.int32)
        return tokens, start[: len(self.templates)], start[len(self.templates) : -1]

    @functools.cached_property
    def _question_M(self) -> np.ndarray:
        """int64, question of each template."""
        question_M = np.zeros(len(self.templates), np.int64)
        question_M[self.template_QO] = np.arange(len(self.template_QO))[:, None]
        return question_M

    def _piece(self, profile_N: np.ndarray, template_N: np.ndarray) -> np.ndarray:
        """The system piece of each row, int [N]."""
        if self.shots is None:
            return profile_N
        return profile_N * self.shots.variants + self.shots.variant(profile_N, self._question_M[template_N])

    def question_name(self, question: int) -> str:
        """How an error names a question."""
        return self.question_ids[question] if self.question_ids else f"number {question}"

    def lengths(self, profile_N: np.ndarray, template_N: np.ndarray) -> np.ndarray:
        """Tokens fed to the model for each row, int32 [N]; the last label is predicted, not fed."""
        length_N = self.template_lengths_M[template_N]
        if self.system:
            length_N += self.system_lengths_V[self._piece(profile_N, template_N)]
        return length_N

    def fill(self, profile_N: np.ndarray, template_N: np.ndarray, width: int) -> np.ndarray:
        """Rows padded on the right to `width`, int32 [N, T]; none of them is longer."""
        flat, template_start_M, system_start_V = self._flat
        place_T = np.arange(width)
        # Token t of a row is at `from + t` in the flat array: of its profile's piece first, of its template after that.
        from_NT = template_start_M[template_N][:, None] + place_T
        if self.system:
            piece_N = self._piece(profile_N, template_N)
            head_N1 = self.system_lengths_V[piece_N][:, None]
            from_NT = np.where(place_T < head_N1, system_start_V[piece_N][:, None] + place_T, from_NT - head_N1)
        from_NT[place_T >= self.lengths(profile_N, template_N)[:, None]] = len(flat) - 1
        return flat[from_NT]


def build_survey_tokens(
    questions: Sequence[Question],
    profiles: Profiles | None,
    tokenizer: Tokenizer,
    form: str,
    shots: Shots | None = None,
) -> SurveyTokens:
    """Renders and tokenises every piece once; with `profiles` these are in the prompt, and `shots` after them.

    Objective `choice`: the row ends before the answer's letter, the one supervised token. `sft`: the letter and the end
    of the turn are supervised.

    Raises:
        CumaError: an option letter that is not one token, or a template whose pieces do not join exactly.
    """
    head, text, letters = 0, None, list[list[int]]()
    system: tuple[np.ndarray, ...] = ()
    if profiles is not None:
        count = len(profiles) * (1 if shots is None else shots.variants)
        head, system = _system_pieces(questions, lambda v: _text(profiles, shots, v), count, tokenizer)
        text = _text(profiles, shots, 0)

    def rendered() -> Iterator[str]:
        for question in questions:
            prompt = tokenizer.render(_chat(question, text), add_generation_prompt=True)
            letters.append(tokenizer.letter_ids(len(question.options), prompt))
            yield prompt

    prompts = tokenizer.encode_batch(rendered())
    options = max(len(q.options) for q in questions)
    option_ids_QO = np.zeros((len(questions), options), np.int32)
    template_QO = np.zeros((len(questions), options), np.int32)
    templates: list[np.ndarray] = []
    labels: list[list[int]] = []
    for i, question in enumerate(questions):
        size = len(question.options)
        option_ids_QO[i, :size] = letters[i]
        body = prompts[i][head:]
        if form == "choice":
            template_QO[i] = len(templates)
            templates.append(body)
            labels.append([int(option_ids_QO[i, 0])])
            continue
        for o in range(size):
            template_QO[i, o] = len(templates)
            letter = int(option_ids_QO[i, o])
            templates.append(np.append(body, np.int32(letter)))
            labels.append([letter, tokenizer.end_of_turn_id])
    ids = tuple(q.id for q in questions)
    labels_MS = np.array(labels, np.int32)
    return SurveyTokens(tuple(templates), template_QO, labels_MS, option_ids_QO, system, tokenizer.pad_id, ids, shots)


def _text(profiles: Profiles, shots: Shots | None, piece: int) -> str:
    """What a system piece says of who is asked."""
    if shots is None:
        return profile_text(profiles, piece)
    profile, variant = divmod(piece, shots.variants)
    return profile_text(profiles, profile) + shots.text(profile, variant)


def _chat(question: Question, profile: str | None) -> list[Message]:
    return [
        {"role": "system", "content": system_message(profile)},
        {"role": "user", "content": question_message(question)},
    ]


def _prompt_ids(questions: Sequence[Question], profile: str | None, tokenizer: Tokenizer) -> list[np.ndarray]:
    chats = (tokenizer.render(_chat(question, profile), add_generation_prompt=True) for question in questions)
    return tokenizer.encode_batch(chats)


def _system_pieces(
    questions: Sequence[Question], text: Callable[[int], str], count: int, tokenizer: Tokenizer
) -> tuple[int, tuple[np.ndarray, ...]]:
    """Length of the first system piece, and all `count` of them; `text(v)` is what piece v says of who is asked."""

    def chat(system: str, question: str) -> str:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        return tokenizer.render(messages, add_generation_prompt=True)

    texts = (system_message(text(piece)) for piece in range(count))
    # Rendering takes longer than tokenising, and is the same around every profile (checked below).
    before, found, after = chat(_PROFILE, _SENTINELS[0]).partition(_PROFILE)
    chats = (
        before + safe + after if found and safe == safe.strip() else chat(safe, _SENTINELS[0])
        for safe in map(tokenizer.neutralise, texts)
    )
    one = tokenizer.encode(chat(_PROFILE, _SENTINELS[0]))
    two = tokenizer.encode(chat(_PROFILE, _SENTINELS[1]))
    shared = next(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    pieces = tuple(ids[: len(ids) - (len(one) - shared)] for ids in tokenizer.encode_batch(chats))
    head = len(pieces[0])
    bodies = [ids[head:] for ids in _prompt_ids(questions, text(0), tokenizer)]
    step = max(count // _CHECKED_PROFILES, 1)
    pairs = [(0, q) for q in range(len(questions))] + [(p, p % len(questions)) for p in range(0, count, step)]
    for p, q in pairs:
        whole = _prompt_ids([questions[q]], text(p), tokenizer)[0]
        if not np.array_equal(whole, np.concatenate([pieces[p], bodies[q]])):
            raise CumaError(
                f"tokenizer {tokenizer.name}: the chat template does not split into a profile piece and a question "
                f"piece (question {questions[q].id}); train with the profile in the router only (profile.in_prompt "
                "False), or use another model"
            )
    return head, pieces
