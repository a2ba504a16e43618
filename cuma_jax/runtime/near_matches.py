"""Known words for an error about an unknown one: those that it may have meant come first."""

import difflib
from collections.abc import Iterable

_ALSO_CALLED = {
    "gender": "sex", "sex": "gender", "nation": "country", "nationality": "country", "age_group": "age",
    "religion": "denomination", "schooling": "education", "job": "employment", "location": "country",
}  # fmt: skip
_LONGEST, _COMPARED = 80, 2000
"""Characters of a word that are compared and shown; words that are compared letter by letter, which is slow."""


def alike(word: str, known: Iterable[str]) -> list[str]:
    """Those of the known words that `word` may have meant, the likeliest first: it in other capitals alone, else
    another name of the same, those that look like it, those that it is a part of."""
    known = [str(one) for one in known]
    plain = word.casefold().strip()[:_LONGEST]
    by_case = {one.casefold()[:_LONGEST]: one for one in known[:_COMPARED]}
    if same := [one for one in known if one.casefold()[:_LONGEST] == plain]:
        return same
    close = [one for one in known if one == _ALSO_CALLED.get(plain)]
    close += [by_case[found] for found in difflib.get_close_matches(plain, by_case, 3)]
    close += [one for one in known if len(plain) > 2 and plain in one.casefold()]
    return list(dict.fromkeys(close))


def near(word: str, known: Iterable[str], most: int = 12) -> str:
    """Known words as a list, those of `alike` first; how many more there are."""
    known = list(known)
    shown = list(dict.fromkeys([*alike(word, known), *known]))[: max(most, 1)]
    more = f" and {len(known) - len(shown):,} more" if len(known) > len(shown) else ""
    return ", ".join(_cut(one) for one in shown) + more


def near_hint(word: str, known: Iterable[str], most: int = 8) -> str:
    """A hint for an unknown word: "did you mean ...?" where some are alike (three at most), else the first `most` that
    there are; with `most` 0 nothing else."""
    known = list(known)
    if found := alike(word, known)[:3]:
        return f"did you mean {' or '.join(repr(_cut(one)) for one in found)}?"
    more = ", ..." if len(known) > most else ""
    return f"there are: {', '.join(repr(_cut(str(one))) for one in known[:most])}{more}" if most else ""


def _cut(word: str) -> str:
    return word if len(word) <= _LONGEST else f"{word[: _LONGEST - 3]}..."
