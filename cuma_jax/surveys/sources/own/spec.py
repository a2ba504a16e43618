"""The YAML file that describes a user's survey: read strictly, every problem named with its line.

docs/my_survey.md explains each key.
"""

import codecs
import pathlib
import re
import shlex

from cuma_jax.config.data import CONVERSATIONS
from cuma_jax.runtime.near_matches import near_hint
from cuma_jax.surveys.sources.own.profile_spec import read_contexts, read_fields
from cuma_jax.surveys.sources.own.question_spec import read_questions
from cuma_jax.surveys.sources.own.survey_spec import FieldSpec, QuestionSpec, Spec
from cuma_jax.surveys.sources.own.yaml_file import Items, Mapping, Text, Value, read_yaml
from cuma_jax.tables.encoding import spelled
from cuma_jax.tables.packed import given_path
from cuma_jax.tables.problems import Problems

KEYS = (
    *("name", "answers", "layout", "delimiter", "encoding", "respondent", "profile", "weight", "stratum", "psu"),
    *("missing", "question", "answer", "respondents", "questions", "context"),
)
_NAMES = ("respondent", "weight", "stratum", "psu", "question", "answer", "column")  # of columns
_WEIGHTS = ("weight", "stratum", "psu")
_ENCODING = re.compile(r"^(utf|iso8859|cp\d|koi8|mac|gb|big5|euc|shift|latin|ascii|johab|ptcp)", re.IGNORECASE)
_TODO = "TODO"  # what a proposal leaves open
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


def find_spec(path: pathlib.Path | str, problems: Problems) -> Spec | None:
    """The spec at `path`: a YAML file, a folder with survey.yaml, or an answers file beside its survey.yaml."""
    path = given_path(path)
    if path.is_dir():
        return read_spec(path / "survey.yaml", problems)
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_spec(path, problems)
    beside = path.parent / "survey.yaml"
    if not path.is_file():
        what = "this is a pipe or a device, not a file" if path.exists() else "there is no such file"
        problems.error(path, None, None, what, "name the YAML file that describes the survey")
    elif not beside.is_file():
        hint = f"`python -m cuma_jax.data propose {shlex.quote(str(path))}` writes one (docs/my_survey.md)"
        problems.error(path, None, None, "this is no YAML file, and there is no survey.yaml beside it", hint)
    elif spec := read_spec(beside, problems):
        if path.resolve() in (file.resolve() for file in spec.files):
            return spec
        problems.error(beside, None, None, f"describes {spec.answers.name}, not {path.name}", "name the YAML file")
    return None


def read_spec(path: pathlib.Path, problems: Problems) -> Spec | None:
    """The spec in the YAML file at `path`. None where too little of it can be read to go on with the answers."""
    root = read_yaml(path, problems)
    if root is None:
        return None
    if not isinstance(root, Mapping):
        problems.error(path, 1, None, "is not a list of `key: value` lines", "see docs/my_survey.md")
        return None
    return _Spec(path, problems).read(root)


class _Spec:
    def __init__(self, path: pathlib.Path, problems: Problems):
        self.path, self.problems = path, problems

    def error(self, line: int, message: str, hint: str = "") -> None:
        self.problems.error(self.path, line, None, message, hint)

    def read(self, root: Mapping) -> Spec | None:
        self.known(root, KEYS, "")
        layout = self.text(root, "layout", "wide")
        if layout not in ("wide", "long"):
            self.error(layout.line, f"layout is {str(layout)!r}", "it is `wide` (a row a person) or `long` (an answer)")
        long = layout == "long"
        answers, respondents = self.text(root, "answers"), self.text(root, "respondents")
        columns = {k: t for k in ("respondent", *_WEIGHTS, "question", "answer") if (t := self.text(root, k))}
        for key in ("answers", "respondent", "profile", "questions", *(("question", "answer") if long else ())):
            if not root.get(_key(key)):
                self.error(root.line, f"there is no `{key}:`", "add it; docs/my_survey.md has an example")
        if not long:
            for key in ("question", "answer", "respondents"):
                if _key(key) in root:
                    hint = "leave it out, or say `layout: long`"
                    self.error(_line(root, key), f"`{key}:` is for layout long, and the layout is wide", hint)
            respondents = Text.at("", 1)
        missing = self.codes(root.get(_key("missing")), "missing") | {""}
        fields = read_fields(self, root.get(_key("profile")), "profile")
        context = read_contexts(self, root.get(_key("context")), self.path.parent, fields)
        questions, files = self.questions(root.get(_key("questions")))
        self.shared(columns, fields, () if long else questions)
        for question in questions if long else ():
            if question.multiple:
                hint = "write one question for each option, or make the table wide"
                self.error(question.id.line, f"question {str(question.id)!r} is `multiple:` in a long table", hint)
        if not answers or "respondent" not in columns or (long and not {"question", "answer"} <= set(columns)):
            return None
        paths = [self.path.parent / name for name in (answers, respondents) if name]
        return Spec(
            path=self.path,
            name=self.name(self.text(root, "name", self.path.resolve().parent.name or "survey")),
            answers=paths[0],
            respondents=paths[1] if respondents else None,
            files=(self.path, *files, *paths, *(one.table for one in context)),
            long=long,
            delimiter=self.delimiter(self.text(root, "delimiter")),
            encoding=self.encoding(self.text(root, "encoding", "utf-8")),
            columns=columns,
            fields=fields,
            context=context,
            questions=questions,
            missing=missing,
        )

    def shared(
        self, columns: dict[str, Text], fields: tuple[FieldSpec, ...], questions: tuple[QuestionSpec, ...]
    ) -> None:
        """A column that is two things at once: a profile must not tell the answer, nor the same twice."""
        uses = {str(column): f"`{key}:`" for key, column in columns.items() if key not in ("stratum", "psu")}
        uses |= {str(question.column): f"question {str(question.id)!r}" for question in questions}
        for field in fields:
            if use := uses.get(field.column):
                message = f"column {str(field.column)!r} is {use} and the profile field {field.name!r}"
                why = "the router is told the answer: " if use.startswith("question") else ""
                self.problems.warning(self.path, field.column.line, None, message, f"{why}leave it out of `profile:`")
            uses[field.column] = f"the profile field {field.name!r}"

    def known(self, mapping: Mapping, keys: tuple[str, ...], where: str) -> None:
        for key in mapping:
            if key not in keys:
                self.error(key.line, f"unknown key {str(key)!r}{where}", near_hint(key, keys, len(keys)))

    def text(self, mapping: Mapping, key: str, default: str = "") -> Text:
        value = mapping.get(_key(key))
        if value is None or value == "":
            return Text.at(default, mapping.line)
        if not isinstance(value, Text):
            self.error(_line(mapping, key), f"`{key}:` must be one text, not a list or a mapping")
            return Text.at(default, mapping.line)
        value = Text.at(value.strip("\r\n ") if key != "delimiter" else value, value.line)
        return Text.at(spelled(value), value.line) if key in _NAMES else value

    def flag(self, mapping: Mapping, key: str, default: bool) -> bool:
        value = self.text(mapping, key)
        if value.startswith(_TODO):
            hint = "true, once the options stand in the order of the scale; false, if they have none"
            self.error(value.line, f"there is still a placeholder: `{key}:` is {str(value)!r}", hint)
        elif value.lower() not in (*_TRUE, *_FALSE, ""):
            self.error(value.line, f"`{key}:` is {str(value)!r}", "it is true or false")
        return value.lower() in _TRUE if value else default

    def name(self, value: Text) -> str:
        if value in CONVERSATIONS:
            self.error(value.line, f"`name:` is {str(value)!r}, which is a source here", "give it a name of its own")
        return str(value)

    def delimiter(self, value: Text) -> str:
        value = Text.at({"tab": "\t", "\\t": "\t"}.get(value.lower(), value), value.line)
        if len(value) > 1 or (value and (value in "\"'\r\n" or ord(value) > 126)):
            self.error(value.line, f"the delimiter is {str(value)!r}", 'it is one character such as "," or ";", or tab')
            return ""
        return value

    def encoding(self, value: Text) -> str:
        try:
            name = codecs.lookup(value).name
        except (LookupError, ValueError):
            name = ""
        if not _ENCODING.match(name):
            self.error(
                value.line,
                f"unknown encoding {str(value)!r}",
                "write utf-8, cp1252, utf-16 or another that Python knows",
            )
            return "utf-8"
        return name

    def codes(self, value: Value | None, key: str) -> frozenset[str]:
        """The codes that mean no answer: a list, or one."""
        if value is None:
            return frozenset()
        items = value if isinstance(value, Items) else [value]
        if not all(isinstance(item, Text) for item in items):
            self.error(value.line, f"`{key}:` must be a list of codes", 'such as ["", "NA", "-9"]')
        return frozenset(spelled(item) for item in items if isinstance(item, Text))

    def questions(self, value: Value | None) -> tuple[tuple[QuestionSpec, ...], tuple[pathlib.Path, ...]]:
        if isinstance(value, Text) and value:
            path = self.path.parent / value
            return read_questions(_Spec(path, self.problems), read_yaml(path, self.problems)), (path,)
        return read_questions(self, value), ()


def _key(key: str) -> Text:
    return Text.at(key, 0)


def _line(mapping: Mapping, key: str) -> int:
    return next((k.line for k in mapping if k == key), mapping.line)
