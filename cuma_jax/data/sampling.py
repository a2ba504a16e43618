"""How often each row is drawn: by survey weight, by question, by group; and what that comes to in passes.

A row's *mass* is how often it is drawn relative to others. It is a product: what the row weighs within its question
(1, its respondent's survey weight, or the root of its cell's answers), a factor for its question, and a factor for its
group. The group's comes last, so that groups have exactly the shares asked for; where groups were asked different
questions, the questions' shares shift with them.

Shapes: N rows, A answers, C conversations, Q questions, G groups.
"""

from collections.abc import Sequence

import numpy as np

from cuma_jax.config import DataConfig
from cuma_jax.data.batches import Rows
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.cells import build_cells
from cuma_jax.surveys.fields.countries import merged_values
from cuma_jax.surveys.profiles import Profiles, build_profiles
from cuma_jax.surveys.survey import HasRespondents, Survey


def cell_rows(survey: Survey, profiles: Profiles, mask_A: np.ndarray, drawing: DataConfig) -> Rows:
    """One row per (profile, question) cell, its target the distribution of the cell's answers.

    Within a question a cell is drawn by the square root of its n (between one vote per cell and one per respondent).

    Raises:
        CumaError: no answer, or a group field that the profiles do not have.
    """
    cells = build_cells(survey, profiles, mask_A)
    root_N = np.sqrt(cells.count_N.astype(np.float64))
    mass_N = root_N * _question_factor(cells.question_N, cells.count_N, root_N, drawing.question_power)
    if drawing.group_by:
        if drawing.group_by not in profiles.fields:
            raise CumaError(
                f"data.group_by is {drawing.group_by!r}, but cells are made of the profile fields "
                f"{', '.join(profiles.fields)}; add it to profile.fields, or set objective.aggregate to respondent"
            )
        group_P = _merged(profiles, drawing.group_by)
        mass_N = balance_groups(mass_N, group_P[cells.profile_N], drawing.group_power)
    return Rows(cells.profile_N, cells.question_N, np.zeros(len(cells), np.int32), cells.target_NO, mass_N)


def answer_rows(survey: Survey, profiles: Profiles, mask_A: np.ndarray, drawing: DataConfig) -> Rows:
    """One row per answer.

    Raises:
        CumaError: weights that are negative, missing or all zero; a group field that the survey does not have.
    """
    respondent_N, question_N = survey.respondent_A[mask_A], survey.question_A[mask_A]
    if drawing.sample_weights:
        weight_R = survey.respondents["weight"].to_numpy(np.float64)
        if not (np.isfinite(weight_R).all() and (weight_R >= 0).all() and weight_R[respondent_N].any()):
            raise CumaError(
                f"survey {survey.name!r}: some weights are negative or missing, or all are zero, and "
                "data.sample_weights draws by them; correct them, or turn it off"
            )
        mass_N = weight_R[respondent_N]
        mass_N *= _question_factor(question_N, None, mass_N, drawing.question_power)
    else:
        mass_N = _question_factor(question_N, None, None, drawing.question_power)
    if drawing.group_by:
        mass_N = balance_groups(mass_N, _group_R(survey, drawing.group_by)[respondent_N], drawing.group_power)
    return Rows(profiles.profile_R[respondent_N], question_N, survey.option_A[mask_A], None, mass_N)


def conversation_masses(
    preferences: Preferences, drawing: DataConfig, conversation_N: np.ndarray | None = None
) -> np.ndarray:
    """How often each conversation is drawn, float64 [C]: by its annotator's weight and group; prompts are drawn alike.

    With `conversation_N`, the conversation of each row: how often each row (a pair of replies) is drawn.

    Raises:
        CumaError: a group field that the annotators do not have.
    """
    person_C = preferences.conversations["person"].to_numpy()
    if conversation_N is not None:
        person_C = person_C[conversation_N]
    mass_C = np.ones(len(person_C))
    if drawing.sample_weights:
        mass_C = preferences.respondents["weight"].to_numpy(np.float64)[person_C]
    if drawing.group_by:
        mass_C = balance_groups(mass_C, _group_R(preferences, drawing.group_by)[person_C], drawing.group_power)
    return mass_C


def _group_R(source: HasRespondents, field: str) -> np.ndarray:
    """The group of each respondent by a field, int [R], -1 for none."""
    groups = build_profiles(source, (field,))
    return _merged(groups, field)[groups.profile_R]


def _merged(profiles: Profiles, field: str) -> np.ndarray:
    """The group of each profile by a field, int [P], -1 for none; a country is one, however it is spelled."""
    place_V, _ = merged_values(profiles.vocab[field], field)
    return np.append(place_V, -1)[profiles.codes_PF[:, profiles.fields.index(field)]]


def _question_factor(
    question_N: np.ndarray, count_N: np.ndarray | None, mass_N: np.ndarray | None, power: float
) -> np.ndarray:
    """Factor for each row so that its question's rows weigh (answers of the question) ** power together.

    `count_N` is the number of answers of a row, `mass_N` what it weighs so far; None: 1.
    """
    answers_Q = np.bincount(question_N, weights=count_N).astype(np.float64)
    rows_Q = answers_Q if count_N is None and mass_N is None else np.bincount(question_N, weights=mass_N)
    factor_Q = np.divide(answers_Q**power, rows_Q, out=np.zeros_like(answers_Q), where=rows_Q > 0)
    return factor_Q[question_N]


def balance_groups(mass_N: np.ndarray, group_N: np.ndarray, power: float) -> np.ndarray:
    """Masses with which each group is drawn by its share to `power`: 1 leaves all as it is, 0 draws groups alike.

    Rows without a group (-1) are a group of their own; `power` is 1 / temperature.
    """
    if power == 1:
        return mass_N
    total_G = np.bincount(group_N + 1, weights=mass_N)
    share_G = total_G / total_G.sum()
    wanted_G = np.where(share_G > 0, share_G**power, 0.0)
    factor_G = np.divide(wanted_G / wanted_G.sum(), share_G, out=np.zeros_like(share_G), where=share_G > 0)
    return mass_N * factor_G[group_N + 1]


def kish_size(mass_N: np.ndarray) -> float:
    """Kish's effective number of rows: (sum of masses)^2 / sum of their squares; N where all are alike."""
    return float(mass_N.sum() ** 2 / np.dot(mass_N, mass_N))


def question_passes(mass_N: np.ndarray, question_N: np.ndarray, drawn: int) -> np.ndarray:
    """How often each question's rows are drawn on average, float64 [Q], when `drawn` rows are; nan without rows."""
    mass_Q, rows_Q = np.bincount(question_N, weights=mass_N), np.bincount(question_N)
    expected_Q = drawn * mass_Q / mass_Q.sum()
    return np.divide(expected_Q, rows_Q, out=np.full(len(rows_Q), np.nan), where=rows_Q > 0)


def describe_sampling(
    mass_N: np.ndarray,
    drawn: int,
    question_N: np.ndarray | None = None,
    names: Sequence[str] = (),
    order: str = "weighted",
) -> str:
    """What a training run sees of its rows, of which `drawn` (steps times the batch size) are drawn, as lines to print;
    `names` are the questions' ids."""
    rows = len(mass_N)
    if order == "epochs":
        return f"{rows:,} rows, {drawn:,} drawn: {drawn / rows:.2f} passes, every row once a pass"
    effective = kish_size(mass_N)
    lines = [
        f"{rows:,} rows, {drawn:,} drawn by their masses: {drawn / rows:.2f} passes over the rows, "
        f"{drawn / effective:.2f} over the {effective:,.0f} that count (Kish)"
    ]
    if question_N is not None and len(names) > 1:
        passes_Q = question_passes(mass_N, question_N, drawn)
        most, least = int(np.nanargmax(passes_Q)), int(np.nanargmin(passes_Q))
        lines.append(
            f"  a row of question {names[most]} is drawn {passes_Q[most]:.2g} times, one of {names[least]} "
            f"{passes_Q[least]:.2g} times; the other questions' lie between"
        )
    return "\n".join(lines)
