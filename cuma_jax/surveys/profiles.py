"""Distinct profiles of a survey's respondents, and the sentence that describes each.

Shapes: R respondents, P distinct profiles, F profile fields.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.near_matches import near
from cuma_jax.surveys.derived import add_derived, derived_fields, fill_derived
from cuma_jax.surveys.fields.context import Context, context_fields, fill_context
from cuma_jax.surveys.fields.countries import COUNTRY_FIELDS
from cuma_jax.surveys.survey import HasRespondents, categorical, other_fields

REFERENCE_FIELDS = {
    "country": "B_COUNTRY",
    "age": "X003R",
    "sex": "Q260",
    "education": "Q275",
    "marital_status": "Q273",
    "religion": "Q289",
    "ethnicity": "Q290",
    "employment": "Q279",
}
"""The fields of the official CuMA pipeline's sentence, in its order, and the official column of each."""

_REFERENCE = (
    "You are a person from {country}, age group: {age}, gender: {sex}, education: {education}, "
    "marital status: {marital_status}, religion: {religion}, ethnicity: {ethnicity}, employment: {employment}."
)
# The official pipeline reads its tables with pandas, which takes these texts for missing, and prints "nan".
_READ_AS_NAN = frozenset((
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
))  # fmt: skip
_MISSING = -1
MOST_SHOWN = 30
"""Values of a field that a message lists."""
_MAX_KEY = 2**62
# Names that need "the" in a sentence.
_ARTICLE = re.compile(r"^(United |Netherlands$|Philippines$|Dominican Republic$|Czech Republic$|Maldives$|Gambia$)")

Style = Literal["natural", "reference"]
"""How a profile is worded."""


@dataclasses.dataclass(frozen=True)
class Profiles:
    """The distinct combinations of profile values, one row each.

    Attributes:
        fields: names of the F profile fields, in the order a profile text lists them.
        vocab: the values of each field, sorted; only values that some respondent has.
        codes_PF: int32 [P, F]; position in the field's vocab, -1 where the value is missing. Rows are distinct
            and sorted, so they do not depend on the order of the respondents.
        profile_R: int32 [R]; the row of `codes_PF` of each respondent.
        derived: those of `fields` that come from the country's name, or from a table of `context`; a person's sentence
            leaves them out.
        numeric: those of `fields` that are numbers.
        context: what gives `derived` fields that are not known from the country's name.
    """

    fields: tuple[str, ...]
    vocab: dict[str, tuple[str, ...]]
    codes_PF: np.ndarray
    profile_R: np.ndarray
    sentence: Style = "natural"
    derived: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    context: tuple[Context, ...] = ()

    def __len__(self) -> int:
        return len(self.codes_PF)

    def values(self, row: int) -> dict[str, str]:
        """The fields of profile `row` that are not missing."""
        codes_F = self.codes_PF[row]
        return {f: self.vocab[f][c] for f, c in zip(self.fields, codes_F, strict=True) if c != _MISSING}

    def with_person(self, values: Mapping[str, str]) -> tuple["Profiles", int]:
        """The profiles with one that may not be among them, and its row; a value that nobody has is missing in it."""
        places = ({value: c for c, value in enumerate(self.vocab[field])} for field in self.fields)
        codes_F = np.array(
            [place.get(values.get(f, ""), _MISSING) for f, place in zip(self.fields, places, strict=True)], np.int32
        )
        same = np.flatnonzero((self.codes_PF == codes_F).all(axis=1))
        if len(same):
            return self, int(same[0])
        return dataclasses.replace(self, codes_PF=np.concatenate([self.codes_PF, codes_F[None]])), len(self)


def build_profiles(
    source: HasRespondents,
    fields: Sequence[str] = (),
    sentence: Style = "natural",
    derived: Sequence[str] = (),
    joined: Sequence[str] = (),
) -> Profiles:
    """The distinct profiles of `source.respondents`.

    Args:
        fields: fields to use, in this order; empty: those that a profile of this source has by default; for the
            reference sentence, the official columns, if the source has them.
        derived: `profile.derived`; these fields stand right after the country's, or last. A source that has been
            through `add_derived` has them already.
        joined: fields of the source that stand behind those, whatever `fields` are (`profile.context`).

    Raises:
        CumaError: a field that the survey does not have, or one named twice; or fields other than those of the
            reference sentence, if that is asked for; or no country to derive from.
    """
    fields = tuple(fields)
    if not set(derived_fields(derived)) <= set(source.respondents.columns):
        source = add_derived(source, derived)
    if sentence == "reference" and not fields and set(REFERENCE_FIELDS.values()) <= set(source.respondents.columns):
        fields = tuple(REFERENCE_FIELDS.values())
    fields = fields or source.profile_fields
    if sentence == "reference":
        _check_reference(fields, source.name)
    for field in fields:
        check_field(field, (*source.profile_fields, *other_fields(source)), source.name)
    fields = _with_derived(fields, (*derived_fields(derived), *joined))
    if len(set(fields)) != len(fields):
        raise CumaError(f"profile fields {fields} name a field twice; name each once (profile.fields)")
    vocab: dict[str, tuple[str, ...]] = {}
    codes_RF = np.full((len(source.respondents), len(fields)), _MISSING, np.int32)
    for f, field in enumerate(fields):
        vocab[field], codes_RF[:, f] = _codes(source.respondents[field])
    first_P, profile_R = _distinct_rows(codes_RF, [len(vocab[field]) for field in fields])
    known_by_table = tuple(field for field in context_fields(source.context) if field in fields)
    return Profiles(
        fields,
        vocab,
        codes_RF[first_P],
        profile_R,
        sentence,
        (*derived_fields(derived), *known_by_table),
        tuple(field for field in source.numeric_fields if field in fields),
        source.context if known_by_table else (),
    )


def complete_profile(
    profile: Mapping[str, str], fields: Sequence[str], derived: Sequence[str], context: Sequence[Context]
) -> dict[str, str]:
    """A profile with those of the `derived` fields that it lacks and that follow from what it has, in the order of
    `fields`.
    """
    filled = fill_context(fill_derived(profile, derived), context, derived)
    return {field: filled[field] for field in fields if field in filled}


def _with_derived(fields: tuple[str, ...], derived: Sequence[str]) -> tuple[str, ...]:
    """`fields` with the derived ones that are not among them right after the country."""
    new = tuple(field for field in derived if field not in fields)
    places = [fields.index(field) + 1 for field in COUNTRY_FIELDS if field in fields]
    place = places[0] if places else len(fields)
    return fields[:place] + new + fields[place:]


def _codes(column: pd.Series) -> tuple[tuple[str, ...], np.ndarray]:
    """The sorted values that occur in a column, and each row's position among them (-1: missing)."""
    values = column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype("string").astype("category")
    named = categorical(values.cat.codes.to_numpy(), [str(v) for v in values.cat.categories])
    return tuple(named.categories), named.codes.astype(np.int32)


def _distinct_rows(codes_RF: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """First row of each distinct row (in lexicographic order), and each row's number among them.

    Mixed-radix keys instead of `np.unique(axis=0)`: a few sorts of int64, not one of byte strings.
    """
    key_R, bound = np.zeros(len(codes_RF), np.int64), 1
    for codes_R, size in zip(codes_RF.T, sizes, strict=True):
        if bound * (size + 1) > _MAX_KEY:
            names, key_R = np.unique(key_R, return_inverse=True)
            bound = len(names)
        key_R, bound = key_R * (size + 1) + (codes_R + 1), bound * (size + 1)
    _, first_P, profile_R = np.unique(key_R, return_index=True, return_inverse=True)
    return first_P, profile_R.astype(np.int32)


def label(field: str) -> str:
    """A field's name as it reads in a sentence: `political_views` -> "political views"."""
    return field.replace("_", " ")


def field_text(field: str, value: str) -> str:
    """One field value as a text of its own: `field_text("country", "Chile")` is "country: Chile"."""
    return f"{label(field)}: {value}"


def describe(values: Mapping[str, str], style: Style = "natural") -> str:
    """A profile as one sentence.

    natural: fields that are absent are left out. `{"country": "Chile", "year": "2006", "sex": "female"}` gives
    "A person from Chile, surveyed in 2006; sex: female."

    reference: word for word the sentence of the official CuMA pipeline, of its eight fields (under their names here
    or their official ones), with `nan` for an absent one; a `CumaError` for a field that it does not have.
    """
    if style == "reference":
        return _describe_reference(values)
    head = "A person"
    if country := values.get("country"):
        head += f" from {'the ' if _ARTICLE.match(country) else ''}{country}"
    if year := values.get("year"):
        head += f", surveyed in {year}"
    rest = [field_text(field, value) for field, value in values.items() if field not in ("country", "year")]
    return "; ".join([head, *rest]) + "."


def _describe_reference(values: Mapping[str, str]) -> str:
    names = _reference_names(values)
    if others := [field for field, name in zip(values, names, strict=True) if name is None]:
        raise CumaError(
            f"profile.sentence reference has no place for {', '.join(others)}; its fields are "
            f"{', '.join(REFERENCE_FIELDS)} (or {', '.join(REFERENCE_FIELDS.values())}); use the natural sentence"
        )
    texts = dict.fromkeys(REFERENCE_FIELDS, "nan")
    texts |= {str(n): v for n, v in zip(names, values.values(), strict=True) if v not in _READ_AS_NAN}
    if texts["age"].endswith("years"):
        texts["age"] = texts["age"].replace(" years", " years old")
    return _REFERENCE.format(**texts)


def _reference_names(fields: Iterable[str]) -> list[str | None]:
    """Which part of the reference sentence each field is; None where it is none."""
    official = {column: name for name, column in REFERENCE_FIELDS.items()}
    return [field if field in REFERENCE_FIELDS else official.get(field) for field in fields]


def _check_reference(fields: Sequence[str], where: str) -> None:
    names = _reference_names(fields)
    if sorted(map(str, names)) != sorted(REFERENCE_FIELDS):
        raise CumaError(
            f"{where}: profile.sentence reference needs exactly the fields {', '.join(REFERENCE_FIELDS.values())} (or "
            f"{', '.join(REFERENCE_FIELDS)}), but the profile has {', '.join(fields)}; leave profile.fields empty with "
            "data.source wvs7 or wvb, or use profile.sentence natural"
        )


def profile_text(profiles: Profiles, row: int) -> str:
    """The sentence that describes profile `row`, without the derived fields; see `describe`."""
    values = {field: value for field, value in profiles.values(row).items() if field not in profiles.derived}
    return describe(values, profiles.sentence)


def parse_profile(text: str, fields: Sequence[str] | None = None) -> dict[str, str]:
    """Reads a profile written by hand: "country=Chile, year=2012" -> {"country": "Chile", "year": "2012"}.

    The same as "country: Chile; year: 2012". A value may hold commas (there: semicolons), as long as no `name=` (there:
    `name:`) follows them. Values need not occur in any survey; `fields` are the fields there are (None: any name). A
    `CumaError` for a part without `=` or `:`, an empty value, or a field named twice or not in `fields`.
    """
    values: dict[str, str] = {}
    comma, sign = (";", ":") if re.match(r"[^=]*:", text) else (",", "=")
    for part in re.split(rf"{comma}\s*(?=[^{comma}{sign}]+{sign})", text.strip().removesuffix(comma)):
        name, equals, value = (piece.strip() for piece in part.partition(sign))
        name = name.lower().replace(" ", "_")
        # Official columns of a source have capitals.
        name = next((field for field in fields or () if field.lower() == name), name)
        if not (name and equals and value):
            example = ", ".join(f"{field}=..." for field in fields[:2]) if fields else "country=Chile, year=2012"
            raise CumaError(f'profile {text!r}: cannot read {part!r}; write it as "{example}"')
        if fields is not None:
            check_field(name, fields, f"profile {text!r}")
        if name in values:
            raise CumaError(f"profile {text!r}: field {name!r} is given twice")
        values[name] = value
    return values


def check_field(field: str, known: Sequence[str], where: str) -> None:
    """Raises a `CumaError` for a field that is not one of `known`; `where` names its place."""
    if field not in known:
        raise CumaError(f"{where}: unknown profile field {field!r}; known here: {near(field, known, 60)}")


def unknown_value(field: str, value: str, known: Sequence[str], where: str) -> CumaError:
    """What is wrong with a value that nobody has, where profiles are known by the values in the data."""
    return CumaError(
        f"{where}: nobody in the data has {field} {value!r}, and this run knows people by the values in its data; of "
        f"{field} they are {near(value, known, MOST_SHOWN)}"
    )
