"""What one field may hold: a range for every number, a kind for every text, declared beside the field.

    rank: Annotated[int, Range(1, 16384)] = 8
    dir: Annotated[str, Place("new folder")] = ""

One check for the sections of a config (`check_types`, `check_values`) and for the options of commands. No jax.
"""

import dataclasses
import functools
import os
import pathlib
import typing
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from cuma_jax.runtime.errors import CumaError

LONGEST_PATH, LONGEST_NAME = 4000, 255
"""Bytes of a path, and of a file's or folder's name: what file systems hold."""
_BREAKS = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's control characters, lone surrogates (bytes that are no text), line and paragraph separators."""


@dataclasses.dataclass(frozen=True)
class Range:
    """A number from `low` to `high`; `above`, `below`: without the end itself; `or_zero`: 0 is as good. NaN and
    infinities are in no range."""

    low: float
    high: float
    above: bool = False
    below: bool = False
    or_zero: bool = False

    def problem(self, value: Any) -> str:
        """What the value must be, where it is not that; empty where it is."""
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        if (over and under) or (self.or_zero and value == 0):
            return ""
        least, most = "above" if self.above else "at least", "below" if self.below else "at most"
        return f"{'0, or ' if self.or_zero else ''}{least} {self.low} and {most} {self.high}"


SEED = Range(0, 2**32 - 1)
"""What tells two streams of random numbers apart: JAX takes 32 bits of a seed."""
SHARE = Range(0, 1, below=True)
COUNT = Range(1, 10**9)
NONE_OR_MORE = Range(0, 10**9)
TOKENS = Range(1, 2**20)
ROWS = Range(1, 2**20)
WEIGHT = Range(0, 1000)


@dataclasses.dataclass(frozen=True)
class Line:
    """A text of one line. `lines`: several are as good; `secret`: it may be one, so that it is never shown, and is
    checked by who knows its form."""

    longest: int = 4000
    lines: bool = False
    secret: bool = False

    def problem(self, value: str) -> str:
        """As `Range.problem`."""
        if self.secret:
            return ""
        if len(value) > self.longest:
            return f"at most {self.longest} characters"
        breaks = "\n\t\r\u2028\u2029" if self.lines else ""
        if broken := [c for c in value if unicodedata.category(c) in _BREAKS and c not in breaks]:
            what = "text" if self.lines else "one line of text"
            return f"{what}, without control characters or broken bytes (here U+{ord(broken[0]):04X})"
        return ""


@dataclasses.dataclass(frozen=True)
class Name:
    """The name of a run: of the folder that it has in runs/ (or of folders in each other: a/b)."""

    def problem(self, value: str) -> str:
        """As `Range.problem`."""
        if not value.strip():
            return "a name that is not empty"
        if "\\" in value or value.startswith("~") or any(part in ("", ".", "..") for part in value.split("/")):
            return "a name of a folder inside runs/, without .. and \\ (--run.dir is for any other place)"
        return Line().problem(value) or _path_problem(value)


@dataclasses.dataclass(frozen=True)
class Place:
    """A path, and what has to be there: a file or a folder to read; a folder or a file that is written; a run's folder,
    if anything; or anything: who reads it says what is missing (a model may be no path at all). `words` are values
    that are no paths; neither is an empty text."""

    what: Literal["file", "folder", "file or folder", "new folder", "new file", "run", "any"]
    words: tuple[str, ...] = ()

    def problem(self, value: str) -> str:
        """As `Range.problem`, by the text alone: this machine's disk is not asked."""
        return Line().problem(value) or _path_problem(value)

    def trouble(self, value: str) -> str:
        """What is wrong with what is on this machine's disk; empty where nothing is."""
        if not value or value in self.words or self.what == "any" or "://" in value:
            return ""  # an address is refused where it is used, with what to do instead
        path = pathlib.Path(os.path.expanduser(value))
        try:
            return self._trouble(path)
        except OSError as error:  # a folder on the way that may not be read, a loop of links
            return f"cannot be read: {error.strerror}"

    def _trouble(self, path: pathlib.Path) -> str:
        if self.what in ("new folder", "new file"):
            if self.what == "new file" and path.is_dir():
                return "is a folder; give the name of a file"
            if self.what == "new folder" and path.exists() and not path.is_dir():
                return "is a file; give a folder"
            above = next((parent for parent in path.parents if os.path.lexists(parent)), path.parent)
            return "" if above.is_dir() else f"lies in {above}, which is a file"
        if not path.exists():
            return "" if self.what == "run" else f"is not there ({path.absolute()})"
        if self.what == "file" and path.is_dir():
            return "is a folder; give a file"
        return "is a file; give a folder" if self.what in ("folder", "run") and not path.is_dir() else ""


def _path_problem(path: str) -> str:
    home = path.split("/")[0]
    if home.startswith("~") and not os.path.isdir(os.path.expanduser(home)):
        return f"a path; this machine has no home of {home} (./{path} is a file of that name)"
    if len(os.fsencode(path)) > LONGEST_PATH:
        return f"a path of at most {LONGEST_PATH} bytes"
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.split("/")):
        return f"a path of names of at most {LONGEST_NAME} bytes each"
    return ""


Kind = Range | Line | Name | Place


@functools.cache
def declared(section: Any) -> dict[str, tuple[Any, Kind | None]]:
    """Type and kind of every field of a dataclass; None where neither number nor text, or where none is declared."""
    found: dict[str, tuple[Any, Kind | None]] = {}
    plain = typing.get_type_hints(section)
    for name, hint in typing.get_type_hints(section, include_extras=True).items():
        marks = hint.__metadata__ if typing.get_origin(hint) is Annotated else ()
        found[name] = plain[name], next((mark for mark in marks if isinstance(mark, Kind)), None)
    return found


def check_types(section: Any, prefix: str) -> None:
    """Raises a `CumaError` for the first field of another type than it is declared; `prefix` is before its name."""
    for name, (hint, kind) in declared(typing.cast(Any, type(section))).items():
        value = getattr(section, name)
        item, *_ = arguments = typing.get_args(hint) or (None,)
        if dataclasses.is_dataclass(hint):
            ok, allowed = isinstance(value, typing.cast(type, hint)), "a section with fields of its own"
        elif typing.get_origin(hint) is Literal:
            ok, allowed = isinstance(value, str) and value in arguments, f"one of {', '.join(arguments)}"
        elif typing.get_origin(item) is Literal:
            names = typing.get_args(item)
            ok = isinstance(value, tuple) and all(isinstance(v, str) and v in names for v in value)
            allowed = f"a list of {', '.join(names)}"
        elif item:
            ok = isinstance(value, tuple) and all(isinstance(v, item) and not isinstance(v, bool) for v in value)
            allowed = f"a list of {item.__name__}"
        elif hint is float:
            ok, allowed = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
        else:
            ok = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
            allowed = f"of type {hint.__name__}"
        if not ok:
            raise CumaError(f"{prefix}{name} is {shown(value, kind)}; it must be {allowed}")


MOST_VALUES = 10_000
"""Of a field that is a list."""


def check_values(section: Any, prefix: str) -> None:
    """Raises a `CumaError` for the first value out of its field's range or kind, of `section` and sections in it."""
    for name, value, kind in _values(section):
        values = value if isinstance(value, tuple) else (value,)
        if len(values) > MOST_VALUES:
            raise CumaError(f"{prefix}{name} has {len(values)} values; it must be at most {MOST_VALUES}")
        for one in values:
            if allowed := kind.problem(one):
                raise CumaError(f"{prefix}{name} is {shown(one, kind)}; it must be {allowed}")


def check_places(section: Any, prefix: str, skip: tuple[str, ...] = ()) -> None:
    """Raises a `CumaError` for the first path that is not what it must be on this machine's disk."""
    for name, value, kind in _values(section):
        if isinstance(kind, Place) and name not in skip:
            for one in value if isinstance(value, tuple) else (value,):
                if found := kind.trouble(one):
                    raise CumaError(f"{prefix}{name} {shown(one)} {found}")


def _values(section: Any, above: str = "") -> Iterator[tuple[str, Any, Kind]]:
    for name, (_, kind) in declared(typing.cast(Any, type(section))).items():
        value = getattr(section, name)
        if dataclasses.is_dataclass(value):
            yield from _values(value, f"{above}{name}.")
        elif kind is not None and value is not None:
            yield f"{above}{name}", value, kind


def shown(value: Any, kind: Kind | None = None) -> str:
    """A value for a message: short, whatever it is; not what may be a secret."""
    if isinstance(kind, Line) and kind.secret:
        return "something else (not shown: it may be a secret)"
    try:
        text = repr(value)
    except Exception:  # a number of more than 4,300 digits, lists in lists in lists, an object of the user's
        text = f"an object of {type(value).__name__} that cannot be shown"
    return text if len(text) <= 200 else f"{text[:120]} ... ({len(text)} characters)"
