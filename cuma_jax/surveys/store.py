"""A Survey on disk: a folder of two Parquet tables and one JSON file, written whole or not at all."""

import dataclasses
import json
import pathlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write, undamaged
from cuma_jax.surveys.fields.context import contexts_json, contexts_of
from cuma_jax.surveys.survey import Question, Survey

VERSION = "2"
"""Raised whenever the files change: part of the cache key."""

_ANSWERS, _RESPONDENTS, _META = "answers.parquet", "respondents.parquet", "survey.json"


def save_survey(survey: Survey, folder: pathlib.Path) -> None:
    """Writes `survey` to `folder` (an existing folder is kept as it is: folders are named by content)."""
    answers = {"respondent": survey.respondent_A, "question": survey.question_A, "option": survey.option_A}
    if survey.official_A is not None:
        answers["official"] = survey.official_A
    meta = {name: getattr(survey, name) for name in ("name", "profile_fields", "skipped", "persons")}
    # What most surveys have not is not there: their files are as those of earlier versions.
    if survey.numeric_fields:
        meta["numeric_fields"] = survey.numeric_fields
    if survey.context:
        meta["context"] = contexts_json(survey.context)
    meta["questions"] = [dataclasses.asdict(question) for question in survey.questions]

    def write(part: pathlib.Path) -> None:
        part.mkdir()
        pa.parquet.write_table(pa.table(answers), part / _ANSWERS, write_page_checksum=True)
        survey.respondents.to_parquet(part / _RESPONDENTS, index=False, write_page_checksum=True)
        (part / _META).write_text(json.dumps(meta, ensure_ascii=False, indent=1), encoding="utf-8")

    atomic_write(folder, write)


def load_saved_survey(folder: pathlib.Path) -> Survey:
    """What `save_survey` wrote to `folder`, equal in every value; a `CumaError` where a file cannot be read."""
    try:
        with undamaged(folder, "delete the folder, and the survey is read anew"):
            return _load(folder)
    except FileNotFoundError as error:
        raise CumaError(f"{error.filename} is missing; delete {folder}, and the survey is read anew") from None


def _load(folder: pathlib.Path) -> Survey:
    meta = json.loads((folder / _META).read_text(encoding="utf-8"))
    answers = pa.parquet.read_table(folder / _ANSWERS, page_checksum_verification=True)
    respondents = pd.read_parquet(folder / _RESPONDENTS, page_checksum_verification=True)
    columns = {f"{c}_A": answers[c].to_numpy().astype(np.int32) for c in ("respondent", "question", "option")}
    for entry in meta["questions"]:
        entry |= {name: tuple(entry[name]) for name in ("options", "codes")}
    return Survey(
        name=meta["name"],
        questions=tuple(Question(**entry) for entry in meta["questions"]),
        respondents=respondents,
        profile_fields=tuple(meta["profile_fields"]),
        official_A=answers["official"].to_numpy() if "official" in answers.column_names else None,
        skipped=meta["skipped"],
        persons=meta.get("persons", True),  # not there in folders of earlier versions
        numeric_fields=tuple(meta.get("numeric_fields", ())),
        context=contexts_of(meta.get("context", ())),
        **columns,
    )
