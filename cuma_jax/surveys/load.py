"""From a DataConfig to a Survey: picks the reader, caches what it read by content, keeps the questions asked for."""

import dataclasses
import difflib
import fnmatch
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from cuma_jax.cache import cache_dir as cache_folder
from cuma_jax.cache import content_key
from cuma_jax.config import DataConfig
from cuma_jax.errors import CumaError
from cuma_jax.surveys import invented, open_values, store, wvb
from cuma_jax.surveys.survey import Survey


def load_survey(data: DataConfig, cache_dir: str = "") -> Survey:
    """The survey that `data` names, with only the questions in `data.questions`.

    Args:
        data: the data section of a config.
        cache_dir: where parsed surveys are kept (`run.cache_dir`); the key is the content of the source and the
            version of its reader, never a file's time.

    Raises:
        CumaError: the source cannot be read, or a question pattern matches nothing.
    """
    if data.source == "invented":
        survey = invented.make_invented()
    elif data.source == "open_values":
        key = content_key(open_values.package_version(), open_values.specification_text(), open_values.VERSION)
        survey = _cached(f"open_values-{key}", cache_dir, open_values.read_open_values)
    else:
        path = pathlib.Path(data.path).expanduser()
        survey = _cached(f"wvb-{wvb.source_key(path)}", cache_dir, lambda: wvb.read_wvb(path))
    return keep_questions(survey, data.questions) if data.questions else survey


def _cached(name: str, configured: str, read: Callable[[], Survey]) -> Survey:
    folder = cache_folder(configured) / "surveys" / f"{name}-{store.VERSION}"
    if not folder.exists():
        survey = read()
        store.save_survey(survey, folder)
        return survey
    return store.load_saved_survey(folder)


def keep_questions(survey: Survey, patterns: Sequence[str]) -> Survey:
    """The survey with only the questions whose ids match a pattern, and the respondents who answered one of them.

    Args:
        survey: any survey.
        patterns: ids; `*` matches any characters, e.g. `wvs_immig.*`.

    Raises:
        CumaError: a pattern matches no question.
    """
    ids = [question.id for question in survey.questions]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(i, pattern) for i in ids):
            near = difflib.get_close_matches(pattern, ids, n=3)
            hint = f"did you mean {', '.join(near)}? " if near else ""
            raise CumaError(
                f"data.questions: {pattern!r} matches no question of survey {survey.name!r}; {hint}"
                f"its questions: {', '.join(ids)}"
            )
    keep_Q = np.array([any(fnmatch.fnmatchcase(i, pattern) for pattern in patterns) for i in ids])
    keep_A = keep_Q[survey.question_A]
    respondent_A = survey.respondent_A[keep_A]
    used_R = np.zeros(len(survey.respondents), bool)
    used_R[respondent_A] = True
    return dataclasses.replace(
        survey,
        questions=tuple(q for q, keep in zip(survey.questions, keep_Q, strict=True) if keep),
        respondents=survey.respondents[used_R].reset_index(drop=True),
        respondent_A=(np.cumsum(used_R) - 1)[respondent_A].astype(np.int32),
        question_A=(np.cumsum(keep_Q) - 1)[survey.question_A[keep_A]].astype(np.int32),
        option_A=survey.option_A[keep_A],
        official_A=None if survey.official_A is None else survey.official_A[keep_A],
    )
