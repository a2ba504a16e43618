"""A survey of the user's own: an answers table (wide or long), a questions file, and one YAML file that explains them.

docs/my_survey.md describes the format. Reading and checking are one program: it collects every problem it meets and
goes on as long as it can. `read_csv_survey` raises if one of them is an error; `check_csv_survey` lists them all.

Shapes: R respondents, A answers.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key
from cuma_jax.surveys.fields.context import context_fields
from cuma_jax.surveys.fields.countries import COUNTRY_FIELDS, one_name
from cuma_jax.surveys.sources.own.answers import Answers, long_answers, wide_answers
from cuma_jax.surveys.sources.own.context import ContextTable, join_context, read_context
from cuma_jax.surveys.sources.own.respondents import Respondents, Sink, design_columns, read_respondents
from cuma_jax.surveys.sources.own.spec import find_spec
from cuma_jax.surveys.sources.own.survey_spec import ADVICE, Spec
from cuma_jax.surveys.survey import Question, Survey
from cuma_jax.tables.packed import digest
from cuma_jax.tables.problems import Problem, Problems
from cuma_jax.tables.text_columns import TextTable, read_columns

VERSION = "3"
"""Raised whenever the reader's result changes: part of the cache key."""
_ENOUGH = 20  # persons, for two columns not to agree by chance


def prepare(data: DataConfig) -> tuple[str, Callable[[], Survey]]:
    """A source of `surveys.load.SOURCES`; `path` and `bad_rows` of `data` are used."""
    if not data.path:
        raise CumaError(f"data.source {data.source} needs data.path: {data.needed('path')}")
    problems = Problems(ADVICE)
    spec = find_spec(data.path, problems)
    digests = [digest(file, problems) for file in spec.files] if spec else []
    problems.raise_errors()
    assert spec is not None, "no spec, and no problem that says why"
    key = content_key(content_key(VERSION, spec.name, *digests), data.bad_rows)
    return key, lambda: read_csv_survey(data.path, data.bad_rows)


def read_csv_survey(path: pathlib.Path | str, bad_rows: Literal["error", "skip"] = "error") -> Survey:
    """Reads the survey that the YAML file at `path` (it, its folder, or the answers file beside it) describes.

    Ids of questions and respondents are as in the files, answers sorted by respondent, then question, weights divided
    by their mean. Left out and counted in `skipped`: empty rows, answers with a missing code, respondents without any
    answer or with weight 0, answers to questions that the YAML does not list. So are codes that their question (or
    profile field) does not list where `bad_rows` is skip; else they are errors.

    A `CumaError` is one message that names every problem (the first 20), each with file, line and column.
    """
    survey, problems = build_survey(path, bad_rows)
    problems.raise_errors()
    assert survey is not None, "no survey, and no problem that says why"
    return survey


def build_survey(path: pathlib.Path | str, bad_rows: str = "error") -> tuple[Survey | None, Problems]:
    """The survey (None if there is an error) and all problems of its files; arguments as `read_csv_survey`."""
    problems = Problems(ADVICE)
    spec = find_spec(path, problems)
    survey = _build(spec, Sink(problems, {}, bad_rows == "skip")) if spec else None
    return (None if problems.errors else survey), problems


def check_csv_survey(path: pathlib.Path | str, bad_rows: str = "error") -> list[Problem]:
    """Every problem that reading the survey at `path` meets, errors and warnings, by file and line.

    The rules are the reader's own: `read_csv_survey` raises if and only if there is an error here. With `bad_rows`
    skip, unknown codes are warnings.
    """
    return build_survey(path, bad_rows)[1].ordered()


def _build(spec: Spec, sink: Sink) -> Survey | None:
    respondent_columns = design_columns(spec)
    name = str(spec.columns["respondent"])
    wanted = {name: respondent_columns[name]} if spec.respondents else dict(respondent_columns)
    if spec.long:
        wanted |= {str(spec.columns[key]): f"`{key}:` in {spec.path.name}" for key in ("question", "answer")}
    else:
        wanted |= {str(q.column): f"question {str(q.id)!r} in {spec.path.name}" for q in spec.questions}
    how = spec.delimiter, spec.encoding, sink.problems
    answers_table = respondents_table = read_columns(spec.answers, wanted, *how)
    if spec.respondents:
        respondents_table = read_columns(spec.respondents, respondent_columns, *how)
    respondents = None
    if respondents_table is not None:
        sink.count(f"{respondents_table.path.name}: empty rows", respondents_table.num_empty)
        sink.count(f"{respondents_table.path.name}: further header lines", respondents_table.num_headers)
        respondents = read_respondents(respondents_table, spec, sink)
        if respondents is not None:
            _warn_countries(respondents_table, spec, respondents, sink.problems)
    tables = [(read_context(one, sink.problems), one) for one in spec.context]
    if respondents is not None:
        for table, one in tables:
            if table is not None and one.by in respondents.columns:
                respondents.columns.update(join_context(table, respondents.columns[one.by], one, sink.problems))
    if answers_table is None:
        return None
    if spec.respondents:
        sink.count(f"{answers_table.path.name}: empty rows", answers_table.num_empty)
        sink.count(f"{answers_table.path.name}: further header lines", answers_table.num_headers)
    if not spec.long:
        _warn_copies(answers_table, spec, sink.problems)
    long = long_answers(answers_table, spec, respondents, sink) if spec.long else None
    answers = long if spec.long else wide_answers(answers_table, spec, sink)
    if respondents is None or answers is None or sink.problems.errors:
        return None
    return _survey(spec, respondents, answers, [table for table, _ in tables if table is not None], sink)


def _warn_copies(table: TextTable, spec: Spec, problems: Problems) -> None:
    """A column of the profile that tells a question's answer in other words: the router would be told it."""
    if len(table) < _ENOUGH:
        return
    columns = {name: column.code_N for name, column in table.columns.items()}
    distinct = {name: np.count_nonzero(np.bincount(code_N)) for name, code_N in columns.items()}
    for field in (field for field in spec.fields if distinct.get(field.column, 0) > 1):
        for question in spec.questions:
            name = question.column
            if name != field.column and distinct.get(name) == distinct[field.column]:
                pairs = columns[field.column].astype(np.int64) * (int(columns[name].max()) + 1) + columns[name]
                if len(np.unique(pairs)) == distinct[name]:
                    what = f"the same of everybody as question {str(question.id)!r}"
                    message = f"profile field {field.name!r} says {what}"
                    hint = "the router is told the answer: leave it out of `profile:`"
                    problems.warning(table.path, None, str(field.column), message, hint)


def _warn_countries(table: TextTable, spec: Spec, respondents: Respondents, problems: Problems) -> None:
    """Two spellings of one country are two texts of a profile, though splits and groups take them as one."""
    for field in (f for f in spec.fields if f.name in COUNTRY_FIELDS and f.name in respondents.columns):
        spellings: dict[str, list[str]] = {}
        for name, country in one_name(respondents.columns[field.name].categories).items():
            spellings.setdefault(country, []).append(name)
        for names in (names for names in spellings.values() if len(names) > 1):
            message = f"{' and '.join(map(repr, names))} are one country: held out and scored together"
            hint = "profiles keep the spelling; to have one, write one text for both under `values:` of the field"
            problems.warning(table.path, None, str(field.column), message, hint)


def _survey(
    spec: Spec, respondents: Respondents, answers: Answers, context: Sequence[ContextTable], sink: Sink
) -> Survey | None:
    answered_R = np.zeros(len(respondents.ids), bool)
    answered_R[answers.respondent_A] = True
    zero_R = respondents.weight_R == 0
    sink.count("respondents without any answer", (~answered_R).sum())
    sink.count("respondents with weight 0", (answered_R & zero_R).sum())
    keep_R = answered_R & ~zero_R
    if not keep_R.any():
        hint = "compare the codes in the file with those in the YAML file, and look at `missing:`"
        sink.problems.error(spec.answers, None, None, "no respondent has an answer (and a weight above 0)", hint)
        return None
    if (answered_R & zero_R).any():
        message = f"{(answered_R & zero_R).sum()} respondents have weight 0 and are left out"
        sink.problems.warning(spec.respondents or spec.answers, None, str(spec.columns["weight"]), message)
    weight_R = respondents.weight_R[keep_R]
    # Divided by the largest first: their sum could be too large for a float.
    weight_R = weight_R / weight_R.max()
    frame = pd.DataFrame(
        {
            "respondent_id": [id_ for id_, keep in zip(respondents.ids, keep_R, strict=True) if keep],
            "weight": weight_R / weight_R.mean(),
            **{name: column[keep_R].remove_unused_categories() for name, column in respondents.columns.items()},
        }
    )
    keep_A = keep_R[answers.respondent_A]
    return Survey(
        name=spec.name,
        questions=tuple(
            Question(str(q.id), q.text, q.options, q.codes, ordered=q.ordered, source=spec.name) for q in spec.questions
        ),
        respondents=frame,
        profile_fields=(*(field.name for field in spec.fields), *context_fields([table.context for table in context])),
        respondent_A=(np.cumsum(keep_R) - 1)[answers.respondent_A[keep_A]].astype(np.int32),
        question_A=answers.question_A[keep_A],
        option_A=answers.option_A[keep_A],
        skipped=sink.skipped,
        numeric_fields=(
            *(field.name for field in spec.fields if field.numeric),
            *(name for table in context for name in table.numeric),
        ),
        context=tuple(table.context for table in context),
    )
