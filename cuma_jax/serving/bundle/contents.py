"""What a trained run knows of its people, questions and answers: made of its data, or read from its bundle.

Nothing here imports JAX, but for reading a run of before (which has no bundle).

Legend: R respondents, A answers, K kinds of people, Q questions, V inputs of the logistic regression, O options.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cuma_jax.config import Config
from cuma_jax.config.checks import SPLITS
from cuma_jax.data.load import RunData
from cuma_jax.data.shots import Shots
from cuma_jax.serving.bundle.answers import HELD_OUT, TRAIN, Answers, Rows, answer_table, answers_of
from cuma_jax.serving.bundle.people import People, kinds_of
from cuma_jax.surveys.fields.context import contexts_json
from cuma_jax.surveys.survey import Question, Survey

if TYPE_CHECKING:
    from cuma_jax.evaluation.surveys.logistic import Logistic
    from cuma_jax.profile_encoders.profile_table import ProfileTable

FORMAT = 1
"""Version of the bundle's files."""


@dataclasses.dataclass(frozen=True)
class Contents:
    """What is known without the model.

    Attributes:
        config: of the run.
        facts: plain JSON values: `describe` says which.
        people: their kinds.
        questions: those of the survey; none for conversations.
        answers: the real ones, by question; None where they were left out.
        logistic: a question's logits [1 + V, O] (`Logistic.coefficients`); None as `answers`.
        table: gives the profile vectors; None where no router sees them.
        shots: of the profiles, where prompts show any.
        pooled: smoothed shares of the training answers [Q,O], nan without any (`pooled_start.pooled_shares`); None
            where predictions neither start from them nor are held to them.
        predictions: what `evaluate` predicted: columns order, question, profile, share; of the checkpoint
            `facts["predicted_checkpoint"]` when training had come to `facts["latest_step"]`.
        results: results.json; empty before an evaluation.
    """

    config: Config
    facts: dict[str, Any]
    people: People
    questions: tuple[Question, ...]
    answers: Answers | None
    logistic: Callable[[int], np.ndarray] | None
    table: "Callable[[], ProfileTable | None]"
    shots: Callable[[], Shots | None]
    pooled: Callable[[], np.ndarray | None]
    predictions: Callable[[], pd.DataFrame | None]
    results: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Made:
    """Contents with the tables that a bundle's files hold."""

    contents: Contents
    answers: pd.DataFrame | None


def contents_of(
    config: Config,
    data: RunData,
    results: dict[str, Any],
    table: "Callable[[], ProfileTable | None]",
    logistic: "Logistic | None" = None,
    shots: Callable[[], Shots | None] = lambda: None,
    predictions: pd.DataFrame | None = None,
    about: dict[str, Any] | None = None,
) -> Made:
    """The contents of a run whose data are at hand.

    Args:
        results: results.json, or empty.
        table, shots: of the run.
        logistic: of the evaluation; None: fitted when it is asked for.
        predictions: see `Contents`.
        about: further facts.
    """
    source = data.source
    train_N = data.split_N == TRAIN
    trained_R = np.bincount(data.units.person_N[train_N], minlength=len(data.units.person_ids)) > 0
    if len(trained_R) != len(source.respondents):  # ids of persons that several rows share
        trained_R = np.zeros(len(source.respondents), bool)
        trained_R[data.units.person_N[train_N]] = True
    people, kind_R = kinds_of(source, data.profiles, config, trained_R)
    questions = source.questions if isinstance(source, Survey) else ()
    facts = describe(config, data, people) | (about or {})
    answers, rows, logits, pooled_QO = None, None, None, None
    if isinstance(source, Survey):
        if knows_pooled(config):
            from cuma_jax.run.pooled_start import pooled_shares

            pooled_QO = pooled_shares(source, train_N)
        answers = answer_table(source, kind_R, data.split_N, _scored(source, data, config))
        rows = answers_of(answers)
        regression = logistic or _logistic(source, data, config)
        facts["logistic_fields"] = list(regression.profiles.fields)
        logits = functools.lru_cache(maxsize=256)(lambda question: regression.coefficients(np.array([question]))[0])
    contents = Contents(
        config, facts, people, questions, rows, logits, table, shots, lambda: pooled_QO, lambda: predictions, results
    )  # fmt: skip
    return Made(contents, answers)


def knows_pooled(config: Config) -> bool:
    """Whether predictions need the pooled answers: they start from them, or are held to them."""
    return config.objective.start == "pooled" or config.evaluation.hold == "pooled"


def describe(config: Config, data: RunData, people: People) -> dict[str, Any]:
    """Facts of a run: plain JSON values."""
    source = data.source
    in_split = np.bincount(data.split_N, minlength=len(SPLITS))
    survey = isinstance(source, Survey)
    facts: dict[str, Any] = {
        "format": FORMAT,
        "kind": "survey" if survey else "conversations",
        "run": config.name,
        "source": source.name,
        "profile_fields": list(source.profile_fields),
        "told": list(people.told),
        "people": int(people.n_K.sum()),
        "splits": {name: int(n) for name, n in zip(SPLITS, in_split, strict=True) if n},
        "answers": len(data.split_N),
        "evaluation": dataclasses.asdict(config.evaluation),
    }
    if source.numeric_fields:
        facts["numeric_fields"] = list(source.numeric_fields)
    if source.context:
        facts["context"] = contexts_json(source.context)
    if isinstance(source, Survey):
        by_split = np.zeros((len(source.questions), len(SPLITS)), np.int64)
        np.add.at(by_split, (source.question_A, data.split_N), 1)
        facts["question_splits"] = [
            {name: int(n) for name, n in zip(SPLITS, row, strict=True) if n} for row in by_split
        ]
    return facts


def _scored(survey: Survey, data: RunData, config: Config) -> np.ndarray:
    """Bool [A]: the answers of people whom `evaluate` samples in their split."""
    from cuma_jax.evaluation.surveys.grouping import sampled_answers, whole_profiles
    from cuma_jax.surveys.groups import build_groups

    groups, whole = build_groups(survey, config.evaluation.group_by), whole_profiles(survey, data.profiles)
    scored_A = np.zeros(survey.num_answers, bool)
    for split in np.unique(data.split_N).tolist():
        scored_A[sampled_answers(survey, whole, groups, data.split_N == split, config.evaluation)[0]] = True
    return scored_A


def _logistic(survey: Survey, data: RunData, config: Config) -> "Logistic":
    from cuma_jax.evaluation.surveys.scores import logistic_of, survey_marginals

    train_A = data.split_N == TRAIN
    marginals = survey_marginals(survey, train_A, np.zeros(len(survey.respondents), np.int64), 1)
    return logistic_of(survey, data.profiles, train_A, marginals.pooled_QO, config.evaluation.seed)


def train_profiles(people: People, profile_K: np.ndarray, count: int) -> np.ndarray:
    """Bool [P]: profiles that somebody with training answers has."""
    train_P = np.zeros(count, bool)
    train_P[profile_K[people.trained_K > 0]] = True
    return train_P


def held_out(rows: Rows) -> Rows:
    """The rows of a question that are shown as real ones."""
    return rows.where(np.isin(rows.split_N, HELD_OUT))


def bundle_folder(run: pathlib.Path) -> pathlib.Path:
    """Where a run or an export keeps its bundle."""
    return run / "bundle"
