"""Invented data with what real data have, for tests."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
from preference_files import write_community_alignment, write_prism

from cuma_jax.surveys.sources.invented import make_invented
from cuma_jax.surveys.survey import Question, Survey


def survey_of(columns, answers=None, questions=1, options=("Yes", "No")) -> Survey:
    """People with these profile columns; `answers` are (person, question, option), by default each "Yes" to all."""
    size = len(next(iter(columns.values())))
    people = pd.DataFrame({"respondent_id": [f"r{i}" for i in range(size)], "weight": 1.0})
    people = people.assign(**{name: pd.Categorical(values) for name, values in columns.items()})
    asked = [
        Question(f"q{i}", f"Question {i}?", options, tuple(map(str, range(len(options))))) for i in range(questions)
    ]
    if answers is None:
        answers = [(r, q, 0) for r in range(size) for q in range(questions)]
    return Survey("made up", tuple(asked), people, tuple(columns), *np.array(answers, np.int32).T)


def odd_survey() -> Survey:
    """Answers missing, fields missing, weights, sampling units, odd characters in ids."""
    made = make_invented()
    rng = np.random.default_rng(3)
    people = made.respondents.copy()
    people["respondent_id"] = [f'p"{i}, é' for i in range(len(people))]
    people["weight"] = rng.random(len(people)) + 0.5
    people["psu"] = np.arange(len(people)) // 7
    people.loc[::5, "country"] = None
    people.loc[::3, "age"] = None
    made = dataclasses.replace(made, respondents=people, skipped={"no answer": 7})
    return made.with_answers(rng.random(made.num_answers) < 0.7)


def write_preferences(folder: pathlib.Path) -> dict[str, str]:
    """Invented files of the shape of PRISM and Community Alignment; their paths by source."""
    return {
        "prism": str(write_prism(folder / "prism")),
        "community_alignment": str(write_community_alignment(folder / "community_alignment.csv")),
    }
