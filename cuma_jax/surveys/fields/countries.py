"""Names of countries: which of them are one country, and the libraries that know.

Names and codes come from `country_converter`, names in other languages from `babel` (Unicode CLDR).
"""

import functools
import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

COUNTRY_FIELDS = ("country", "B_COUNTRY")
"""Fields with a country's name, the first that there is counts; the other is wvs7's and wvb's official column."""

# Parts of countries and former ones, surveyed apart: the country whose region and language they have.
_COUNTRY_OF = {
    "Northern Ireland": "United Kingdom",  # surveyed apart from Great Britain in the World Values Survey
    "England": "United Kingdom",
    "Scotland": "United Kingdom",
    "Wales": "United Kingdom",
    "Serbia and Montenegro": "Serbia",  # one country until 2006
    "East Germany": "Germany",
    "West Germany": "Germany",
    "Germany East": "Germany",
    "Germany West": "Germany",
    "Northern Cyprus": "Cyprus",
}
# Spellings in surveys that `country_converter` does not find.
_SPELLINGS = {
    "Palest. ter.": "Palestine",  # GlobalOpinionQA
    "West Bank and Gaza": "Palestine",
    "East Timor": "Timor-Leste",
    "Western Samoa": "Samoa",
}
# However they are written, they are units of their own, and not the country.
_PARTS = {
    "East Germany": r"(east|eastern)\W*germany|germany\W*(east|eastern)\W*|[dg]\.?d\.?r\.?",
    "West Germany": r"(west|western)\W*germany|germany\W*(west|western)\W*",
    "Northern Ireland": r"(north|northern|n\.?)\W*ireland",
    "Northern Cyprus": r"(north|northern|turkish)\W*cyprus|cyprus\W*\(?(t|tcc|north|turkish)\)?",
    "England": r"england",
    "Scotland": r"scotland",
    "Wales": r"wales",
    "Serbia and Montenegro": r"serbia\W*(and|&)\W*montenegro",
    "Czechoslovakia": r"czecho-?slovakia",
}
# The library knows a country by any text that has its name in it. What else the text says may be its own name's ...
_DIRECTIONS = {"northern": "north", "southern": "south", "eastern": "east", "western": "west"}
_SHORT_DIRECTION = re.compile(r"(?<![\w'\u2019])([nsew])\.? (?=[a-z]{3})", re.IGNORECASE)  # "S. Korea", not "U.S.A."
# ... or its form of state; anything else in brackets, or after a dash, is a part of it.
_FORMS = {
    "administrative", "and", "china", "dem", "democratic", "dr", "federal", "federation", "former", "islamic",
    "kingdom", "of", "people", "peoples", "r", "region", "rep", "republic", "roc", "s", "sar", "socialist", "special",
    "state", "states", "the", "uk", "union", "united", "usa",
}  # fmt: skip
_BESIDE = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]|\s[-\u2013\u2014/:]+\s(.*)$")
_LANGUAGES = ("de", "fr", "es", "pt", "it")


def one_name(countries: Iterable[str]) -> dict[str, str]:
    """One name for each of `countries`: of several spellings of one country ("Britain", "GB", "Great Britain") the
    library's, or the first in the alphabet of a place that it does not know.

    A name that is the only spelling stays as it is. Parts of a country and former countries are not the country.
    """
    spellings: dict[str, list[str]] = {}
    for name in sorted(set(countries)):
        spellings.setdefault(same_country(name), []).append(name)
    known = {key: key if is_country(key) or key in _PARTS else names[0] for key, names in spellings.items()}
    return {name: known[key] if len(names) > 1 else name for key, names in spellings.items() for name in names}


def merged_values(names: Sequence[str], field: str) -> tuple[np.ndarray, list[str]]:
    """Of the distinct values of a field, for splits and groups: the position of each, int [V], in a sorted list without
    second spellings of a country, and the list. Values of a field that is no country's name are all kept.
    """
    one = one_name(names) if field in COUNTRY_FIELDS else {name: name for name in names}
    merged = sorted(set(one.values()))
    place = {name: i for i, name in enumerate(merged)}
    return np.array([place[one[name]] for name in names], np.int64), merged


def with_one_name(column: pd.Series, field: str) -> pd.Series:
    """A respondents' column for splits and groups: one spelling of each country; any other field as it is."""
    if field not in COUNTRY_FIELDS:
        return column
    values = column.astype("category")
    names = [str(name) for name in values.cat.categories]
    place_V, merged = merged_values(names, field)
    if len(merged) == len(names):
        return column
    # One slot more than there are names: code -1 indexes the last, which stays missing.
    codes_R = np.append(place_V, -1)[values.cat.codes.to_numpy()]
    return pd.Series(pd.Categorical.from_codes(codes_R, pd.Index(merged, dtype="str")), column.index, name=column.name)


@functools.cache
def same_country(name: str) -> str:
    """A text that all spellings of one country have: the library's short name; of a place that it does not know, its
    words without accents, capitals and signs.

    Known are names in English and in five more languages, and the two and three letters of ISO 3166-1.
    """
    text = " ".join(name.split())
    if part := _part(text):
        return part
    found = _short_name(_SPELLINGS.get(text, text), "regex")
    if found and (text in _SPELLINGS or _is_whole(text, found)):
        return found
    if text.isupper() and text.isascii() and text.isalpha() and len(text) in (2, 3):
        found = _short_name(text, f"ISO{len(text)}")
    else:
        found = _short_name(_other_languages().get(_plain(text), ""), "ISO2")
    return found or _plain(text) or name


def _part(text: str) -> str:
    """The unit of `_PARTS` that a text names, alone or beside codes and the country ("GB-NIR-Northern Ireland")."""
    pieces = re.split(r"([-\u2013\u2014()/,:;]+)", text)[:41]
    runs = {"".join(pieces[i:j]).strip() for i in range(0, len(pieces), 2) for j in range(i + 1, len(pieces) + 1)}
    matches = (
        part for part, pattern in _PARTS.items() if any(re.fullmatch(pattern, run, re.IGNORECASE) for run in runs)
    )
    return next(matches, "")


def _is_whole(text: str, country: str) -> bool:
    """Whether a text in which the library finds a country says no more: not "Israel (Jews)" or "South West Africa"."""
    own = _own_words(country)
    full = {"n": "north ", "s": "south ", "e": "east ", "w": "west "}
    said = _plain(_SHORT_DIRECTION.sub(lambda match: full[match[1].lower()], text)).split()
    if {_DIRECTIONS.get(word, word) for word in said} & set(_DIRECTIONS.values()) - own:
        return False
    beside = _plain(" ".join(filter(None, (part for match in _BESIDE.finditer(text) for part in match.groups()))))
    if not beside:
        return True
    return set(beside.split()) <= own | _FORMS and _short_name(_BESIDE.sub(" ", text).strip(), "regex") == country


@functools.cache
def _own_words(country: str) -> frozenset[str]:
    """The words of a country's short and official names."""
    data = converter()[0].data
    names = data.loc[data["name_short"] == country, ["name_short", "name_official"]]
    words = _plain(" ".join(names.astype(str).to_numpy().ravel())).split()
    return frozenset(_DIRECTIONS.get(word, word) for word in words)


def known_as(name: str) -> str:
    """The name of a country as `country_converter` finds it; of a part, that of its country."""
    return _SPELLINGS.get(name) or _COUNTRY_OF.get(name, name)


def is_country(name: str) -> bool:
    """Whether this is the library's short name of a country."""
    return name in converter()[1]


def country_numbers(names: Sequence[str]) -> dict[str, str]:
    """ISO 3166-1 numbers of countries' names, three digits as maps have them; those that are not known are left out.

    A part of a country, surveyed apart, has the country's number where no other name has it.
    """
    library, _ = converter()
    numbers: dict[str, str] = {}
    for parts in (False, True):
        for name in names:
            if (name in _COUNTRY_OF) == parts:
                found = library.convert(known_as(name), src="regex", to="ISOnumeric", not_found=None)
                number = f"{int(found):03d}" if str(found).isdecimal() else ""
                if number and not (parts and number in numbers.values()):
                    numbers[name] = number
    return numbers


@functools.cache
def converter():  # type: ignore[no-untyped-def]  # the library has no types
    """The converter of names, and (two-letter code, subregion) of each country's short name."""
    from country_converter import CountryConverter
    from country_converter.country_converter import COUNTRY_DATA_FILE

    # Read here: by its own reader, missing codes become numbers under pandas 3.1, and the converter fails on them.
    data = pd.read_csv(COUNTRY_DATA_FILE, sep="\t", keep_default_na=False, na_values=[""], dtype=str)
    data = data[data["ISO2"].notna() & data["UNregion"].notna()]
    # It warns of each name it does not find; here they are counted and named together.
    logging.getLogger("country_converter").setLevel(logging.CRITICAL + 1)
    library = CountryConverter(country_data=data)
    # A code may be written as alternatives: "^GB$|^UK$"; the first is the ISO's.
    codes = data["ISO2"].str.split("|").str[0].str.strip("^$")
    return library, dict(zip(data["name_short"], zip(codes, data["UNregion"], strict=True), strict=True))


def _short_name(text: str, kind: str) -> str:
    """The library's short name of what it knows as `kind`; empty where it knows none, or several."""
    library, places = converter()
    found = library.convert(text, src=kind, to="name_short", not_found=None) if text else None
    return found if isinstance(found, str) and found in places else ""


def _plain(text: str) -> str:
    """Words of letters and digits alone, without accents and capitals."""
    letters = (c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join("".join(c if c.isalnum() else " " for c in letters).split())


@functools.cache
def _other_languages() -> dict[str, str]:
    """Two-letter codes of countries by their plain names in other languages."""
    from babel import Locale

    codes: dict[str, str] = {}
    for language in _LANGUAGES:
        for code, name in Locale(language).territories.items():
            if len(code) == 2:
                codes.setdefault(_plain(name), code)
    return codes
