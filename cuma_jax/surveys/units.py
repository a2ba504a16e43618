"""What may be held out from training: the units that rows belong to.

A row is an answer to a survey, or a conversation. It belongs to a person and to an item (a question, or the prompt
that opens a conversation), and its person has values of profile fields, a country for one.

Shapes: N rows, R persons, I items, V values of a field.
"""

import dataclasses

import numpy as np
import pandas as pd

from cuma_jax.surveys.fields.countries import COUNTRY_FIELDS, same_country, with_one_name
from cuma_jax.surveys.survey import Survey


@dataclasses.dataclass(frozen=True)
class Units:
    """Rows, and what each belongs to.

    Attributes:
        person_ids, item_ids: ids of persons (as text) and items; splits are hashes of these.
        person_N, item_N: int32, person and item of each row.
        person, item: what they are called in this source: `respondent` and `question`, or `annotator` and `prompt`.
        conversation_ids: id of each row, where rows are conversations.
        official_N: int8, the source's own split as positions in `SPLITS`; None where it has none.
    """

    name: str
    respondents: pd.DataFrame
    person_ids: list[str]
    person_N: np.ndarray
    item_ids: list[str]
    item_N: np.ndarray
    person: str = "respondent"
    item: str = "question"
    conversation_ids: list[str] | None = None
    official_N: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.person_N)

    def with_rows(self, keep_N: np.ndarray) -> "Units":
        """Only the rows where `keep_N` (bool) is true; of surveys."""
        assert self.conversation_ids is None
        official_N = None if self.official_N is None else self.official_N[keep_N]
        return dataclasses.replace(
            self, person_N=self.person_N[keep_N], item_N=self.item_N[keep_N], official_N=official_N
        )

    def values(self, field: str) -> tuple[np.ndarray, list[str]]:
        """int32 [R] positions of each person's value in the sorted list of values (-1: missing), and the list.

        A country has one value, however it is spelled; a field that the source does not have is missing for everybody.
        """
        if field not in self.respondents:
            return np.full(len(self.respondents), -1, np.int32), []
        column = with_one_name(self.respondents[field], field).astype("category")
        names = [str(name) for name in column.cat.categories]
        order = np.argsort(names, kind="stable")
        # One slot more than there are names: code -1 indexes the last, which stays missing.
        position = np.full(len(names) + 1, -1, np.int32)
        position[order] = np.arange(len(names))
        return position[column.cat.codes.to_numpy()], [names[i] for i in order]

    def value_named(self, field: str, name: str) -> str:
        """The value of a field that `name` means: itself, or the country that it is another spelling of."""
        names = self.values(field)[1]
        if name in names or field not in COUNTRY_FIELDS:
            return name
        return next((known for known in names if same_country(known) == same_country(name)), name)


def survey_units(survey: Survey) -> Units:
    """The units of a survey: a row is an answer, a person a respondent, an item a question."""
    return Units(
        name=survey.name,
        respondents=survey.respondents,
        person_ids=survey.respondents["respondent_id"].tolist(),
        person_N=survey.respondent_A,
        item_ids=[question.id for question in survey.questions],
        item_N=survey.question_A,
        official_N=survey.official_A,
    )
