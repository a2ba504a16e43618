"""The questions that a survey's YAML file lists: wording, options in the order of the scale, and how codes are read."""

import collections
import itertools
import re

from cuma_jax.surveys.fields.numbers import bin_labels
from cuma_jax.surveys.prompts import LETTERS
from cuma_jax.surveys.sources.own.profile_spec import SpecReader, bin_edges
from cuma_jax.surveys.sources.own.survey_spec import Choice, QuestionSpec
from cuma_jax.surveys.sources.own.yaml_file import Items, Mapping, Text, Value
from cuma_jax.surveys.text import clean_text
from cuma_jax.tables.encoding import spelled

QUESTION_KEYS = (
    *("text", "options", "ordered", "column", "missing", "gaps"),
    *("reverse", "not_on_scale", "bins", "multiple", "columns"),
)
YES_NO = ("Yes", "No")
"""Options of each choice of a question with several answers, with the codes 1 and 0."""

_LONGEST, _MOST_QUESTIONS = 20_000, 10_000
_TODO = "TODO"  # what a proposal leaves open
_INTEGER = re.compile(r"[+-]?\d{1,15}")


def read_questions(reader: SpecReader, value: Value | None) -> tuple[QuestionSpec, ...]:
    """The questions under `questions:`, or of a file of questions; those with a problem are left out."""
    if not isinstance(value, Mapping):
        if value:
            reader.error(value.line, "the questions are not `id:` lines with text and options below")
        return ()
    if len(value) > _MOST_QUESTIONS:
        reader.error(value.line, f"there are {len(value):,} questions", f"at most {_MOST_QUESTIONS:,} are read")
        return ()
    columns: dict[str, Text] = {}
    ids: dict[str, Text] = {}
    found: list[QuestionSpec] = []
    for key, entry in value.items():
        for question in _Question(reader, key).read(entry):
            found.append(question)
            listed = question.multiple is not None and bool(question.multiple.code)
            if question.column in columns and not (listed and columns[question.column] is key):
                first = columns[question.column]
                message = f"questions {str(first)!r} and {str(question.id)!r} share the column {str(question.column)!r}"
                reader.error(question.id.line, message, "each question needs its own")
            if question.id in ids:
                message = f"questions {str(ids[question.id])!r} and {str(key)!r} both make a question {question.id!r}"
                reader.error(key.line, message, "rename one of them")
            columns.setdefault(question.column, key)
            ids[question.id] = key
    return tuple(found)


class _Question:
    def __init__(self, reader: SpecReader, key: Text):
        self.reader, self.key, self.where, self.failed = reader, key, f"question {str(key)!r}", False

    def error(self, line: int, message: str, hint: str = "") -> None:
        self.failed = True
        self.reader.error(line, message, hint)

    def read(self, entry: Value) -> list[QuestionSpec]:
        """One question, or one for each option where respondents chose several; none where something is wrong."""
        key, where = self.key, self.where
        if not isinstance(entry, Mapping) or not key.strip():
            self.error(key.line, f"{where} is not described by `text:` and `options:` lines")
            return []
        self.failed |= any(name not in QUESTION_KEYS for name in entry)
        self.reader.known(entry, QUESTION_KEYS, f" in {where}")
        wording = clean_text(self.text(entry, "text"))
        self.wording(wording, key.line, f"{where} has no wording")
        if self.flag(entry, "multiple", False):
            return self.several(entry, wording)
        if _key("columns") in entry:
            self.error(key.line, f"{where} has `columns:`", "say `multiple: true` as well, or `column:`")
        missing = self.codes(entry, "missing")
        off_scale = self.codes(entry, "not_on_scale")
        ordered = self.flag(entry, "ordered", True)
        bins = self.bins(entry)
        codes, texts, given = self.options_of(entry, bins)
        if not codes:
            return []
        on = [place for place, code in enumerate(codes) if code not in off_scale]
        codes, texts = tuple(codes[place] for place in on), tuple(texts[place] for place in on)
        line = self.line(entry, "options")
        self.options(line, codes, texts)
        if ordered and given and not self.flag(entry, "gaps", False):
            self.scale(line, codes)
        if self.flag(entry, "reverse", False):
            if not ordered:
                self.error(line, f"{where} has `reverse: true` and `ordered: false`", "what has no order has no other")
            codes, texts = codes[::-1], texts[::-1]
        column = self.text(entry, "column", spelled(key))
        if self.failed:
            return []
        id_ = Text.at(spelled(key), key.line)
        return [QuestionSpec(id_, wording, texts, codes, ordered, column, missing, off_scale, bins)]

    def several(self, entry: Mapping, wording: str) -> list[QuestionSpec]:
        """The questions of one with `multiple: true`: did they choose this option, yes or no?"""
        for name in ("ordered", "gaps", "reverse", "not_on_scale", "bins"):
            if _key(name) in entry:
                self.error(self.line(entry, name), f"{self.where} has `multiple: true` and `{name}:`", "leave one out")
        missing = self.codes(entry, "missing")
        columns = entry.get(_key("columns"))
        if columns is not None:
            if _key("options") in entry:
                message = f"{self.where} has `columns:` and `options:`"
                self.error(self.line(entry, "options"), message, "`columns:` has the options: `column: text` lines")
            pairs = self.pairs(columns, "columns", "`column: text` lines, one for each option")
        else:
            pairs = self.pairs(entry.get(_key("options")), "options", "`code: text` lines")
        self.options(self.key.line, tuple(code for code, _ in pairs), tuple(text for _, text in pairs), 1)
        if self.failed:
            return []
        own = self.text(entry, "column", spelled(self.key))
        places = tuple(Text.at(code, self.key.line) for code, _ in pairs) if columns is not None else (own,)
        codes = frozenset(code for code, _ in pairs)
        found = []
        for place, (code, text) in enumerate(pairs, 1):
            id_ = Text.at(f"{spelled(self.key)}.{place if columns is not None else code}", self.key.line)
            choice = Choice(text, places) if columns is not None else Choice(text, places, code, codes)
            column = Text.at(code, self.key.line) if columns is not None else own
            asked = f"{wording} {text}"
            found.append(QuestionSpec(id_, asked, YES_NO, ("1", "0"), True, column, missing, multiple=choice))
        return found

    def bins(self, entry: Mapping) -> tuple[float, ...]:
        if _key("bins") not in entry:
            return ()
        found = bin_edges(self.reader, self.where, entry.get(_key("bins")))
        self.failed |= not found
        return found

    def options_of(self, entry: Mapping, bins: tuple[float, ...]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        """(codes, texts, whether the codes are of the file)."""
        options = entry.get(_key("options"))
        labels = bin_labels(bins) if bins else ()
        if bins and options is None:
            return tuple(str(place) for place in range(len(labels))), labels, False
        if isinstance(options, Items):
            texts = tuple(clean_text(text) if isinstance(text, Text) else "" for text in options)
            if bins and len(texts) != len(labels):
                hint = f"{len(labels)} of them, for {', '.join(labels)}; or leave `options:` out"
                self.error(options.line, f"{self.where} has {len(texts)} options for {len(labels)} bins", hint)
            first = 0 if bins else 1
            return tuple(str(place) for place in range(first, len(texts) + first)), texts, False
        if bins:
            message = f"{self.where} has `bins:`, and `options:` that are not a list of their texts"
            self.error(
                self.line(entry, "options"), message, "a list, from the lowest bin to the highest, or leave it out"
            )
            return (), (), False
        pairs = self.pairs(options, "options", "`code: text` lines")
        return tuple(code for code, _ in pairs), tuple(text for _, text in pairs), True

    def pairs(self, value: Value | None, name: str, what: str) -> list[tuple[str, str]]:
        """The lines of a mapping, or a list with the codes 1, 2, ..."""
        if isinstance(value, Items) and name == "options":
            items: list[tuple[str, Value]] = [(str(place), text) for place, text in enumerate(value, 1)]
        elif isinstance(value, Mapping):
            items = [(spelled(code), text) for code, text in value.items()]
        else:
            self.error(self.key.line, f"{self.where} has no {name}", f"add `{name}:` with {what}")
            return []
        return [(code, clean_text(text) if isinstance(text, Text) else "") for code, text in items]

    def text(self, entry: Mapping, key: str, default: str = "") -> Text:
        return self.reader.text(entry, key, default)

    def flag(self, entry: Mapping, key: str, default: bool) -> bool:
        value = self.text(entry, key)
        self.failed |= bool(value) and value.lower() not in ("true", "yes", "on", "false", "no", "off")
        return self.reader.flag(entry, key, default)

    def codes(self, entry: Mapping, key: str) -> frozenset[str]:
        return self.reader.codes(entry.get(_key(key)), key)

    def line(self, entry: Mapping, key: str) -> int:
        value = entry.get(_key(key))
        return self.key.line if value is None else value.line

    def wording(self, text: str, line: int, message: str) -> None:
        if not text or text.startswith(_TODO):
            message = f"there is still a placeholder: {text!r}" if text else message
            self.error(line, message, "write the text that the respondents saw")
        elif len(text) > _LONGEST:
            message = f"a text of {len(text):,} characters: {text[:40]!r}..."
            self.error(line, message, f"at most {_LONGEST:,}; write what the respondents saw, without markup")

    def options(self, line: int, codes: tuple[str, ...], texts: tuple[str, ...], least: int = 2) -> None:
        where = self.where
        if len(texts) < least:
            needed = "two or more" if least == 2 else "at least one"
            self.error(line, f"{where} has {len(texts)} option(s)", f"it needs {needed}; or leave it out")
        if len(texts) > len(LETTERS) and least == 2:
            hint = "merge options, or leave the question out"
            self.error(line, f"{where} has {len(texts)} options, but there are {len(LETTERS)} letters", hint)
            return
        for code, text in zip(codes, texts, strict=True):
            self.wording(text, line, f"{where}: option {code!r} has no text")
        for values, what in ((codes, "code"), ([t for t in texts if t and not t.startswith(_TODO)], "text")):
            if twice := sorted(v for v, count in collections.Counter(values).items() if count > 1):
                self.error(line, f"{where}: two options have the {what} {twice[0]!r}", "make them differ")

    def scale(self, line: int, codes: tuple[str, ...]) -> None:
        if not all(_INTEGER.fullmatch(code) for code in codes) or len(codes) < 2:
            return
        steps = {int(b) - int(a) for a, b in itertools.pairwise(codes)}
        if steps not in ({1}, {-1}):
            hint = "add the missing option or put them in order; if it is meant: `gaps: true`, or `ordered: false`"
            self.error(line, f"{self.where}: the codes {', '.join(codes)} of the scale have a gap", hint)


def _key(key: str) -> Text:
    return Text.at(key, 0)
