"""What can be trained on preference data: whole conversations, pairs of responses, and which response is preferred.

Shapes: T turns, P pairs, K candidates of a turn, A answers.
"""

import dataclasses
import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cuma_jax.preferences import texts
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.survey import Question, Survey

MIN_MARGIN = 1.0
"""The least difference of scores by which a response is preferred to another: ties were broken at random."""

BELOW_MARGIN = "pairs whose scores differ by less than the margin"
ONE_OPTION = "first turns with a single candidate (nothing to choose)"

_SOURCES = {"community_alignment": "Community Alignment", "prism": "PRISM"}

Message = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of responses to the same messages, one preferred to the other.

    Attributes:
        turn_P: int32, row of `Preferences.turns`.
        chosen_P: int8, position of the preferred candidate.
        rejected_P: int8, position of the other.
        margin_P: float32, the preferred one's score less the other's; nan where the source has no scores.
    """

    turn_P: np.ndarray
    chosen_P: np.ndarray
    rejected_P: np.ndarray
    margin_P: np.ndarray
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.turn_P)


def conversation_messages(prefs: Preferences, n: int) -> list[Message]:
    """Conversation `n`: user and assistant in turn, the assistant with the response that was chosen."""
    first = prefs.first_turn_C
    return _messages(_rows(prefs, first[n], first[n + 1]))


def preference_pairs(prefs: Preferences, min_margin: float = MIN_MARGIN) -> Pairs:
    """The chosen response of every turn against each other candidate of that turn, in the order of turns.

    Pairs whose scores differ by less than `min_margin` are left out and counted; without scores it does nothing. A
    `CumaError` where it is not positive: a tie prefers nothing.
    """
    if not min_margin > 0:
        raise CumaError(f"min_margin is {min_margin}; it must be positive, because ties were broken at random")
    chosen_T = prefs.turns["chosen"].to_numpy()
    count_T = pc.list_value_length(prefs.turns["candidates"]).to_numpy()
    turn_X = np.repeat(np.arange(len(count_T)), count_T)
    place_X = np.arange(len(turn_X)) - np.repeat(np.cumsum(count_T) - count_T, count_T)
    score_X = np.full(len(turn_X), np.nan, np.float32)
    scored_T = prefs.turns["scores"].is_valid().to_numpy()
    score_X[scored_T[turn_X]] = pc.list_flatten(prefs.turns["scores"]).fill_null(np.nan).to_numpy()
    chosen_X = chosen_T[turn_X]
    best_X = np.where(chosen_X >= 0, np.arange(len(turn_X)) - place_X + chosen_X, 0)
    margin_X = (score_X[best_X] - score_X) if len(score_X) else score_X
    pair_X = (chosen_X >= 0) & (place_X != chosen_X)
    small_X = pair_X & (margin_X < min_margin)
    rows = np.flatnonzero(pair_X & ~small_X)
    return Pairs(
        turn_X[rows].astype(np.int32),
        chosen_X[rows].astype(np.int8),
        place_X[rows].astype(np.int8),
        margin_X[rows].astype(np.float32),
        {BELOW_MARGIN: int(small_X.sum())} if small_X.any() else {},
    )


def pair_messages(prefs: Preferences, pairs: Pairs, n: int) -> tuple[list[Message], str, str]:
    """Pair `n`: the messages up to the user's turn, the preferred response, and the other."""
    row = int(pairs.turn_P[n])
    conversation = prefs.turns["conversation"][row].as_py()
    turns = _rows(prefs, prefs.first_turn_C[conversation], row + 1)
    messages = [*_messages(turns[:-1]), {"role": "user", "content": turns[-1]["prompt"]}]
    candidates = turns[-1]["candidates"]
    return messages, candidates[pairs.chosen_P[n]], candidates[pairs.rejected_P[n]]


def _messages(turns: list[dict]) -> list[Message]:
    messages: list[Message] = []
    for turn in turns:
        messages.append({"role": "user", "content": turn["prompt"]})
        if turn["chosen"] >= 0:
            messages.append({"role": "assistant", "content": turn["candidates"][turn["chosen"]]})
    return messages


def _rows(prefs: Preferences, start: int, stop: int) -> list[dict]:
    return prefs.turns.slice(int(start), int(stop - start)).to_pylist()


def choice_survey(prefs: Preferences) -> Survey:
    """Which response to its opening prompt each person preferred, as a survey.

    A question is an opening prompt with its candidates; the same prompt with the same candidates is one question,
    whoever was asked and in whatever order they were shown. Options stand in the order of a hash of their texts, so
    that their place says nothing; `Question.ordered` is False. Ids do not depend on the rest of the data. A person may
    have answered a question more than once.
    """
    chosen_T = prefs.turns["chosen"].to_numpy()
    rows = np.flatnonzero((prefs.turns["turn"].to_numpy() == 0) & (chosen_T >= 0))
    count = pc.list_value_length(prefs.turns["candidates"]).to_numpy()[rows]
    skipped = dict(prefs.skipped)
    if alone := int((count < 2).sum()):
        skipped[ONE_OPTION] = alone
    rows = rows[count >= 2]
    first = prefs.turns.take(pa.array(rows))
    prompts, candidates = texts.joined(first["prompt"]), texts.joined(pc.list_flatten(first["candidates"]))
    codes, distinct = texts.codes_of(prompts)
    distinct_hash = texts.hash_texts(distinct)
    candidate_hash = np.array(texts.hash_texts(candidates), dtype="U64")
    start = np.append(0, np.cumsum(count[count >= 2]))

    questions: list[Question] = []
    known: dict[str, int] = {}
    question_A, option_A = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int32)
    for a in range(len(rows)):
        shown = start[a] + np.argsort(candidate_hash[start[a] : start[a + 1]])
        parts = [distinct_hash[codes[a]], *candidate_hash[shown].tolist()]
        name = hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
        if name not in known:
            known[name] = len(questions)
            options = tuple(candidates[int(x)].as_py() for x in shown)
            questions.append(
                Question(
                    id=f"{prefs.name}.{name}",
                    text=prompts[a].as_py(),
                    options=options,
                    codes=tuple(hash_[:8] for hash_ in parts[1:]),
                    ordered=False,
                    source=_SOURCES.get(prefs.name, prefs.name),
                )
            )
        question_A[a] = known[name]
        option_A[a] = int(np.flatnonzero(shown == start[a] + chosen_T[rows[a]])[0])
    person_C = prefs.conversations["person"].to_numpy()
    return Survey(
        name=prefs.name,
        questions=tuple(questions),
        respondents=prefs.respondents,
        profile_fields=prefs.profile_fields,
        respondent_A=person_C[first["conversation"].to_numpy()].astype(np.int32),
        question_A=question_A,
        option_A=option_A,
        skipped=skipped,
    )
