"""What the header of a table must hold: the columns that are asked for, each once, split by the right delimiter."""

import collections
from collections.abc import Collection, Iterable, Mapping, Sequence

from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.near_matches import alike, near_hint
from cuma_jax.tables.problems import Problems

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
"""What columns may be separated by, and what that is called."""

_SHOWN, _NEAR = 40, 5


def require_columns(names: Sequence[str], wanted: Iterable[str], where: object, advice: str = "") -> None:
    """A `CumaError` unless every name in `wanted` is among `names`; it has all that are missing, what comes near them,
    and `advice` or else what there is.
    """
    missing = [column for column in wanted if column not in names]
    if not missing:
        return
    meant = [repr(name) for column in missing[:_NEAR] for name in alike(column, names)[:1]]
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    there = ", ".join(map(str, list(names)[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
    raise CumaError(
        f"{where} lacks column{'s' if len(missing) > 1 else ''} {', '.join(missing[:_SHOWN])}{more}; "
        + (f"did you mean {', '.join(dict.fromkeys(meant))}? " if meant else "")
        + (advice or f"it has {there}")
    )


def find_columns(
    path: object, header: Sequence[str], wanted: Mapping[str, str], problems: Problems, line: int | None
) -> dict[str, int]:
    """Position of each wanted column (-> what it is for); one that is not there, or there twice, is a problem."""
    report_repeated(path, header, wanted, problems, line)
    count, place = collections.Counter(header), {name: i for i, name in enumerate(header)}
    missing = [name for name in wanted if not count[name]]
    for name in missing[:_SHOWN]:
        problems.error(path, line, name, f"there is no such column ({wanted[name]})", near_hint(name, header))
    if len(missing) > _SHOWN:
        message = f"{len(missing) - _SHOWN} more columns are not there"
        problems.error(path, line, None, message, "correct the names above first")
    return {name: place[name] for name in wanted if count[name] == 1}


def report_repeated(
    path: object, header: Sequence[str], wanted: Iterable[str], problems: Problems, line: int | None = 1
) -> None:
    """Every wanted column that the header has more than once is a problem."""
    count = collections.Counter(header)
    for name in wanted:
        if count[name] > 1:
            problems.error(path, line, name, "the header has this column twice", "rename one of them")


def other_delimiter(header: Sequence[str], delimiter: str, wanted: Collection[str] | None = None) -> str:
    """The one of `DELIMITERS` that seems to separate the columns, where `delimiter` leaves the header in one piece.

    One of the columns `wanted` must come out (None: any other delimiter will do); "" where there is none.
    """
    if len(header) != 1:
        return ""
    others = [d for d in DELIMITERS if d != delimiter and d in header[0]]
    return next((d for d in others if wanted is None or set(header[0].split(d)) & set(wanted)), "")


def report_delimiter(path: object, line: int, delimiter: str, other: str, problems: Problems) -> None:
    """The columns are separated by `other`, and not by `delimiter`: a problem."""
    right = DELIMITERS.get(delimiter, repr(delimiter))
    symbol = "tab" if other == "\t" else f'"{other}"'
    hint = problems.advice.delimiter.format(right=right, symbol=symbol)
    problems.error(path, line, None, f"the columns are separated by {DELIMITERS[other]}, not by {right}", hint)
