"""From a DataConfig to a Survey: the registry of sources, what they read cached by content, the questions asked for."""

import dataclasses
import fnmatch
import importlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir as cache_folder
from cuma_jax.runtime.near_matches import near_hint
from cuma_jax.surveys import store
from cuma_jax.surveys.survey import Survey
from cuma_jax.tables.packed import readable

SOURCES = {
    "open_values": "open_values",
    "wvs7": "wvs.wvs7",
    "wvb": "wvs.wvb",
    "global_opinions": "global_opinions",
    "csv": "own.survey",
    "invented": "invented",
}
"""Values of `data.source` that are surveys, and the module in `sources` that reads each.

A source is a function `prepare(data)` of its module: the key of the contents of all that would be read ("": not worth
keeping), and the call that reads it; a CumaError where a file is missing. A module is imported when it is asked for.
"""


def load_survey(data: DataConfig, cache_dir: str = "") -> Survey:
    """The survey that `data` names, with only the questions in `data.questions`.

    Parsed surveys are kept in `cache_dir` (`run.cache_dir`) by the content of the source and the version of its reader,
    never by a file's time. A `CumaError` where the source cannot be read, or a question pattern matches nothing.
    """
    folder, read = _prepare(data, cache_dir)
    if folder is not None and folder.exists():
        survey = store.load_saved_survey(folder)
    else:
        with readable(f"data.source {data.source}"):
            survey = read()
        if folder is not None:
            store.save_survey(survey, folder)
    return keep_questions(survey, data.questions) if data.questions else survey


def cached_folder(data: DataConfig, cache_dir: str = "") -> pathlib.Path | None:
    """Where `load_survey` keeps what `data` names, whether it is there yet or not; None: it keeps nothing."""
    return _prepare(data, cache_dir)[0]


def _prepare(data: DataConfig, cache_dir: str) -> tuple[pathlib.Path | None, Callable[[], Survey]]:
    if data.source not in SOURCES:
        raise CumaError(f"data.source {data.source!r} is preference data, not a survey")
    source = importlib.import_module(f"cuma_jax.surveys.sources.{SOURCES[data.source]}")
    with readable(f"data.source {data.source}"):
        key, read = source.prepare(data)
    return cache_folder(cache_dir) / "surveys" / f"{data.source}-{key}-{store.VERSION}" if key else None, read


def keep_questions(survey: Survey, patterns: Sequence[str]) -> Survey:
    """The survey with only the questions whose ids match a pattern, and the respondents who answered one of them.

    In a pattern `*` matches any characters, e.g. `wvs_immig.*`; a `CumaError` for one that matches no question.
    """
    ids = [question.id for question in survey.questions]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(i, pattern) for i in ids):
            raise CumaError(
                f"data.questions: {pattern!r} matches no question of survey {survey.name!r}; {near_hint(pattern, ids)}"
            )
    keep_Q = np.array([any(fnmatch.fnmatchcase(i, pattern) for pattern in patterns) for i in ids])
    survey = survey.with_answers(keep_Q[survey.question_A])
    used_R = np.zeros(len(survey.respondents), bool)
    used_R[survey.respondent_A] = True
    return dataclasses.replace(
        survey,
        questions=tuple(q for q, keep in zip(survey.questions, keep_Q, strict=True) if keep),
        respondents=survey.respondents[used_R].reset_index(drop=True),
        respondent_A=(np.cumsum(used_R) - 1)[survey.respondent_A].astype(np.int32),
        question_A=(np.cumsum(keep_Q) - 1)[survey.question_A].astype(np.int32),
    )
