"""A survey is three small tables; an example is three integers.

`respondents` has one row a person, `questions` one entry an item, and `answers` one row an answer:
(respondent index, question index, option index), all int32. 15 M answers are 180 MB, never 15 M objects.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.fields.context import Context

_PIECE = 1 << 18
RESERVED_COLUMNS = ("respondent_id", "weight", "stratum", "psu", "split")
"""Columns of a respondents table that are not profile fields."""


class HasRespondents(Protocol):
    """Anything with a table of persons: what profiles are built from."""

    @property
    def name(self) -> str:
        """Name of the source."""

    @property
    def respondents(self) -> pd.DataFrame:
        """As `Survey.respondents`."""

    @property
    def profile_fields(self) -> tuple[str, ...]:
        """See `Survey.profile_fields`."""

    @property
    def numeric_fields(self) -> tuple[str, ...]:
        """See `Survey.numeric_fields`."""

    @property
    def context(self) -> tuple[Context, ...]:
        """See `Survey.context`."""


@dataclasses.dataclass(frozen=True)
class Question:
    """One survey item.

    Attributes:
        id: unique in the survey, e.g. `wvs_immig.e143`.
        text: the wording put to the model.
        options: option texts in their order on the scale.
        codes: the source's code of each option, as text, aligned with `options`.
        ordered: whether the options are a scale (distances between them have a meaning).
        source: where it comes from, for reports.
    """

    id: str
    text: str
    options: tuple[str, ...]
    codes: tuple[str, ...]
    ordered: bool = True
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Survey:
    """Questions, respondents and answers of one source.

    Attributes:
        respondents: one row a person, default integer index. Columns: `respondent_id` (str, unique), `weight`
            (float, 1.0 where the source has none), optional `stratum`, `psu` and `split` (the source's own), and
            fields as pandas categoricals of strings (missing stays missing).
        profile_fields: the fields that a profile has by default, in the order a profile text lists them; any other
            column of fields may be asked for (`profile.fields`).
        respondent_A, question_A, option_A: int32 arrays, one entry an answer.
        official_A: int8, the split that the source itself ships, as positions in `config_checks.SPLITS`; None where it
            ships none.
        skipped: counts of rows left out by the reader, by reason.
        persons: whether respondents are persons, drawn from others. Where they are shares of a country, there is no
            noise of a sample to be told: no floor, and no intervals over respondents.
        numeric_fields: fields whose texts are numbers that a profile vector has as numbers.
        context: what tables say of values of fields; `respondents` has it joined, and a new profile gets it.
    """

    name: str
    questions: tuple[Question, ...]
    respondents: pd.DataFrame
    profile_fields: tuple[str, ...]
    respondent_A: np.ndarray
    question_A: np.ndarray
    option_A: np.ndarray
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    official_A: np.ndarray | None = None
    persons: bool = True
    numeric_fields: tuple[str, ...] = ()
    context: tuple[Context, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def num_answers(self) -> int:
        """Number of answers, over all questions."""
        return len(self.option_A)

    def with_answers(self, keep_A: np.ndarray) -> "Survey":
        """The same survey with only the answers where `keep_A` (bool or indices) selects them."""
        return dataclasses.replace(
            self,
            respondent_A=self.respondent_A[keep_A],
            question_A=self.question_A[keep_A],
            option_A=self.option_A[keep_A],
            official_A=None if self.official_A is None else self.official_A[keep_A],
        )


def categorical(code_R: np.ndarray, texts: Sequence[str | None]) -> pd.Categorical:
    """The column `texts[code_R]`, with sorted categories, only those that occur; code -1 and an empty text are missing.

    Several codes may have one text.
    """
    used = np.unique(code_R)
    names = sorted({text for text in (texts[c] for c in used[used >= 0]) if text})
    positions = {text: position for position, text in enumerate(names)}
    # One slot more than there are texts: code -1 indexes the last, which stays missing.
    position = np.array([positions.get(text or "", -1) for text in texts] + [-1], np.int32)
    return pd.Categorical.from_codes(position[code_R], pd.Index(names, dtype="str"))


def other_fields(source: HasRespondents) -> tuple[str, ...]:
    """Fields that a profile may have, besides those it has by default."""
    return tuple(c for c in source.respondents.columns if c not in (*RESERVED_COLUMNS, *source.profile_fields))


def _check(survey: Survey) -> None:
    where = f"survey {survey.name!r}"
    ids = [q.id for q in survey.questions]
    if len(set(ids)) != len(ids):
        raise CumaError(f"{where}: question ids are not unique: {sorted({i for i in ids if ids.count(i) > 1})}")
    for question in survey.questions:
        if len(question.options) < 2 or len(question.options) != len(question.codes):
            raise CumaError(
                f"{where}: question {question.id} has {len(question.options)} options and {len(question.codes)} codes; "
                "it needs at least two options and one code for each"
            )
    needed = {"respondent_id", "weight", *survey.profile_fields}
    if missing := needed - set(survey.respondents.columns):
        raise CumaError(f"{where}: the respondents table lacks columns {sorted(missing)}")
    lengths = {len(survey.respondent_A), len(survey.question_A), len(survey.option_A)}
    if survey.official_A is not None:
        lengths.add(len(survey.official_A))
    if len(lengths) != 1:
        raise CumaError(f"{where}: the answer columns have different lengths {sorted(lengths)}")
    if survey.num_answers == 0:
        return
    for name, index, size in (
        ("respondent", survey.respondent_A, len(survey.respondents)),
        ("question", survey.question_A, len(survey.questions)),
    ):
        if index.min() < 0 or index.max() >= size:
            raise CumaError(f"{where}: answers name a {name} outside 0..{size - 1}")
    sizes_Q = np.array([len(q.options) for q in survey.questions], np.int32)
    # In pieces: there may be tens of millions, and the check is made at every load.
    pieces = (slice(start, start + _PIECE) for start in range(0, survey.num_answers, _PIECE))
    if survey.option_A.min() < 0 or any((survey.option_A[p] >= sizes_Q[survey.question_A[p]]).any() for p in pieces):
        raise CumaError(f"{where}: an answer names an option that its question does not have")
