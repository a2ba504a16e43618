"""A small invented survey for the debug config and the tests. No answer in it comes from a person.

Countries, people and answers are made up. Every (country, question) has a planted answer distribution, so a test
can check that training finds it.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from cuma_jax.config import DataConfig
from cuma_jax.surveys.survey import Question, Survey

COUNTRIES = ("Ardenia", "Belmora", "Cortavia", "Drumland", "Estoria", "Farland", "Galdovia", "Hestia")
SEXES = ("female", "male")
AGES = ("18-34", "35-54", "55 and over")
RESPONDENTS_PER_COUNTRY = 60


def _question(name: str, text: str, *options: str, ordered: bool = True) -> Question:
    codes = tuple(str(number) for number in range(1, len(options) + 1))
    return Question(f"invented.{name}", text, options, codes, ordered, "invented (not real answers)")


QUESTIONS = (
    _question("tea", "Do you prefer tea to coffee?", "Yes", "No"),
    _question("trains", "Should there be more trains?", "More", "As now", "Fewer"),
    _question("rain", "How do you like rain?", "Very much", "A little", "Not much", "Not at all"),
    _question("music", "How often do you sing?", "Daily", "Weekly", "Monthly", "Yearly", "Never"),
    _question("colour", "Which colour do you like best?", "Red", "Green", "Blue", ordered=False),
)


def planted_distribution(seed: int = 0) -> np.ndarray:
    """The distributions that answers are drawn from: float64 [countries, questions, 5], zero past the options."""
    rng = np.random.default_rng([seed, 1])
    planted = np.zeros((len(COUNTRIES), len(QUESTIONS), max(len(q.options) for q in QUESTIONS)))
    for q, question in enumerate(QUESTIONS):
        size = len(question.options)
        # A concentration below one puts most of a country's mass on one or two options, so countries differ clearly.
        planted[:, q, :size] = rng.dirichlet([0.5] * size, size=len(COUNTRIES))
    return planted


def prepare(data: DataConfig) -> tuple[str, Callable[[], Survey]]:
    """A source of `surveys.load.SOURCES`; it is made faster than it would be loaded."""
    return "", make_invented


def make_invented(seed: int = 0) -> Survey:
    """The invented survey: 8 countries x 60 respondents, 5 questions, everyone answers all of them."""
    rng = np.random.default_rng([seed, 2])
    country_R = np.repeat(np.arange(len(COUNTRIES)), RESPONDENTS_PER_COUNTRY)
    num_respondents = len(country_R)
    ids = [f"invented.{i:04d}" for i in range(num_respondents)]
    respondents = pd.DataFrame({"respondent_id": ids, "weight": np.ones(num_respondents)})
    respondents["country"] = pd.Categorical.from_codes(country_R, list(COUNTRIES))
    for field, values in (("sex", SEXES), ("age", AGES)):
        respondents[field] = pd.Categorical.from_codes(rng.integers(len(values), size=num_respondents), list(values))
    cumulative_RQO = planted_distribution(seed)[country_R].cumsum(axis=-1)
    draw_RQ = rng.random((num_respondents, len(QUESTIONS)))
    option_RQ = (draw_RQ[..., None] >= cumulative_RQO).sum(axis=-1)
    option_RQ = np.minimum(option_RQ, np.array([len(q.options) for q in QUESTIONS]) - 1)
    return Survey(
        name="invented",
        questions=QUESTIONS,
        respondents=respondents,
        profile_fields=("country", "sex", "age"),
        respondent_A=np.repeat(np.arange(num_respondents, dtype=np.int32), len(QUESTIONS)),
        question_A=np.tile(np.arange(len(QUESTIONS), dtype=np.int32), num_respondents),
        option_A=option_RQ.ravel().astype(np.int32),
    )
