"""Known words for an error about an unknown one: those that it may have meant come first."""

import difflib
from collections.abc import Sequence

_ALSO_CALLED = {
    "gender": "sex", "sex": "gender", "nation": "country", "nationality": "country", "age_group": "age",
    "religion": "denomination", "schooling": "education", "job": "employment", "location": "country",
}  # fmt: skip


def near(word: str, known: Sequence[str], most: int = 12) -> str:
    """Known words as a list, those that look like `word` or mean the same first; how many more there are."""
    plain, by_case = word.casefold().strip()[:200], {one.casefold(): one for one in known}
    close = [one for one in known if one == _ALSO_CALLED.get(plain)]
    close += [by_case[found] for found in difflib.get_close_matches(plain, by_case, 3)]
    close += [one for one in known if len(plain) > 2 and plain in one.casefold()]
    shown = list(dict.fromkeys([*close, *known]))[: max(most, 1)]
    more = f" and {len(known) - len(shown):,} more" if len(known) > len(shown) else ""
    return ", ".join(shown) + more
