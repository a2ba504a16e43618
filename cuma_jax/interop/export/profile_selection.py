"""Which profiles are exported, and which training prompts stand for each.

Shapes: P distinct profiles, N chosen profiles.
"""

import dataclasses
import pathlib

import numpy as np

from cuma_jax.generation.personas import parse_persona
from cuma_jax.generation.prompt_files import text_lines
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import profile_text

MOST = 20
"""Profiles exported by default."""


@dataclasses.dataclass(frozen=True)
class SelectedProfile:
    """One profile to export."""

    row: int  # of the run's profiles; -1 where the data do not have it
    values: dict[str, str]
    text: str  # its sentence
    answers: int  # training answers (or conversations) of people with this profile
    notes: tuple[str, ...] = ()  # what the user should know about it


def select_profiles(run: Run, wanted: str) -> list[SelectedProfile]:
    """The profiles that `--profiles` asks for: a number (the most frequent ones of training), `all` (of training), or a
    file with one profile per line, "country=Chile, sex=female"; empty: the MOST most frequent. A `CumaError` for no
    such file, an empty one, or a line that is not a profile of this run.
    """
    profiles = run.profiles
    row_N = profiles.profile_R[run.units.person_N[run.mask("train")]]
    count_P = np.bincount(row_N, minlength=len(profiles))
    if not wanted or wanted.isdecimal() or wanted == "all":
        most = len(profiles) if wanted == "all" else int(wanted or MOST)
        if most == 0:
            raise CumaError("--profiles is 0; it must be at least 1, all, or a file")
        order = [int(p) for p in np.argsort(-count_P, kind="stable")[:most] if count_P[p]]
        return [SelectedProfile(p, profiles.values(p), profile_text(profiles, p), int(count_P[p])) for p in order]
    return _from_file(run, pathlib.Path(wanted).expanduser(), count_P)


def profile_lines(wanted: str) -> list[str]:
    """The lines of the file that `--profiles` names; none where it names no file.

    Raises:
        CumaError: no such file, or one that cannot be read.
    """
    return [] if not wanted or wanted.isdecimal() or wanted == "all" else _lines(pathlib.Path(wanted).expanduser())


def _lines(path: pathlib.Path) -> list[str]:
    if not path.exists():
        raise CumaError(
            f"--profiles {path}: no such file; give a number, all, or a file with one profile a line, such as "
            "country=Chile, sex=female"
        )
    return text_lines(path, "--profiles")


def _from_file(run: Run, path: pathlib.Path, count_P: np.ndarray) -> list[SelectedProfile]:
    profiles, table = run.profiles, run.table
    assert table is not None
    rows = {key: row for row, key in enumerate(table.keys)}
    found = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            persona = parse_persona(line, profiles, table)
        except CumaError as error:
            raise CumaError(f"--profiles {path}, line {number}: {error}") from None
        row = rows.get(tuple(persona.values.get(field) for field in profiles.fields), -1)
        notes = tuple(f"line {number}: {note}" for note in persona.notes)
        found.append(SelectedProfile(row, persona.values, persona.text, int(count_P[row]) if row >= 0 else 0, notes))
    if not found:
        raise CumaError(f"--profiles {path} holds no profile; write one a line")
    return found


def calibration_questions(run: Run, chosen: list[SelectedProfile], most: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each profile, the questions to calibrate on and those to check on, disjoint where there are two or more.

    Both are training questions that people of the profile answered (of a profile without training answers: that
    anyone did), drawn with a fixed seed. A `CumaError` for a profile in the prompt that has no training answers.
    """
    survey, train_A = run.survey, run.mask("train")
    row_A, question_A = run.profiles.profile_R[survey.respondent_A[train_A]], survey.question_A[train_A]
    anyone, found = np.unique(question_A), []
    for profile in chosen:
        questions = np.unique(question_A[row_A == profile.row])
        if not len(questions):
            if run.config.profile.in_prompt:
                raise CumaError(f"the profile {profile.text!r} has no training answers, so there is no prompt of it")
            questions = anyone
        questions = np.random.default_rng(run.config.train.seed).permutation(questions).astype(np.int32)
        half = max(len(questions) // 2, 1)
        check = questions[half:] if len(questions) > 1 else questions
        found.append((questions[: min(half, most)], check[:most]))
    return found
