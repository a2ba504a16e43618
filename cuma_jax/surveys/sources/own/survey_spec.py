"""What a survey's YAML file says, read and checked; and what to tell of faults in the files that it names."""

import dataclasses
import pathlib

from cuma_jax.surveys.sources.own.yaml_file import Text
from cuma_jax.tables.problems import Advice

ADVICE = Advice(
    path="check the path; it is relative to the survey's YAML file",
    again="it needs a header line and one line for each row",
    damaged="copy the file again",
    encoding="save the file as UTF-8, or say `encoding: {}` in the YAML file",
    other_encoding="say `encoding:` with the one that it was saved in, such as cp1251, shift_jis, gb18030 or mac_roman",
    delimiter="say `delimiter: {symbol}` in the YAML file",
    ragged="a text that holds the delimiter, a quote or a line end needs quotes around it",
)
"""For faults of the files that the YAML file names."""


@dataclasses.dataclass(frozen=True)
class FieldSpec:
    """A profile field.

    Attributes:
        column: where its values are.
        values: the text of each code; empty: the column's own texts. Of a number: what a code counts as.
        bins: edges of the groups that numbers are put into; empty: none.
        numeric: whether it stays a number, with columns of its own in the profile vector; None (in `context:`): if all
            values are numbers.
    """

    name: str
    column: Text
    values: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    bins: tuple[float, ...] = ()
    numeric: bool | None = False

    @property
    def as_number(self) -> bool:
        """Whether its values must be numbers."""
        return bool(self.numeric or self.bins)


@dataclasses.dataclass(frozen=True)
class ContextSpec:
    """A table that is joined to the profiles.

    Attributes:
        by: the profile field.
        key: the table's column with its values.
        fields: what is joined; empty: every other column.
        missing: texts of the table that mean that nothing is known.
        where: what asks for it, for messages.
    """

    by: str
    key: Text
    table: pathlib.Path
    fields: tuple[FieldSpec, ...]
    delimiter: str
    encoding: str
    missing: frozenset[str]
    where: str


@dataclasses.dataclass(frozen=True)
class QuestionSpec:
    """A question.

    Attributes:
        options: texts in the order of the scale.
        codes: the code of each option, as the table has it.
        column: its column (wide), or what the question column calls it (long).
        off_scale: codes that are answers, but have no place on the scale: left out and counted.
        bins: edges of the groups that numbers are put into, one an option; empty: none.
        multiple: what it is one option of, where respondents chose several.
    """

    id: Text
    text: str
    options: tuple[str, ...]
    codes: tuple[str, ...]
    ordered: bool
    column: Text
    missing: frozenset[str]
    off_scale: frozenset[str] = frozenset()
    bins: tuple[float, ...] = ()
    multiple: "Choice | None" = None


@dataclasses.dataclass(frozen=True)
class Choice:
    """An option of a question with several answers: whether it was chosen is a question of two options, yes and no.

    Attributes:
        text: the option's.
        columns: those of all options, one each; of one of them only, where one column lists the chosen codes.
        code: what stands in that list for this option; empty where it has a column of its own.
        codes: what may stand in that list.
    """

    text: str
    columns: tuple[Text, ...]
    code: str = ""
    codes: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a survey's YAML says. `columns` has the plain column names: respondent, weight, stratum, psu, question,
    answer, where given."""

    path: pathlib.Path
    name: str
    answers: pathlib.Path
    respondents: pathlib.Path | None
    files: tuple[pathlib.Path, ...]
    long: bool
    delimiter: str
    encoding: str
    columns: dict[str, Text]
    fields: tuple[FieldSpec, ...]
    context: tuple[ContextSpec, ...]
    questions: tuple[QuestionSpec, ...]
    missing: frozenset[str]
