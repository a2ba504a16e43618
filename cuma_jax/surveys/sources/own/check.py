"""Every problem of a user's survey files at once, and a first YAML file proposed from a table's header."""

import contextlib
import dataclasses
import pathlib

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.own.propose import propose_yaml
from cuma_jax.surveys.sources.own.survey import build_survey
from cuma_jax.tables.problems import Problem, format_problems

__all__ = ["Problem", "check_csv_survey", "format_problems", "propose_yaml"]


def check_csv_survey(path: pathlib.Path | str, bad_rows: str = "error") -> list[Problem]:
    """Every problem that reading the survey at `path` meets, errors and warnings, by file and line.

    The rules are the reader's own: `read_csv_survey` raises if and only if there is an error here.

    Args:
        path: the YAML file, its folder, or the answers file beside a survey.yaml.
        bad_rows: as for the reader; with `skip`, unknown codes are warnings.
    """
    path = pathlib.Path(path).expanduser()
    problems = build_survey(path, bad_rows)[1].ordered()
    if path.is_file() and path.suffix.lower() not in (".yaml", ".yml") and not (path.parent / "survey.yaml").exists():
        with contextlib.suppress(CumaError):
            hint = f"put this into {path.parent / 'survey.yaml'} and complete it:\n\n{propose_yaml(path)}"
            problems = [dataclasses.replace(problem, hint=hint) for problem in problems]
    return problems
