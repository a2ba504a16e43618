"""What is wrong with files that are read: one `Problem` each, collected and printed by file, or an error at once."""

import dataclasses
from collections.abc import Iterable
from typing import Literal, SupportsInt

from cuma_jax.runtime.errors import CumaError

_MOST = 20


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or (a warning) that is probably not meant.

    Attributes:
        severity: `error` stops the reader; `warning` does not.
        file: path of the file.
        line: line in the file, counted from 1 with the header; in a parquet file the row. None: the whole file.
        column: name of the column, if it is about one.
        message: what is wrong, with counts.
        hint: what to do about it.
    """

    severity: Literal["error", "warning"]
    file: str
    line: int | None
    column: str | None
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.file}, {self._text()}" if self.line or self.column else f"{self.file}: {self._text()}"

    def _text(self) -> str:
        place = [f"line {self.line}"] if self.line else []
        place += [f"column {self.column!r}"] if self.column else []
        return f"{', '.join(place)}{': ' if place else ''}{self.message}{'; ' if self.hint else ''}{self.hint}"


@dataclasses.dataclass(frozen=True)
class Advice:
    """What to do about faults that every table may have, in the words of who reads it: hints of problems.

    Attributes:
        path: the file is not there.
        again: it holds nothing of use.
        damaged: it is cut short or damaged.
        columns: some are missing; empty: the message lists what there is.
        encoding: it is not UTF-8; `{}` stands for what it seems to be.
        other_encoding: it is not UTF-8, and what it is nobody can tell but who saved it.
        delimiter: the columns are not separated as they should be: not by `{right}`, but by `{symbol}`.
        ragged: a row has another number of columns than the header.
    """

    path: str = "check the path"
    again: str = "fetch or export it again"
    damaged: str = "fetch or export it again"
    columns: str = ""
    encoding: str = "it may be {0}: save it as UTF-8 (iconv -f {0} -t utf-8 OLD > NEW)"
    other_encoding: str = "save it as UTF-8 with the program that it comes from"
    delimiter: str = "a .csv must be separated by commas and a .tsv by tabs: save it again, or rename it"
    ragged: str = (
        "is a quote or a delimiter missing? A text that holds the delimiter, a quote or a line end must be in double "
        'quotes, a quote in it written ""'
    )


class Problems(list[Problem]):
    """A list of problems that is filled while files are read, as far as they can be, to find the other faults too."""

    def __init__(self, advice: Advice = Advice()) -> None:  # it is frozen
        super().__init__()
        self.advice = advice

    def error(self, file: object, line: int | None, column: str | None, message: str, hint: str = "") -> None:
        """Adds an error; arguments as in `Problem`."""
        self.append(_problem("error", file, line, column, message, hint))

    def warning(self, file: object, line: int | None, column: str | None, message: str, hint: str = "") -> None:
        """Adds a warning; arguments as in `Problem`."""
        self.append(_problem("warning", file, line, column, message, hint))

    @property
    def errors(self) -> list[Problem]:
        """Those that stop the reader."""
        return [p for p in self if p.severity == "error"]

    def ordered(self) -> list[Problem]:
        """Without repeats, errors and warnings by file (in the order they came up) and line."""
        files = list(dict.fromkeys(p.file for p in self))
        return sorted(dict.fromkeys(self), key=lambda p: (files.index(p.file), p.line or 0))

    def raise_errors(self) -> None:
        """Raises one CumaError that names every error (the first 20), if there is any."""
        errors = [p for p in self.ordered() if p.severity == "error"]
        if len(errors) == 1:
            raise CumaError(str(errors[0]))
        if errors:
            lines = [f"- {p}" for p in errors[:_MOST]]
            lines += [f"- and {len(errors) - _MOST} more"] if len(errors) > _MOST else []
            raise CumaError("\n".join([f"{len(errors)} problems in the survey's files:", *lines]))


class Strict(Problems):
    """Stops at the first error: nobody collects them."""

    def error(self, file: object, line: int | None, column: str | None, message: str, hint: str = "") -> None:
        """Raises a CumaError, always; arguments as in `Problem`."""
        raise CumaError(str(_problem("error", file, line, column, message, hint)))


def _problem(
    severity: Literal["error", "warning"], file: object, line: int | None, column: str | None, message: str, hint: str
) -> Problem:
    """What is quoted of a file may be of any length."""
    return Problem(severity, str(file), line, column and _cut(column, 100), _cut(message, 600), _cut(hint, 1000))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def format_problems(problems: Iterable[Problem]) -> str:
    """The problems as text to read: grouped by file, in order of lines, each with what to do."""
    problems = list(problems)
    if not problems:
        return "no problems found"
    num_errors = sum(p.severity == "error" for p in problems)
    lines = []
    for file in dict.fromkeys(p.file for p in problems):
        lines.append(file)
        for problem in sorted((p for p in problems if p.file == file), key=lambda p: p.line or 0):
            place = f"line {problem.line}" if problem.line else "file"
            column = f"column {problem.column!r}: " if problem.column else ""
            lines.append(f"  {problem.severity:<7}  {place:<9}  {column}{problem.message}")
            if problem.hint:
                lines.append(f"{'':22}-> {problem.hint}")
        lines.append("")
    return "\n".join([*lines, f"{_count(num_errors, 'error')}, {_count(len(problems) - num_errors, 'warning')}"])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def count_skipped(skipped: dict[str, int], reason: str, number: SupportsInt = 1) -> None:
    """Adds `number` of what was left out for `reason`; nothing where it is 0."""
    if int(number):
        skipped[reason] = skipped.get(reason, 0) + int(number)
