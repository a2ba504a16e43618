"""What a WorldValuesBench checkout says about the survey: its questions, its codes, and names of its person columns.

Facts shared by the two readers: `wvs7` (the raw csv) and `wvb` (the checkout's generated tables).
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key
from cuma_jax.runtime.json_files import read_object
from cuma_jax.surveys.profiles import REFERENCE_FIELDS
from cuma_jax.surveys.survey import Question
from cuma_jax.surveys.text import clean_text
from cuma_jax.tables.packed import digest, given_path
from cuma_jax.tables.problems import Strict

INTERVIEW = "D_INTERVIEW"
REPEATED_INTERVIEW = 858069901
"""An interview id that stands for several people; WorldValuesBench leaves it out."""

PAPER_FIELDS = {column: field for field, column in REFERENCE_FIELDS.items()}
"""The columns of the CuMA paper's profiles, in its order, and the names of their fields here."""

FIELDS = PAPER_FIELDS | {
    "A_YEAR": "year",
    "J_INTDATE": "interview_date",
    "N_TOWN": "settlement",
    "G_TOWNSIZE": "town_size",
    "H_SETTLEMENT": "settlement_type",
    "H_URBRURAL": "urban_rural",
    "S_INTLANGUAGE": "interview_language",
    "E1_LITERACY": "literacy",
    "Q261": "birth_year",
    "Q262": "age_in_years",
    "Q263": "immigrant",
    "Q264": "mother_immigrant",
    "Q265": "father_immigrant",
    "Q266": "birth_country",
    "Q267": "mother_birth_country",
    "Q268": "father_birth_country",
    "Q269": "citizen",
    "Q270": "household_size",
    "Q271": "lives_with_parents",
    "Q272": "home_language",
    "Q274": "children",
    "Q276": "spouse_education",
    "Q277": "mother_education",
    "Q278": "father_education",
    "Q280": "spouse_employment",
    "Q281": "occupation",
    "Q282": "spouse_occupation",
    "Q283": "father_occupation",
    "Q284": "sector",
    "Q285": "chief_wage_earner",
    "Q286": "family_savings",
    "Q287": "social_class",
    "Q288": "income",
    "Q289CS9": "religion_detailed",
}
"""Every demographic column of WorldValuesBench, and the readable name of its field."""

_SOURCE = "World Values Survey wave 7 (WorldValuesBench)"
_JSON = ("question_metadata", "codebook", "answer_adjustment")
_TOOLS = ("dataset_construction", "WorldValuesBench", ".")
_GET = "clone https://github.com/Demon702/WorldValuesBench and set data.wvb to the checkout"
# "AR: White" (the country is a field of its own), "Bachelor or equivalent (ISCED 6)".
_DECORATION = re.compile(r"^[A-Z]{2,3}\d?: | \(ISCED \d\)")


@dataclasses.dataclass(frozen=True)
class Codebook:
    """The three JSON files of a checkout.

    Attributes:
        files: path of each, by name without the ending.
        metadata, codebook: contents of two of them, by question.
        values: ids of the value questions.
        demographics: demographic columns, without the interview id.
        recodes: new code of each adjusted code, by question; None where it is no answer any more.
    """

    files: dict[str, pathlib.Path]
    metadata: dict[str, Any]
    codebook: dict[str, Any]
    values: tuple[str, ...]
    demographics: tuple[str, ...]
    recodes: dict[str, dict[int, int | None]]

    def scale(self, question: str) -> tuple[int, int]:
        """Lowest and highest code of a question, after the adjustment."""
        entry = self.metadata[question]
        return int(entry["answer_scale_min"]), int(entry["answer_scale_max"])

    def choices(self, question: str) -> dict[str, str]:
        """Texts by code, as the codebook has them."""
        return self.codebook.get(question, {}).get("choices", {})

    def official_text(self, column: str, code: int) -> str:
        """What WorldValuesBench's tables say for a code of a demographic column; "" where there is no answer."""
        if self.metadata[column]["answer_data_type"] == "ordinal":
            return "" if code < 0 else str(code)
        return self.choices(column).get(str(code), str(code))

    def unknown(self, column: str, texts: Sequence[str | None]) -> list[bool]:
        """Which official texts of a column are codes that the codebook has no text for: no words of a profile."""
        codes = {code: name.strip() for code, name in self.choices(column).items() if int(code) >= 0}
        if all(code == name for code, name in codes.items()):  # of years and numbers of people the code is the word
            return [False] * len(texts)
        known = {*codes} if self.metadata[column]["answer_data_type"] == "ordinal" else {*codes.values()}
        return [text is not None and text.strip().isdecimal() and text.strip() not in known for text in texts]

    def readable(self, column: str, texts: Sequence[str | None]) -> list[str | None]:
        """Official texts of a column as words of a profile; None where one is among the codebook's missing codes, or
        is a code that it lacks."""
        choices = self.choices(column)
        missing = {name.strip() for code, name in choices.items() if int(code) < 0}
        if self.metadata[column]["answer_data_type"] == "ordinal":
            names = [text and choices.get(text, text) for text in texts]
        else:
            names = list(texts)
        lacking = self.unknown(column, texts)
        stripped = ["" if gone else (text or "").strip() for text, gone in zip(names, lacking, strict=True)]
        return [
            None if text in missing or re.fullmatch(r"-\d+", text) else clean_text(_DECORATION.sub("", text)) or None
            for text in stripped
        ]


def needed_path(data: DataConfig, field: str) -> pathlib.Path:
    """The path in `data.raw` or `data.wvb`; a CumaError where it is empty."""
    value = getattr(data, field)
    if not value:
        raise CumaError(f"data.source {data.source} needs data.{field}: {data.needed(field)}")
    return given_path(value)


def find_file(root: pathlib.Path, folders: tuple[str, ...], name: str, advice: str) -> pathlib.Path:
    """The first of `root/folder/name` that is a file; a CumaError with `advice` where none is."""
    candidates = [root / folder / name for folder in folders]
    if found := next((candidate for candidate in candidates if candidate.is_file()), None):
        return found
    raise CumaError(f"data.wvb {str(root)!r}: {name} not found; looked for {', '.join(map(str, candidates))}; {advice}")


def checkout_files(wvb: pathlib.Path, tables: Iterable[pathlib.Path] = ()) -> list[pathlib.Path]:
    """What is read of the checkout: its JSON files, `tables`, and its list of probe samples, if it has one."""
    probe = probe_file(wvb)
    return [*json_files(wvb).values(), *tables, *([probe] if probe else [])]


def source_key(data: DataConfig, parts: tuple[str, ...], files: Iterable[pathlib.Path]) -> str:
    """A key of `parts`, of the contents of `files`, and of how `data` says to read them."""
    key = content_key(*parts, *(digest(file, Strict()).hex() for file in files))
    return content_key(key, data.wording, data.option_texts, data.bad_rows)


def json_files(wvb: pathlib.Path) -> dict[str, pathlib.Path]:
    """Path of each JSON file of the checkout, by name without the ending; a CumaError where one is missing."""
    return {name: find_file(wvb, _TOOLS, f"{name}.json", _GET) for name in _JSON}


def probe_file(wvb: pathlib.Path) -> pathlib.Path | None:
    """The list of the probe set's samples, if the checkout has it."""
    found = (wvb / folder / "samples.tsv" for folder in ("WorldValuesBench/probe", "probe"))
    return next((file for file in found if file.is_file()), None)


def read_codebook(wvb: pathlib.Path) -> Codebook:
    """The three JSON files of a checkout; a `CumaError` where one is missing, no JSON, or not of the expected form."""
    files = json_files(wvb)
    metadata, codebook, adjustment = (read_object(files[name]) for name in _JSON)
    try:
        values = tuple(q for q, entry in metadata.items() if entry["use_case"] == "value")
        demographics = tuple(q for q, e in metadata.items() if e["use_case"] == "demographic" and q != INTERVIEW)
        for q in values:
            int(metadata[q]["answer_scale_min"]), int(metadata[q]["answer_scale_max"]), str(metadata[q]["question"])
        for q in demographics:
            str(metadata[q]["answer_data_type"])
        for q in (*values, *demographics):
            [(int(code), str(text)) for code, text in codebook.get(q, {}).get("choices", {}).items()]
        recodes = {
            q: {int(code): int(new) if new != "" else None for code, new in table.items()}
            for q, table in adjustment.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CumaError(
            f"the JSON files of {wvb} are not those of WorldValuesBench ({type(error).__name__}: {error}); {_GET}"
        ) from None
    if not values:
        raise CumaError(f"{files['question_metadata']} has no value question; {_GET}")
    return Codebook(files, metadata, codebook, values, demographics, recodes)


def adjusted_texts(choices: Mapping[str, str], recode: Mapping[int, int | None]) -> dict[int, str]:
    """Option texts by code, recoded as the answers are.

    A code that becomes None is no answer any more. Where a code is merged into one that stays, the one that stays
    keeps its text (Q241: 0, "against democracy", becomes 1).
    """
    by_code = {int(code): text for code, text in choices.items()}
    texts = {code: text for code, text in by_code.items() if code >= 0 and code not in recode}
    for code, new in recode.items():
        if new is not None and code in by_code:
            texts.setdefault(new, by_code[code])
    return texts


def build_questions(book: Codebook, wording: str, option_texts: str) -> tuple[Question, ...]:
    """The value questions, in the order of question_metadata.json; a `CumaError` for a question that the codebook
    lacks, or a scale with a code that has no text.

    Args:
        wording: `label`, the codebook's short text, or `natural`, written out.
        option_texts: `adjusted`, recoded as the answers are: the options are the scale. `reference`, as the official
            CuMA pipeline has it: all choices with a code of 0 or more, under their codes before the adjustment.
    """
    file = book.files["codebook"]
    questions = []
    for q in book.values:
        choices = book.choices(q)
        if not choices or not book.codebook[q].get("question"):
            raise CumaError(f"{file} has no question {q} with text and choices, which question_metadata.json lists")
        text = clean_text(book.codebook[q]["question"] if wording == "label" else book.metadata[q]["question"])
        recode = {} if option_texts == "reference" else book.recodes.get(q, {})
        texts = {code: clean_text(name) for code, name in adjusted_texts(choices, recode).items()}
        low, high = book.scale(q)
        codes = sorted(texts) if option_texts == "reference" else list(range(low, high + 1))
        if lacking := [str(code) for code in codes if not texts.get(code)]:
            raise CumaError(
                f"{file}: question {q} has no text for codes {', '.join(lacking)} of its scale {codes[0]}..{codes[-1]}"
                "; add them to its choices, or fetch the file again"
            )
        if len(codes) < 2:
            raise CumaError(f"{file}: question {q} has {len(codes)} options; it needs at least two")
        names = tuple(texts[code] for code in codes)
        questions.append(Question(q, text, names, tuple(map(str, codes)), True, _SOURCE))
    return tuple(questions)
