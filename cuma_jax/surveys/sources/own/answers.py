"""The answers of a user's survey, wide or long, as positions of options; each code is looked up once, not each row.

Shapes: N rows of the table, R respondents, Q questions, A answers, V distinct values of a column.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from cuma_jax.runtime.near_matches import near_hint
from cuma_jax.surveys.fields.numbers import bin_numbers, read_numbers
from cuma_jax.surveys.sources.own.field_values import find_code, whole
from cuma_jax.surveys.sources.own.question_spec import YES_NO
from cuma_jax.surveys.sources.own.respondents import Respondents, Sink, rounded
from cuma_jax.surveys.sources.own.survey_spec import Choice, QuestionSpec, Spec
from cuma_jax.tables.encoding import UNREADABLE, spelled
from cuma_jax.tables.text_columns import Column, TextTable

_MISSING, _UNKNOWN, _OFF_SCALE = -1, -2, -3
# What programs write for an option that was chosen, and for one that was not, beside 1 and 0.
CHOSEN = ("1", "yes", "y", "true", "x", "checked", "selected", "chosen", "mentioned", "quoted", "on")
NOT_CHOSEN = (
    *("0", "no", "n", "false", "unchecked", "off", "not checked", "not selected", "not chosen"),
    *("not mentioned", "not quoted"),
)
_LISTS = re.compile(r"\s*[;|\n]\s*"), re.compile(r"\s*[,;|\n]\s*")
_MOST, _MOST_QUESTIONS = 3, 20


@dataclasses.dataclass(frozen=True)
class Answers:
    """int32 [A] each, sorted by person, then question."""

    respondent_A: np.ndarray
    question_A: np.ndarray
    option_A: np.ndarray


def wide_answers(table: TextTable, spec: Spec, sink: Sink) -> Answers:
    """One row a person (person n is row n), one column a question."""
    option_NQ = np.full((len(table), len(spec.questions)), _MISSING, np.int8)
    for q, question in enumerate(spec.questions):
        if question.column in table.columns:
            column = table.columns[question.column]
            option_NQ[:, q] = _options(question, spec, column.values)[column.code_N]
            if question.multiple and not question.multiple.code:
                no = YES_NO.index("No")
                # Where the column itself says no, nothing is no answer.
                if not (option_NQ[:, q] == no).any():
                    blank_N = np.array([value == "" for value in column.values])[column.code_N]
                    option_NQ[blank_N & _asked_N(table, question.multiple.columns), q] = no
            _report(table, question, str(question.column), np.arange(len(table)), option_NQ[:, q], column, sink)
    respondent_A, question_A = np.nonzero(option_NQ >= 0)
    option_A = option_NQ[respondent_A, question_A]
    return Answers(respondent_A.astype(np.int32), question_A.astype(np.int32), option_A.astype(np.int32))


def long_answers(table: TextTable, spec: Spec, respondents: Respondents | None, sink: Sink) -> Answers | None:
    """One row an answer; a column tells the respondent, one the question, one the code."""
    names = [str(spec.columns[key]) for key in ("respondent", "question", "answer")]
    if any(name not in table.columns for name in names):
        return None
    respondent, asked, answer = (table.columns[name] for name in names)
    question_N = _asked(table, names[1], asked, spec, sink)
    order = np.argsort(question_N, kind="stable")
    bound_Q = np.searchsorted(question_N[order], np.arange(len(spec.questions) + 1))
    option_N = np.full(len(table), _MISSING, np.int8)
    for q, question in enumerate(spec.questions):
        row = order[bound_Q[q] : bound_Q[q + 1]]
        # The values of this question only: a code unknown to another question is no fault of this one.
        used, code = np.unique(answer.code_N[row], return_inverse=True)
        column = Column(code, [answer.values[v] for v in used])
        option_N[row] = _options(question, spec, column.values)[code]
        _report(table, question, names[2], row, option_N[row], column, sink)
    if respondents is None:
        return None
    position = respondents.position
    respondent_V = np.array(
        [position.get(value, position.get(whole(value), -1)) for value in respondent.values], np.int32
    )
    respondent_N = respondent_V[respondent.code_N]
    stranger_N = respondent_N < 0
    if stranger_N.any():
        value = respondent.values[respondent.code_N[int(np.argmax(stranger_N))]]
        more = len(np.unique(respondent.code_N[stranger_N])) - 1
        message = f"respondent {value!r} is not in the table of respondents{f', nor are {more} others' if more else ''}"
        where = spec.respondents.name if spec.respondents else "it"
        hint = f"{rounded(value)}add the person to {where}, or delete the answers"
        sink.problems.error(table.path, table.line(stranger_N), names[0], message, hint)
    rows = np.flatnonzero((respondent_N >= 0) & (question_N >= 0))
    key = respondent_N[rows].astype(np.int64) * max(1, len(spec.questions)) + question_N[rows]
    order = np.argsort(key, kind="stable")
    rows, key = rows[order], key[order]
    _report_twice(table, names[0], rows, key, respondents, spec, question_N, sink)
    rows = rows[option_N[rows] >= 0]
    return Answers(respondent_N[rows], question_N[rows].astype(np.int32), option_N[rows].astype(np.int32))


def _asked(table: TextTable, name: str, asked: Column, spec: Spec, sink: Sink) -> np.ndarray:
    """int32 [N], the question of each row; -1 for one that the YAML does not list, which is counted."""
    position = {str(question.column): q for q, question in enumerate(spec.questions)}
    found = [find_code(value, position) for value in asked.values]
    question_V = np.array([-1 if code is None else position[code] for code in found], np.int32)
    question_N = question_V[asked.code_N]
    strange = np.flatnonzero(question_N < 0)
    values, first, counts = np.unique(asked.code_N[strange], return_index=True, return_counts=True)
    sink.count("answers to questions that the YAML file does not list", len(strange))
    for v, row, count in list(zip(values, strange[first], counts, strict=True))[:_MOST_QUESTIONS]:
        hint = "they are left out; " + near_hint(asked.values[v], position)
        message = f"question {asked.values[v]!r} is not in {spec.path.name} ({count} rows)"
        sink.problems.warning(table.path, int(table.line_N[row]), name, message, hint)
    if more := len(values[_MOST_QUESTIONS:]):
        message = f"{more} more questions are not in {spec.path.name} ({counts[_MOST_QUESTIONS:].sum()} rows)"
        sink.problems.warning(table.path, None, name, message, "they are left out")
    return question_N


def _options(question: QuestionSpec, spec: Spec, values: Sequence[str]) -> np.ndarray:
    """int8 [V]: the option that each value stands for; or no answer, an unknown code, or one beside the scale."""
    missing = spec.missing | question.missing
    blank_V = [UNREADABLE in value or find_code(value, missing) is not None for value in values]
    if question.multiple:
        option_V = [_chosen(value, question.multiple) for value in values]
    elif question.bins:
        option_V = _binned(question, values).tolist()
    else:
        position: dict[str | None, int] = {code: i for i, code in enumerate(question.codes)}
        option_V = [position.get(find_code(value, question.codes), _UNKNOWN) for value in values]
    off_V = [find_code(value, question.off_scale) is not None for value in values]
    return np.select([np.array(blank_V, bool), np.array(off_V, bool)], [_MISSING, _OFF_SCALE], option_V).astype(np.int8)


def _binned(question: QuestionSpec, values: Sequence[str]) -> np.ndarray:
    """int [V]: the option of the bin that each number is in; `reverse:` turns the options, whose codes are the bins."""
    number_V = read_numbers(values)
    position_B = np.array([question.codes.index(str(b)) for b in range(len(question.codes))])
    return np.where(np.isnan(number_V), _UNKNOWN, position_B[bin_numbers(number_V, question.bins)])


def _chosen(value: str, choice: Choice) -> int:
    """Whether a cell says that the option was chosen: in a column of its own, or in a list of what was chosen."""
    yes, no = 0, 1
    if not choice.code:
        text = value.casefold()
        if text in CHOSEN or text == choice.text.casefold() or whole(text) == "1":
            return yes
        return no if text in NOT_CHOSEN or whole(text) == "0" else _UNKNOWN
    for separator in _LISTS:
        listed = [spelled(part) for part in separator.split(value) if part]
        if all(find_code(part, choice.codes) is not None for part in listed):
            return yes if any(find_code(part, (choice.code,)) for part in listed) else no
    return _UNKNOWN


def _asked_N(table: TextTable, columns: Sequence[str]) -> np.ndarray:
    """bool [N]: who has something in one of the columns; who has not was not asked, or has not answered."""
    asked_N = np.zeros(len(table), bool)
    for column in (table.columns[name] for name in columns if name in table.columns):
        asked_N |= np.array([value != "" for value in column.values])[column.code_N]
    return asked_N


def _report(
    table: TextTable,
    question: QuestionSpec,
    name: str,
    rows: np.ndarray,
    option: np.ndarray,
    column: Column,
    sink: Sink,
) -> None:
    """Counts what is missing and what is unknown among the answers `option` in `rows` to one question."""
    sink.count(f"{question.id}: no answer", (option == _MISSING).sum())
    sink.count(f"{question.id}: not on the scale", (option == _OFF_SCALE).sum())
    if not (option >= 0).any():
        hint = "compare the codes and the names with the file, or leave the question out"
        sink.problems.warning(table.path, None, name, f"nobody answers question {str(question.id)!r}", hint)
    unknown = option == _UNKNOWN
    if not unknown.any():
        return
    codes, first, counts = np.unique(column.code_N[unknown], return_index=True, return_counts=True)
    by_line = np.argsort(first)
    for i in by_line[:_MOST]:
        value, line = column.values[codes[i]], int(table.line_N[rows[unknown][first[i]]])
        times = f" ({counts[i]} answers)" if counts[i] > 1 else ""
        message = f"question {str(question.id)!r} has no option with code {value[:60]!r}{times}"
        if len(codes) > _MOST and i == by_line[_MOST - 1]:
            message += f"; {len(codes) - _MOST} more unknown codes, {counts[by_line[_MOST:]].sum()} answers"
        if sink.skip:
            sink.problems.warning(table.path, line, name, message, "left out and counted, as bad_rows is skip")
        else:
            sink.problems.error(
                table.path, line, name, message, _hint(value, question, counts[i] == 1 and rows[unknown][first[i]] == 0)
            )
    sink.count(f"{question.id}: unknown code", unknown.sum())


def _hint(value: str, question: QuestionSpec, first_row: bool) -> str:
    if question.bins:
        return f"it is no number; if {value[:60]!r} means no answer, list it under `missing:`"
    if question.multiple and not question.multiple.code:
        return "an option of `multiple:` is 1 or 0, yes or no, or its own text and nothing"
    if question.multiple:
        return f"the options are {', '.join(sorted(question.multiple.codes)[:12])}, with , ; or | between them"
    if value in question.options:
        return "the file has the option's text: write the options as `text: text` lines, so that the text is the code"
    known = ", ".join(code[:60] for code in question.codes[:12]) + (", ..." if len(question.codes) > 12 else "")
    if re.fullmatch(r"[+-]?\d+,\d+", value):
        return f"its codes are {known}; this has a decimal comma: save the file with decimal points"
    if first_row:
        return f"its codes are {known}; if this is a further header line, delete it"
    return f"its codes are {known}; if {value[:60]!r} means no answer, list it under `missing:`"


def _report_twice(
    table: TextTable,
    name: str,
    rows: np.ndarray,
    key: np.ndarray,
    respondents: Respondents,
    spec: Spec,
    question_N: np.ndarray,
    sink: Sink,
) -> None:
    """Two rows of one respondent and one question; `rows` are sorted by `key`, which is the pair."""
    again = np.flatnonzero(key[1:] == key[:-1]) + 1
    again = again[np.argsort(rows[again], kind="stable")]
    for i in again[:_MOST]:
        person, question = respondents.ids[key[i] // len(spec.questions)], spec.questions[question_N[rows[i]]].id
        first = table.line_N[rows[np.searchsorted(key, key[i])]]
        more = f" ({len(again)} rows in all repeat an answer)" if len(again) > _MOST and i == again[_MOST - 1] else ""
        message = f"respondent {person!r} has answered {str(question)!r} already in {table.unit} {first}{more}"
        sink.problems.error(table.path, int(table.line_N[rows[i]]), name, message, "keep one of the two rows")
