"""The files of a bundle: tables as Parquet, arrays as safetensors, the rest as JSON.

| file of `bundle/` | what |
|---|---|
| `facts.json` | `Contents.facts` |
| `questions.json` | the questions, as `Question` has them |
| `people.parquet` | one row a kind of person |
| `profiles.safetensors` | profile vectors and what embeds others; where a router sees profiles |
| `shots.safetensors` | which answers prompts show; where they show any |
| `pooled.safetensors` | shares of the training answers; with `objective.start` or `evaluation.hold` pooled |
| `answers-00.parquet`, ... | real answers summed by kind; left out with `--without-answers` |
| `logistic.safetensors` | the logistic regressions; left out likewise |
| `predictions.parquet` | what `evaluate` predicted |

Beside the folder are `config.json` and `results.json`; and `checkpoints` (a run) or `adapters.safetensors` (an export).
"""

import dataclasses
import functools
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import safetensors
import safetensors.numpy

from cuma_jax.config import EvaluationConfig
from cuma_jax.config.saved import RESULTS_FILE, read_config
from cuma_jax.data.shots import Shots
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write, undamaged
from cuma_jax.runtime.json_files import read_json, read_object
from cuma_jax.serving.bundle.answers import read_answers, write_answers
from cuma_jax.serving.bundle.contents import FORMAT, Contents, Made, bundle_folder, knows_pooled
from cuma_jax.serving.bundle.people import people_table, read_people
from cuma_jax.surveys.survey import Question

if TYPE_CHECKING:
    from cuma_jax.profile_encoders.profile_table import ProfileTable

FACTS, QUESTIONS, PEOPLE, PREDICTIONS = "facts.json", "questions.json", "people.parquet", "predictions.parquet"
PROFILES, SHOTS, LOGISTIC = "profiles.safetensors", "shots.safetensors", "logistic.safetensors"
POOLED = "pooled.safetensors"
ADAPTERS = "adapters.safetensors"
_AGAIN = "write the bundle again (evaluate the run)"
T = TypeVar("T")


def has_bundle(folder: pathlib.Path) -> bool:
    """Whether a run's folder has one that this version reads; a `CumaError` where what says so is damaged."""
    try:
        facts = read_object(bundle_folder(folder) / FACTS, _AGAIN)
    except FileNotFoundError:
        return False
    return facts.get("format") == FORMAT


def has_adapters(folder: pathlib.Path) -> bool:
    """Whether a folder is an export, and not a run with checkpoints."""
    return (folder / ADAPTERS).is_file()


def results_values(folder: pathlib.Path) -> dict[str, Any]:
    """What results.json holds; empty where there is none, a `CumaError` where it is damaged."""
    try:
        return read_object(folder / RESULTS_FILE, "evaluate the run again")
    except FileNotFoundError:
        return {}


def write_bundle(folder: pathlib.Path, made: Made) -> None:
    """Writes the bundle of a run's folder, in place of an older one; whole or not at all."""
    contents, target = made.contents, bundle_folder(folder)

    def write(part: pathlib.Path) -> None:
        part.mkdir()
        _write_json(part / FACTS, contents.facts)
        _write_json(part / QUESTIONS, [dataclasses.asdict(question) for question in contents.questions])
        people_table(contents.people).to_parquet(part / PEOPLE, index=False, compression="zstd")
        if (table := contents.table()) is not None:
            from cuma_jax.serving.bundle.vectors import packed

            about, arrays = packed(table)
            _write_arrays(part / PROFILES, arrays, about)
        if (shots := contents.shots()) is not None:
            arrays = {name: getattr(shots, name) for name in ("question_PJ", "answer_PJ", "line_PJ")}
            _write_arrays(part / SHOTS, arrays, {"shown": shots.shown, "lines": shots.lines})
        if (pooled_QO := contents.pooled()) is not None:
            _write_arrays(part / POOLED, {"shares": pooled_QO}, {})
        if made.answers is not None:
            write_answers(made.answers, part)
        if contents.logistic is not None and made.answers is not None:
            logits_QVO = np.stack([contents.logistic(q) for q in range(len(contents.questions))])
            _write_arrays(part / LOGISTIC, {"logits": logits_QVO}, {})
        if (predictions := contents.predictions()) is not None:
            predictions.to_parquet(part / PREDICTIONS, index=False, compression="zstd")
        if target.exists():  # last: until then whoever stops this keeps the older one
            os.replace(target, part.with_name("older"))

    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(target, write)


def read_contents(folder: pathlib.Path) -> Contents:
    """The contents of a run's folder, or an export, that has a bundle.

    Raises:
        CumaError: a file is missing or damaged, or of another version.
    """
    inside = bundle_folder(folder)
    facts = _read(inside / FACTS, lambda path: read_object(path, _AGAIN))
    if facts.get("format") != FORMAT:
        raise CumaError(f"{inside} is of format {facts.get('format')!r}, this version reads {FORMAT}; write it again")
    with undamaged(inside / FACTS, _AGAIN):
        evaluation, told = evaluation_of(facts), tuple(facts["told"])
    config = dataclasses.replace(read_config(folder), evaluation=evaluation)
    questions = _read(inside / QUESTIONS, _read_questions)
    people = _read(inside / PEOPLE, lambda path: read_people(pd.read_parquet(path), told))
    answers = read_answers(inside)
    logistic = None
    if answers is not None and (inside / LOGISTIC).exists():
        arrays = functools.cache(lambda: _read_arrays(inside / LOGISTIC)[0]["logits"])
        logistic = lambda question: arrays()[question]  # noqa: E731
    return Contents(
        config,
        facts,
        people,
        questions,
        answers,
        logistic,
        functools.cache(lambda: _read_table(inside / PROFILES)),
        functools.cache(lambda: _read_shots(inside / SHOTS)),
        functools.cache(lambda: _read_pooled(inside / POOLED) if knows_pooled(config) else None),
        functools.cache(lambda: _optional(inside / PREDICTIONS, pd.read_parquet)),
        results_values(folder),
    )


def evaluation_of(facts: dict[str, Any]) -> EvaluationConfig:
    """How the run was evaluated last, which its config need not say."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in facts["evaluation"].items()}
    return EvaluationConfig(**values)


def copy_bundle(folder: pathlib.Path, out: pathlib.Path, answers: bool) -> None:
    """Copies a run's bundle, or all of it but the answers and what comes close to them."""
    target = bundle_folder(out)
    target.mkdir(parents=True)
    for path in sorted(bundle_folder(folder).iterdir()):
        if answers or not (path.name.startswith("answers-") or path.name == LOGISTIC):
            shutil.copyfile(path, target / path.name)


def _read_table(path: pathlib.Path) -> "ProfileTable | None":
    if not path.exists():
        return None
    from cuma_jax.serving.bundle.vectors import unpacked

    arrays, about = _read_arrays(path)
    with undamaged(path, _AGAIN):
        return unpacked(about, arrays)


def _read_questions(path: pathlib.Path) -> tuple[Question, ...]:
    return tuple(
        Question(**{**entry, "options": tuple(entry["options"]), "codes": tuple(entry["codes"])})
        for entry in read_json(path, _AGAIN)
    )


def _read_shots(path: pathlib.Path) -> Shots | None:
    if not path.exists():
        return None
    arrays, about = _read_arrays(path)
    with undamaged(path, _AGAIN):
        return Shots(shown=about["shown"], lines=tuple(about["lines"]), **arrays)


def _read_pooled(path: pathlib.Path) -> np.ndarray:
    return _read(path, lambda path: _read_arrays(path)[0]["shares"])


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray], about: Any) -> None:
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    safetensors.numpy.save_file(whole, path, {"about": json.dumps(about, ensure_ascii=False)})
    path.chmod(0o644)  # the library writes files that nobody else may read


def _read_arrays(path: pathlib.Path) -> tuple[dict[str, np.ndarray], Any]:
    def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], Any]:
        with safetensors.safe_open(path, "numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, json.loads(file.metadata()["about"])

    return _read(path, read)


def _optional(path: pathlib.Path, read: Callable[[pathlib.Path], T]) -> T | None:
    return _read(path, read) if path.exists() else None


def _read(path: pathlib.Path, read: Callable[[pathlib.Path], T]) -> T:
    try:
        with undamaged(path, _AGAIN):
            return read(path)
    except FileNotFoundError:
        raise CumaError(f"{path} is missing; the bundle is not whole. Write it again (evaluate the run)") from None
