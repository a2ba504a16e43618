"""A first survey.yaml for a table that has none: guessed from its header and values, to be completed by hand."""

import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.scales import is_no_answer, scale_order
from cuma_jax.surveys.sources.own.respondents import whole
from cuma_jax.surveys.sources.own.survey_spec import ADVICE
from cuma_jax.tables.encoding import NOT_KNOWN, UNREADABLE, report_not_utf8
from cuma_jax.tables.packed import given_path, reported, unpacked
from cuma_jax.tables.problems import Problems, Strict
from cuma_jax.tables.statistical_files import NOTHING_SAID
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
_NUMBER = re.compile(r"-?\d+")
_MOST_QUESTIONS, _SHOWN = 1000, 200


def propose_yaml(path: pathlib.Path | str) -> str:
    """The text of a survey.yaml for the table at `path`, with `TODO` where only a person can know.

    Columns are guessed by name and by how many different values they have. A check of the proposal names every
    `TODO` that is left. A `CumaError` where the table cannot be read.
    """
    path, problems = given_path(path), Problems(ADVICE)
    header, delimiter, encoding = read_header(path, problems)
    if encoding == NOT_KNOWN:  # a proposal of names that cannot be read is none
        with reported(path, Strict()), unpacked(path) as file:
            report_not_utf8(path, file, Strict())
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
    if encoding != "utf-8":
        lines.append(f"encoding: {encoding}  # a guess: are the texts below right?")
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
    texts = {name: [c.values[v] for v in np.unique(c.code_N)] for name, c in table.columns.items()}
    questions = [n for n in rest if n not in profile and 2 <= len(_codes(texts[n])) <= _MOST_OPTIONS]
    lines = [f"layout: {'long' if long else 'wide'}"]
    lines += [f"{role}: {_quoted(name)}" for role, name in roles.items()]
    lines += ["profile:", *[f"  {_field(name)}: {_quoted(name)}" for name in profile]]
    lines += [] if profile else ["  TODO: TODO  # field name: column, for example age_group: age"]
    answers = [roles["answer"]] if long else questions
    used = {value for name in [*profile, *answers] for value in texts[name]}
    unsure = sorted(v for v in used if is_no_answer(v) and v not in _MISSING)
    missing = ["", *[code for code in _MISSING if code in used], *unsure]
    note = "  # do the texts among them mean no answer? Take out one that is an option" if unsure else ""
    lines.append(f"missing: {json.dumps(missing, ensure_ascii=False)}{note}")
    lines.append("questions:")
    if long:
        column, answer = table.columns[roles["question"]], table.columns[roles["answer"]]
        order = np.argsort(column.code_N, kind="stable")
        bounds = np.searchsorted(column.code_N[order], np.arange(len(column.values) + 1))
        for q, question in enumerate(column.values[:_MOST_QUESTIONS]):
            used_codes = np.unique(answer.code_N[order[bounds[q] : bounds[q + 1]]]).tolist()
            if used_codes:
                lines += _question(question, [answer.values[v] for v in used_codes])
        return [*lines, *_left(column.values[_MOST_QUESTIONS:])]
    for name in questions[:_MOST_QUESTIONS]:
        lines += _question(name, texts[name], table.variables.get(name, NOTHING_SAID).label)
    lines += _left(questions[_MOST_QUESTIONS:])
    if not questions:
        lines.append("  TODO: {text: TODO, options: {1: TODO, 2: TODO}}  # no column with 2 to 11 values was found")
    taken = {*profile, *questions}
    if ignored := [name for name in rest if name not in taken]:
        more = f" and {len(ignored) - _SHOWN} more" if len(ignored) > _SHOWN else ""
        shown = ", ".join(ignored[:_SHOWN])
        lines.append(f"# Not used, because they have one value, or more than {_MOST_OPTIONS}: {shown}{more}")
    return [line.replace("\n", " ") for line in lines]


def _left(names: Sequence[str]) -> list[str]:
    return [f"# and {len(names):,} more questions, from {names[0]} on"] if names else []


def _question(name: str, values: Sequence[str], wording: str = "") -> list[str]:
    codes = _codes(values)
    numbers = all(_NUMBER.fullmatch(code) for code in codes)
    lines = [f"  {_quoted(name)}:", f"    text: {json.dumps(wording or 'TODO: the wording', ensure_ascii=False)}"]
    order = None if numbers else scale_order(codes)
    if numbers:
        lines.append("    options:  # in the order of the scale")
    elif order:
        lines.append("    options:  # taken for a known scale: is this its order?")
    else:
        lines += [
            "    ordered: TODO  # true, with the options below in the order of the scale; or false",
            "    options:",
        ]
    return [*lines, *(f"      {_quoted(code)}: {'TODO' if numbers else _quoted(code)}" for code in order or codes)]


def _codes(values: Sequence[str]) -> list[str]:
    """The values that may be options, whole numbers in their order."""
    codes = [v for v in values if v and v not in _MISSING and UNREADABLE not in v and not is_no_answer(v)]
    codes = list(dict.fromkeys(map(whole, codes)))
    if all(_NUMBER.fullmatch(code) for code in codes):
        numbers = sorted({int(code) for code in codes})
        # A code that nobody chose is on the scale all the same.
        span = range(numbers[0], numbers[-1] + 1) if numbers else range(0)
        return [str(number) for number in (span if len(span) <= _MOST_OPTIONS else numbers)]
    return sorted(codes)


def _field(name: str) -> str:
    return _quoted("_".join(re.findall(r"\w+", name.lower())) or "TODO")


def _quoted(text: str) -> str:
    """A YAML scalar: plain where that is safe, else in double quotes."""
    return text if re.fullmatch(r"[A-Za-z_]\w*( \w+)*|\d+", text, re.ASCII) else json.dumps(text, ensure_ascii=False)
