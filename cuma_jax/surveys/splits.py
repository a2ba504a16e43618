"""Which answers are trained on, and which are held out: decided by a hash of the unit's id, never by row order.

An answer belongs to the first of these that applies: its country is held out (`unseen_country`), its question is
(`unseen_question`), its respondent is (`unseen_respondent` or `validation`); the rest is `train`.

Shapes: A answers, R respondents, Q questions, N distinct values (of anything).
"""

import difflib
import hashlib
from collections.abc import Iterable

import numpy as np

from cuma_jax.config import DataConfig
from cuma_jax.errors import CumaError
from cuma_jax.surveys.survey import Survey

SPLITS = ("train", "validation", "unseen_respondent", "unseen_country", "unseen_question")
TRAIN, VALIDATION, UNSEEN_RESPONDENT, UNSEEN_COUNTRY, UNSEEN_QUESTION = range(len(SPLITS))

MAX_COUNTRY_SHARE = 0.1
"""A country with a larger share of all answers (or twice an even share, in a survey of fewer than 20 countries) is
not held out by share; it may be by name."""


def split_answers(survey: Survey, data: DataConfig) -> np.ndarray:
    """The split of every answer, as int8 [A] positions in `SPLITS`.

    Raises:
        CumaError: a split that `data` asks for would be empty, or a held-out country does not exist.
    """
    num_questions = len(survey.questions)
    country_R, names = _countries(survey)
    held_country_R = np.zeros(len(survey.respondents), bool)
    if data.held_out_countries or data.unseen_countries > 0:
        held = held_out_countries(survey, data)
        held_country_R = np.isin(country_R, [names.index(name) for name in held])
    held_question_Q = np.zeros(num_questions, bool)
    if data.unseen_questions > 0:
        held_question_Q = _held_questions(survey, data)
    draw_R = hash_shares(survey.respondents["respondent_id"].tolist(), data.split_seed, "respondent")
    unseen, validation = data.unseen_respondents, data.validation_respondents
    if unseen + validation >= 1:
        raise CumaError(
            f"data.unseen_respondents + data.validation_respondents is {unseen + validation:g}; they must add up to "
            "less than 1, or nobody is left to train on"
        )
    respondent_split_R = np.full(len(draw_R), TRAIN, np.int8)
    respondent_split_R[draw_R < unseen + validation] = VALIDATION
    respondent_split_R[draw_R < unseen] = UNSEEN_RESPONDENT

    split_A = respondent_split_R[survey.respondent_A]
    split_A[held_question_Q[survey.question_A]] = UNSEEN_QUESTION
    split_A[held_country_R[survey.respondent_A]] = UNSEEN_COUNTRY
    _check_not_empty(survey, data, split_A)
    _check_no_leak(survey, split_A, country_R)
    return split_A


def held_out_countries(survey: Survey, data: DataConfig) -> tuple[str, ...]:
    """The countries held out of training: those named in `data.held_out_countries`, or the lowest hashes.

    By share: round(share x number of countries), at least one, in the order of their hashes. Left in training: a
    country with too many of the answers (`MAX_COUNTRY_SHARE`), and one whose loss would leave a question without any
    country.

    Raises:
        CumaError: an unknown name (with near matches), or a share with no country that can be held out.
    """
    country_R, names = _countries(survey)
    if data.held_out_countries:
        for name in data.held_out_countries:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
                hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(names[:10])}, ..."
                raise CumaError(f"data.held_out_countries: survey {survey.name!r} has no country {name!r}; {hint}")
        return tuple(dict.fromkeys(data.held_out_countries))
    if data.unseen_countries == 0:
        return ()
    country_A = country_R[survey.respondent_A]
    known_A = country_A >= 0
    # int64 [countries, Q]: answers of each country to each question.
    count_NQ = np.bincount(
        country_A[known_A] * len(survey.questions) + survey.question_A[known_A],
        minlength=len(names) * len(survey.questions),
    ).reshape(len(names), len(survey.questions))
    answered = np.flatnonzero(count_NQ.sum(axis=1) > 0)
    wanted = max(1, round(data.unseen_countries * len(answered)))
    left_Q = (count_NQ > 0).sum(axis=0)
    order = np.argsort(hash_shares(names, data.split_seed, "country"), kind="stable")
    limit = max(MAX_COUNTRY_SHARE, 2 / max(1, len(answered))) * survey.num_answers
    held: list[str] = []
    for n in order[np.isin(order, answered)]:
        has_Q = count_NQ[n] > 0
        if len(held) == wanted or count_NQ[n].sum() > limit or (left_Q[has_Q] == 1).any():
            continue
        left_Q = left_Q - has_Q
        held.append(names[n])
    if not held:
        raise CumaError(
            f"data.unseen_countries is {data.unseen_countries:g}, but no country of survey {survey.name!r} can be held "
            f"out ({len(answered)} countries; each is the only one of some question, or too large); set "
            "data.unseen_countries to 0 or name data.held_out_countries"
        )
    return tuple(held)


def hash_shares(values: Iterable[str], seed: int, kind: str) -> np.ndarray:
    """A number in [0, 1) for each value, float64 [N]: blake2b of (seed, kind, value), so no order matters."""
    salt = f"{seed}:{kind}:".encode()
    digests = b"".join([hashlib.blake2b(salt + value.encode(), digest_size=8).digest() for value in values])
    # 53 bits: what a float64 holds exactly, so that the result is below 1.
    return (np.frombuffer(digests, ">u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _held_questions(survey: Survey, data: DataConfig) -> np.ndarray:
    """bool [Q]: round(share x Q) questions, at least one, of the lowest hashes."""
    wanted = max(1, round(data.unseen_questions * len(survey.questions)))
    if wanted >= len(survey.questions):
        raise CumaError(
            f"data.unseen_questions is {data.unseen_questions:g}, which holds out all {len(survey.questions)} "
            f"questions of survey {survey.name!r}; lower it, or keep more questions (data.questions)"
        )
    draw_Q = hash_shares([q.id for q in survey.questions], data.split_seed, "question")
    held_Q = np.zeros(len(survey.questions), bool)
    held_Q[np.argsort(draw_Q, kind="stable")[:wanted]] = True
    return held_Q


def _countries(survey: Survey) -> tuple[np.ndarray, list[str]]:
    """int64 [R] positions of each respondent's country in the sorted list of names (-1: missing), and the names."""
    if "country" not in survey.respondents:
        return np.full(len(survey.respondents), -1, np.int64), []
    column = survey.respondents["country"].astype("category")
    names = [str(name) for name in column.cat.categories]
    order = np.argsort(names, kind="stable")
    # One slot more than there are names: code -1 indexes the last, which stays missing.
    position = np.full(len(names) + 1, -1, np.int64)
    position[order] = np.arange(len(names))
    return position[column.cat.codes.to_numpy()], [names[i] for i in order]


def _check_not_empty(survey: Survey, data: DataConfig, split_A: np.ndarray) -> None:
    asked = {
        TRAIN: ("the shares held out", True),
        VALIDATION: ("data.validation_respondents", data.validation_respondents > 0),
        UNSEEN_RESPONDENT: ("data.unseen_respondents", data.unseen_respondents > 0),
        UNSEEN_COUNTRY: ("data.unseen_countries", bool(data.held_out_countries) or data.unseen_countries > 0),
        UNSEEN_QUESTION: ("data.unseen_questions", data.unseen_questions > 0),
    }
    count_S = np.bincount(split_A, minlength=len(SPLITS))
    for split, (field, wanted) in asked.items():
        if wanted and count_S[split] == 0:
            raise CumaError(
                f"the {SPLITS[split]} split of survey {survey.name!r} is empty ({survey.num_answers} answers in all); "
                f"change {field}, or keep more questions (data.questions)"
            )


def _check_no_leak(survey: Survey, split_A: np.ndarray, country_R: np.ndarray) -> None:
    """No respondent, country or question that is held out has an answer in train or validation."""
    country_A = country_R[survey.respondent_A]
    seen_A = (split_A == TRAIN) | (split_A == VALIDATION)
    for kind, unit_A, held_A, train_A in (
        ("respondent", survey.respondent_A, split_A == UNSEEN_RESPONDENT, seen_A),
        ("respondent", survey.respondent_A, split_A == VALIDATION, split_A == TRAIN),
        ("country", country_A, split_A == UNSEEN_COUNTRY, seen_A),
        ("question", survey.question_A, split_A == UNSEEN_QUESTION, seen_A),
    ):
        if not held_A.any():
            continue
        is_held = np.zeros(unit_A.max() + 2, bool)
        is_held[unit_A[held_A]] = True
        if is_held[unit_A[train_A]].any():
            raise AssertionError(f"a held-out {kind} has answers in training: the split of {survey.name!r} leaks")
