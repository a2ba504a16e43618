"""From a DataConfig to a Survey: picks the reader, caches what it read by content, keeps the questions asked for."""

import dataclasses
import difflib
import fnmatch
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir as cache_folder
from cuma_jax.runtime.files import content_key
from cuma_jax.surveys import store
from cuma_jax.surveys.sources import invented
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
    else:
        key, read = _reader(data, cache_dir)
        folder = _folder(data, key, cache_dir)
        if folder.exists():
            survey = store.load_saved_survey(folder)
        else:
            survey = read()
            store.save_survey(survey, folder)
    return keep_questions(survey, data.questions) if data.questions else survey


def cached_folder(data: DataConfig, cache_dir: str = "") -> pathlib.Path | None:
    """Where `load_survey` keeps what `data` names, whether it is there yet or not; None: it keeps nothing."""
    return None if data.source == "invented" else _folder(data, _reader(data, cache_dir)[0], cache_dir)


def _folder(data: DataConfig, key: str, cache_dir: str) -> pathlib.Path:
    return cache_folder(cache_dir) / "surveys" / f"{data.source}-{key}-{store.VERSION}"


def _reader(data: DataConfig, cache_dir: str) -> tuple[str, Callable[[], Survey]]:
    """Key of what would be read, and the call that reads it. A reader is imported when it is asked for."""
    if data.source == "open_values":
        from cuma_jax.surveys.sources import open_values

        key = content_key(open_values.package_version(), open_values.specification_text(), open_values.VERSION)
        return key, open_values.read_open_values
    if data.source == "wvs7":
        from cuma_jax.surveys.sources.wvs import wvs7

        raw, wvb_folder = _path(data, "raw"), _path(data, "wvb")
        key = content_key(wvs7.source_key(raw, wvb_folder), data.wording, data.option_texts, data.bad_rows)
        return key, lambda: wvs7.read_wvs7(raw, wvb_folder, data.wording, data.option_texts, data.bad_rows)
    if data.source == "wvb":
        from cuma_jax.surveys.sources.wvs import wvb

        folder, joined = _path(data, "wvb"), _path(data, "raw") if data.raw else None
        key = content_key(wvb.source_key(folder, joined), data.wording, data.option_texts, data.bad_rows)
        return key, lambda: wvb.read_wvb(folder, joined, data.wording, data.option_texts, data.bad_rows)
    if data.source == "csv":
        from cuma_jax.surveys.sources.own import survey as csv_survey

        path = _path(data, "path")
        return content_key(csv_survey.source_key(path), data.bad_rows), lambda: csv_survey.read_csv_survey(
            path, data.bad_rows
        )
    if data.source == "global_opinions":
        from cuma_jax.surveys.sources import global_opinions

        key = global_opinions.source_key(data.path, data.revision)
        return key, lambda: global_opinions.read_global_opinions(data.path, data.revision)
    raise CumaError(f"data.source {data.source!r} is preference data, not a survey")


_NEEDED = {
    "raw": "the raw csv of the World Values Survey wave 7",
    "wvb": "your checkout of github.com/Demon702/WorldValuesBench",
    "path": "the YAML file that describes your survey (docs/my_survey.md)",
}


def _path(data: DataConfig, field: str) -> pathlib.Path:
    value = getattr(data, field)
    if not value:
        raise CumaError(f"data.source {data.source} needs data.{field}: {_NEEDED[field]}")
    return pathlib.Path(value).expanduser()


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
