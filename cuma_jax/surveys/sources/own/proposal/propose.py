"""A first survey.yaml and questions.yaml for a table that has none: guessed from names, labels and values.

Each line has its reason; where only a person can know, it says `TODO`, which a check names.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import write_text
from cuma_jax.surveys.sources.own.field_values import whole
from cuma_jax.surveys.sources.own.proposal.blocks import find_blocks
from cuma_jax.surveys.sources.own.proposal.columns import MISSING_CODES, ColumnFacts, column_facts
from cuma_jax.surveys.sources.own.proposal.questions import (
    as_list,
    block_lines,
    one_line,
    question_lines,
    quoted,
    why_no_question,
)
from cuma_jax.surveys.sources.own.proposal.roles import Roles, age_edges, find_roles
from cuma_jax.surveys.sources.own.survey_spec import ADVICE
from cuma_jax.tables.encoding import NOT_KNOWN, report_not_utf8
from cuma_jax.tables.packed import given_path, reported, unpacked
from cuma_jax.tables.problems import Problems, Strict
from cuma_jax.tables.text_columns import TextTable, read_columns, read_header, usual_delimiter

_LONG = {
    "question": ("question", "item", "question_id", "variable"),
    "answer": ("answer", "response", "value", "code"),
}
_MOST_QUESTIONS, _SHOWN = 5000, 300
_HEAD = "# Proposed from the table; each line says why. docs/my_survey.md explains each key."


@dataclasses.dataclass(frozen=True)
class Proposal:
    """What a table seems to be.

    Attributes:
        survey: the text of survey.yaml, without the questions.
        questions: the text of questions.yaml.
        notes: what was found, in a line each, for people.
    """

    survey: str
    questions: str
    notes: tuple[str, ...]

    @property
    def todos(self) -> int:
        """Lines that a person must complete."""
        return sum("TODO" in line for line in (self.survey + self.questions).splitlines())

    def in_one(self) -> str:
        """Both as one YAML document."""
        body = "".join(f"  {line}\n" for line in self.questions.splitlines())
        return f"{self.survey}questions:\n{body}"


def propose_yaml(path: pathlib.Path | str) -> str:
    """The text of one survey.yaml, questions included, for the table at `path`; errors are those of `propose`."""
    return propose(path).in_one()


def propose(path: pathlib.Path | str, beside: pathlib.Path | None = None) -> Proposal:
    """What survey.yaml and questions.yaml for the table at `path` may be.

    Args:
        path: a table of any format that is read.
        beside: the folder that the YAML files are for; None: the table's.

    Raises:
        CumaError: the table cannot be read.
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
    where = path.name if beside is None or beside.resolve() == path.resolve().parent else str(path.resolve())
    lines = [_HEAD, f"name: {quoted(path.name.split('.')[0])}", f"answers: {quoted(where)}"]
    if delimiter and delimiter != usual_delimiter(path):
        lines.append(f"delimiter: {'tab' if delimiter == chr(9) else quoted(delimiter)}")
    if encoding != "utf-8":
        lines.append(f"encoding: {encoding}  # a guess: are the texts below right?")
    roles = {key: next((name for name in names if name.lower() in known), None) for key, known in _LONG.items()}
    long = all(roles.values())
    design, questions, notes = _long(table, roles) if long else _wide(table)
    told = [f"{problem.message}; {problem.hint}" for problem in problems if problem.severity == "warning"]
    return Proposal("\n".join([*lines, *design]) + "\n", "\n".join(questions) + "\n", (*told, *notes))


def write_proposal(path: pathlib.Path | str, folder: pathlib.Path | None = None, overwrite: bool = False) -> Proposal:
    """Writes survey.yaml and questions.yaml for the table at `path` into `folder` (None: beside it).

    Raises:
        CumaError: one of them is there and `overwrite` is not set, or the table cannot be read.
    """
    folder = given_path(path).parent if folder is None else folder
    files = [folder / "survey.yaml", folder / "questions.yaml"]
    if there := [str(file) for file in files if file.exists() and not overwrite]:
        raise CumaError(f"{' and '.join(there)} would be overwritten; say --overwrite, or --out with another folder")
    found = propose(path, folder)
    write_text(files[1], found.questions)
    write_text(files[0], f"{found.survey}questions: questions.yaml\n")
    return found


def _wide(table: TextTable) -> tuple[list[str], list[str], list[str]]:
    columns = column_facts(table)
    roles = find_roles(columns)
    taken = {role.column.name for role in (*roles.design.values(), *roles.fields.values())}
    left_out = dict(roles.left_out)
    rest = [column for name, column in columns.items() if name not in taken and name not in left_out]
    blocks = find_blocks(rest)
    in_block = {name for block in blocks for name in block.options}
    asked: list[ColumnFacts] = []
    for column in rest:
        if column.name not in in_block:
            if reason := why_no_question(column):
                left_out[column.name] = reason
            else:
                asked.append(column)
    common = _common([*asked, *(role.column for role in roles.fields.values())])
    design = ["layout: wide", *_design(roles), *_profile(roles, common), _missing(common)]
    lines: list[str] = []
    first = {next(iter(block.options)): block for block in blocks}
    by_name = {column.name: column for column in asked[:_MOST_QUESTIONS]}
    for name in columns:
        if name in first:
            lines += block_lines(first[name], common)
        elif name in by_name:
            lines += question_lines(by_name[name], common)
    if len(asked) > _MOST_QUESTIONS:
        lines.append(f"# and {len(asked) - _MOST_QUESTIONS:,} more questions, from {asked[_MOST_QUESTIONS].name} on")
    if not lines:
        lines.append("TODO: {text: TODO, options: {1: TODO, 2: TODO}}  # no column seems to be a question")
    lines += _left_out(left_out)
    number = len(by_name) + len(blocks)
    return design, lines, [*_notes(roles, number), f"{len(left_out)} columns are left out, each with its reason"]


def _long(table: TextTable, roles: dict[str, str | None]) -> tuple[list[str], list[str], list[str]]:
    """A table with a row an answer."""
    question, answer = str(roles["question"]), str(roles["answer"])
    others = {name: facts for name, facts in column_facts(table).items() if name not in (question, answer)}
    found = find_roles(others, long=True)
    column, codes = table.columns[question], table.columns[answer]
    order = np.argsort(column.code_N, kind="stable")
    bounds = np.searchsorted(column.code_N[order], np.arange(len(column.values) + 1))
    asked = []
    for q, name in enumerate(column.values):
        used, counts = np.unique(codes.code_N[order[bounds[q] : bounds[q + 1]]], return_counts=True)
        if name and len(used):
            texts = [codes.values[v] for v in used.tolist()]
            there = {whole(text): n for text, n in zip(texts, counts.tolist(), strict=True) if text}
            asked.append(ColumnFacts(name, name, "", there, int(counts.sum())))
    common = _common([*asked, *(role.column for role in found.fields.values())])
    design = ["layout: long", *_design(found), f"question: {quoted(question)}", f"answer: {quoted(answer)}"]
    design += [*_profile(found, common), _missing(common)]
    lines = [line for facts in asked[:_MOST_QUESTIONS] for line in question_lines(facts, common)]
    if len(asked) > _MOST_QUESTIONS:
        lines.append(f"# and {len(asked) - _MOST_QUESTIONS:,} more questions, from {asked[_MOST_QUESTIONS].name} on")
    return design, lines, _notes(found, len(asked))


def _design(roles: Roles) -> list[str]:
    lines = [f"{key}: {quoted(role.column.name)}  # {one_line(role.reason)}" for key, role in roles.design.items()]
    if "respondent" not in roles.design:
        lines.insert(0, "respondent: TODO  # no column seems to tell persons apart: give every row an id")
    return lines


def _profile(roles: Roles, common: Sequence[str]) -> list[str]:
    lines = ["profile:"]
    for field, role in roles.fields.items():
        lines.append(f"  {field}: {_field(field, role.column, common)}  # {one_line(role.reason)}")
    return lines if roles.fields else ["profile:", "  TODO: TODO  # field name: column, for example age_group: age"]


def _field(field: str, column: ColumnFacts, common: Sequence[str]) -> str:
    """What a profile field is: its column, what its codes mean, groups of numbers, what is no answer."""
    labels = {code: text for code, text in column.labels.items() if code not in column.no_answer}
    missing = [code for code in column.no_answer if code not in common]
    parts = []
    unlabelled = [code for code in column.codes if code not in labels]
    if column.are_numbers and field == "age" and len(unlabelled) > 11:
        parts.append(f"bins: {age_edges(column.codes)}")
    elif column.are_numbers and field == "income" and len(unlabelled) > 11:
        parts.append(f"bins: {_quarters(column)}")
    elif labels:
        texts = labels | {code: code for code in unlabelled}
        parts.append("values: {" + ", ".join(f"{quoted(code)}: {quoted(text)}" for code, text in texts.items()) + "}")
    if missing:
        parts.append(f"missing: {as_list(missing)}")
    return f"{{{', '.join([f'column: {quoted(column.name)}', *parts])}}}" if parts else quoted(column.name)


def _quarters(column: ColumnFacts) -> list[float]:
    """Edges of four groups of about the same size, rounded to two digits."""
    codes = [code for code in column.codes if code in column.counts]
    number_V = np.repeat([float(code.replace(",", ".")) for code in codes], [column.counts[code] for code in codes])
    edges = sorted({float(f"{edge:.2g}") for edge in np.quantile(number_V, (0.25, 0.5, 0.75))})
    return [int(edge) if edge.is_integer() else edge for edge in edges]


def _common(columns: Sequence[ColumnFacts]) -> list[str]:
    """What means no answer in every column: texts and usual codes of columns that have no labels."""
    found: dict[str, None] = {}
    for column in columns:
        if not column.labels:
            found |= dict.fromkeys(column.no_answer)
    options = {code for column in columns for code in column.codes}
    place = {code: n for n, code in enumerate(MISSING_CODES)}
    return sorted((c for c in found if c not in options), key=lambda c: (place.get(c, len(place)), c))


def _missing(common: Sequence[str]) -> str:
    note = "  # take out one that is an option" if common else ""
    return f"missing: {as_list(['', *common])}{note}"


def _left_out(left_out: dict[str, str]) -> list[str]:
    names = list(left_out)
    lines = [f"# left out: {one_line(name)}: {one_line(left_out[name])}" for name in names[:_SHOWN]]
    return lines + ([f"# left out: {len(names) - _SHOWN} more columns"] if len(names) > _SHOWN else [])


def _notes(roles: Roles, number: int) -> list[str]:
    design = [f"{key} {role.column.name}" for key, role in roles.design.items()]
    fields = [f"{field} ({role.column.name})" for field, role in roles.fields.items()]
    return [
        f"{number} questions",
        f"profile: {', '.join(fields) or 'none found'}",
        f"design: {', '.join(design) or 'none found'}",
    ]
