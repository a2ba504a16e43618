"""A first survey.yaml for a table that has none: guessed from its header and values, to be completed by hand."""

import json
import pathlib
import re
from collections.abc import Sequence

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.own.spec import ADVICE
from cuma_jax.tables.encoding import UNREADABLE
from cuma_jax.tables.problems import Problems
from cuma_jax.tables.text_columns import TextTable, read_columns, read_header, usual_delimiter

_MOST_OPTIONS = 11
_NAMES = {
    "respondent": ("id", "respondent", "respondent_id", "person", "person_id", "user", "user_id", "uid", "case_id"),
    "weight": ("weight", "w", "wt", "weights", "pspwght", "w_weight", "wgt"),
    "stratum": ("stratum", "strata"),
    "psu": ("psu", "cluster", "i_psu"),
    "question": ("question", "item", "question_id", "variable"),
    "answer": ("answer", "response", "value", "code"),
}
_PROFILE = re.compile(
    r"country|nation|region|state|province|sex|gender|age|agegroup|education|educ|degree|religion|religious|ethnicity|"
    r"race|marital|employment|occupation|income|class|party|urban|settlement|language|year|wave",
    re.IGNORECASE,
)
_MISSING = ("NA", "N/A", "na", "nan", "NaN", "NULL", ".", "-", "-1", "-2", "-3", "-4", "-5", "-8", "-9", "99", "999")
_NUMBER = re.compile(r"-?\d+(\.0*)?")


def propose_yaml(path: pathlib.Path | str) -> str:
    """The text of a survey.yaml for the table at `path`, with `TODO` where only a person can know.

    Columns are guessed by name and by how many different values they have. A check of the proposal names every
    `TODO` that is left. A `CumaError` where the table cannot be read.
    """
    path, problems = pathlib.Path(path).expanduser(), Problems(ADVICE)
    header, delimiter, encoding = read_header(path, problems)
    names = [name for name in dict.fromkeys(header) if name]
    table = read_columns(path, dict.fromkeys(names, ""), delimiter, encoding, problems) if names else None
    if table is None:
        problems.raise_errors()
        raise CumaError(f"{path}: no header to propose a YAML file from")
    lines = [
        "# Proposed from the header; every TODO wants a human. docs/my_survey.md explains each key.",
        f"name: {_quoted(path.name.split('.')[0])}",
        f"answers: {_quoted(path.name)}",
    ]
    if delimiter != usual_delimiter(path):
        lines.append(f"delimiter: {'tab' if delimiter == chr(9) else _quoted(delimiter)}")
    lines += [f"encoding: {encoding}"] if encoding != "utf-8" else []
    return "\n".join([*lines, *_columns(table)]) + "\n"


def _columns(table: TextTable) -> list[str]:
    names, roles = list(table.columns), {}
    for role, known in _NAMES.items():
        if found := next((name for name in names if name.lower() in known), None):
            roles[role] = found
    long = {"question", "answer"} <= set(roles)
    roles = {role: name for role, name in roles.items() if long or role not in ("question", "answer")}
    roles.setdefault("respondent", next((n for n in names if len(table.columns[n].values) >= len(table)), names[0]))
    rest = [name for name in names if name not in roles.values()]
    profile = [name for name in rest if any(_PROFILE.fullmatch(w) for w in [name, *re.split(r"[\W_]+", name)])]
    questions = [n for n in rest if n not in profile and 2 <= len(_codes(table.columns[n].values)) <= _MOST_OPTIONS]
    lines = [f"layout: {'long' if long else 'wide'}"]
    lines += [f"{role}: {_quoted(name)}" for role, name in roles.items()]
    lines += ["profile:", *[f"  {_field(name)}: {_quoted(name)}" for name in profile]]
    lines += [] if profile else ["  TODO: TODO  # field name: column, for example age_group: age"]
    answers = [roles["answer"]] if long else questions
    used = {value for name in [*profile, *answers] for value in table.columns[name].values}
    lines.append(f"missing: {json.dumps(['', *[code for code in _MISSING if code in used]])}")
    lines.append("questions:")
    if long:
        column, answer = table.columns[roles["question"]], table.columns[roles["answer"]]
        for q, question in enumerate(column.values):
            used_codes = sorted(set(answer.code_N[column.code_N == q].tolist()))
            lines += _question(question, [answer.values[v] for v in used_codes])
        return lines
    for name in questions:
        lines += _question(name, table.columns[name].values)
    if not questions:
        lines.append("  TODO: {text: TODO, options: {1: TODO, 2: TODO}}  # no column with 2 to 11 values was found")
    if ignored := [name for name in rest if name not in (*profile, *questions)]:
        lines.append(f"# Not used, because they have one value, or more than {_MOST_OPTIONS}: {', '.join(ignored)}")
    return [line.replace("\n", " ") for line in lines]


def _question(name: str, values: Sequence[str]) -> list[str]:
    codes = _codes(values)
    lines = [f"  {_quoted(name)}:", '    text: "TODO: the wording"', "    options:  # in the order of the scale"]
    for code in codes:
        lines.append(f"      {_quoted(code)}: {_quoted(code) if not _NUMBER.fullmatch(code) else 'TODO'}")
    return lines


def _codes(values: Sequence[str]) -> list[str]:
    """The values that may be options, numbers in their order."""
    codes = [value for value in values if value and value not in _MISSING and UNREADABLE not in value]
    if all(_NUMBER.fullmatch(code) for code in codes):
        numbers = sorted({int(code.split(".")[0]) for code in codes})
        # A code that nobody chose is on the scale all the same.
        span = range(numbers[0], numbers[-1] + 1) if numbers else range(0)
        return [str(number) for number in (span if len(span) <= _MOST_OPTIONS else numbers)]
    return sorted(codes)


def _field(name: str) -> str:
    return _quoted("_".join(re.findall(r"\w+", name.lower())) or "TODO")


def _quoted(text: str) -> str:
    """A YAML scalar: plain where that is safe, else in double quotes."""
    return text if re.fullmatch(r"[A-Za-z_]\w*( \w+)*|\d+", text, re.ASCII) else json.dumps(text, ensure_ascii=False)
