"""Writes an invented survey with the columns and codes of World Values Survey wave 7's csv, at any size.

    python benchmarks/invented_wvs7.py OUT [--respondents 94728] [--countries 64] [--seed 0]

OUT/raw.csv is the raw file; OUT/checkout/ has codebook.json, question_metadata.json and answer_adjustment.json in the
form that WorldValuesBench has them. No real answer and no real wording is in them: texts are made from word lists.
What is as in the real files: ids and kinds of columns, sizes of scales, negative codes for missing answers, and 15
questions whose raw codes are recoded. Needs the package's own dependencies only.
"""

import argparse
import json
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

MISSING = {"-1": "Don't know", "-2": "No answer", "-4": "Not asked", "-5": "Missing"}
TOPICS = (
    *("family", "friends", "leisure", "work", "music", "sport", "science", "art", "travel", "gardens", "books"),
    *("trains", "weather"),
)
PLACES = ("at home", "in your town", "in your country", "in other countries", "at work", "in the news", "in schools")
ASKED = (
    "Please tell me how important {topic} {place} are in your life, all things considered",
    "Some people say that {topic} {place} should have more public money. How far do you agree with that",
    "How much confidence do you have in those who are responsible for {topic} {place}",
    "Thinking of the next ten years, how likely is it that {topic} {place} will change for the better",
)
SCALES = ((4, 1, 91), (10, 1, 50), (2, 1, 36), (5, 1, 21), (3, 1, 20), (3, 0, 19), (7, 1, 1), (8, 1, 1))
"""(options, lowest code, number of questions)."""
WORDS = {
    2: ("Yes", "No"),
    3: ("A great deal", "Some", "None"),
    4: ("Very much", "Rather", "Not very much", "Not at all"),
    5: ("Agree strongly", "Agree", "Neither agree nor disagree", "Disagree", "Disagree strongly"),
}
SWAPPED, SHIFTED, FROM_ZERO = "Q56", "Q119", tuple(f"Q{i}" for i in range(241, 250))
DROPPED = ("Q111", "Q221", "Q222", "Q254")

CATEGORIES = {
    "X003R": 6, "Q260": 2, "Q275": 9, "Q273": 6, "Q289": 10, "Q279": 8, "H_SETTLEMENT": 5, "H_URBRURAL": 2,
    "G_TOWNSIZE": 8, "E1_LITERACY": 2, "Q263": 2, "Q264": 2, "Q265": 2, "Q269": 2, "Q271": 4, "Q276": 9, "Q277": 9,
    "Q278": 9, "Q280": 8, "Q281": 11, "Q282": 11, "Q283": 11, "Q284": 3, "Q285": 2, "Q286": 4, "Q287": 5,
    "Q272": 30, "S_INTLANGUAGE": 30, "Q289CS9": 40, "N_TOWN": 300,
}  # fmt: skip
ORDINAL = {"Q262": 90, "Q261": 2004, "Q270": 9, "Q274": 6, "Q288": 10, "A_YEAR": 2022, "J_INTDATE": 20220101}
BY_COUNTRY = ("Q290", "Q266", "Q267", "Q268")


def scale(question: str) -> tuple[int, int]:
    """(options, lowest code) of a value question after the adjustment."""
    if question in (SWAPPED, SHIFTED, *DROPPED):
        return 4 if question == SHIFTED else 3, 1
    if question in FROM_ZERO:
        return 10, 1
    sizes = [size for size in SCALES for _ in range(size[2])]
    # Spread over the questionnaire, so that a prefix of it has every kind.
    options, low, _ = sizes[VALUES.index(question) * 101 % len(sizes)]
    return options, low


VALUES = tuple(f"Q{i}" for i in range(1, 260) if not 31 <= i <= 50)  # 239 of them


def option_texts(options: int, low: int) -> dict[str, str]:
    words = WORDS.get(options)
    if words is None:
        middle = [str(code) for code in range(low + 1, low + options - 1)]
        words = ("Not at all", *middle, "Completely")
    return {str(low + i): word for i, word in enumerate(words)}


def value_question(question: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Metadata, codebook entry and adjustment of a value question; the last two with raw codes."""
    n = VALUES.index(question)
    topic = f"{TOPICS[n % len(TOPICS)]} and {TOPICS[(n * 5 + 3) % len(TOPICS)]}"
    place = PLACES[n % len(PLACES)]
    options, low = scale(question)
    choices, adjustment = option_texts(options, low), {}
    if question == SWAPPED:
        choices, adjustment = {"1": "A great deal", "3": "Some", "2": "None"}, {"2": "3", "3": "2"}
    elif question == SHIFTED:
        choices, adjustment = {"1": "Very", "2": "Rather", "3": "Not very", "0": "Not at all"}, {"0": "4"}
    elif question in FROM_ZERO:
        choices, adjustment = {"0": "It is against it"} | choices, {"0": "1"}
    elif question in DROPPED:
        choices, adjustment = choices | {"4": "It depends"}, {"4": ""}
    metadata = {
        "question": ASKED[n % len(ASKED)].format(topic=topic, place=place) + "?",
        "category": "invented",
        "use_case": "value",
        "answer_scale_min": low,
        "answer_scale_max": low + options - 1,
        "answer_data_type": "ordinal",
    }
    label = f"{ASKED[n % len(ASKED)].format(topic=topic, place=place)} (item {n + 1})"
    codebook = {"question": label, "question_instruction": "", "type": "value", "choices": choices | MISSING}
    return metadata, codebook, adjustment


def checkout(countries: int) -> dict[str, dict[str, Any]]:
    """The contents of the three JSON files."""
    metadata: dict[str, Any] = {}
    codebook: dict[str, Any] = {}
    adjustment: dict[str, Any] = {}

    def person(column: str, choices: dict[str, str], kind: str) -> None:
        metadata[column] = {"question": column, "category": "invented", "use_case": "demographic"}
        metadata[column] |= {"answer_scale_min": 0, "answer_scale_max": 0, "answer_data_type": kind}
        codebook[column] = {"question": column, "question_instruction": "", "type": "", "choices": choices | MISSING}

    person("D_INTERVIEW", {}, "ordinal")
    person("B_COUNTRY", {str(100 + c): f"Country {c + 1}" for c in range(countries)}, "nominal")
    for column, size in CATEGORIES.items():
        person(column, {str(i + 1): f"Group {i + 1} of {size}" for i in range(size)}, "nominal")
    for column in ORDINAL:
        person(column, {}, "ordinal")
    for column in BY_COUNTRY:
        texts = {str((100 + c) * 1000 + i): f"Origin {c + 1}.{i}" for c in range(countries) for i in range(1, 6)}
        person(column, texts, "nominal")
    for question in VALUES:
        metadata[question], codebook[question], adjusted = value_question(question)
        if adjusted:
            adjustment[question] = adjusted
    return {"question_metadata": metadata, "codebook": codebook, "answer_adjustment": adjustment}


def columns(respondents: int, countries: int, seed: int) -> dict[str, np.ndarray]:
    """The raw file's columns [R]: 287 of them."""
    rng = np.random.default_rng(seed)
    country = rng.integers(0, countries, respondents)
    latent = rng.normal(size=(countries, 2))
    found: dict[str, np.ndarray] = {
        "version": np.full(respondents, 5),
        "D_INTERVIEW": (100 + country) * 1_000_000 + np.arange(respondents),
        "B_COUNTRY": 100 + country,
        "W_WEIGHT": np.round(rng.gamma(8, 1 / 8, respondents), 5),
        "S018": np.round(rng.gamma(8, 1 / 8, respondents), 5),
        "S025": (100 + country) * 10_000 + 2018,
        "I_PSU": country * 100 + rng.integers(0, 60, respondents),
    }
    for column, size in CATEGORIES.items():
        # Uneven groups, as people's are.
        found[column] = 1 + (size * rng.random(respondents) ** 2).astype(np.int64)
    for column, high in ORDINAL.items():
        low = {"A_YEAR": 2017, "J_INTDATE": 20170101, "Q261": 1930, "Q262": 16}.get(column, 0)
        found[column] = rng.integers(low, high + 1, respondents)
    for column in BY_COUNTRY:
        found[column] = (100 + country) * 1000 + 1 + (5 * rng.random(respondents) ** 2).astype(np.int64)
    for column in (*CATEGORIES, *ORDINAL, *BY_COUNTRY):
        found[column] = np.where(rng.random(respondents) < 0.02, -2, found[column])
    for question in VALUES:
        options, low = scale(question)
        score = latent[country] @ rng.normal(size=2) + rng.logistic(size=respondents)
        cuts = np.sort(rng.normal(size=options - 1) * 1.2)
        code = low + np.searchsorted(cuts, score)
        raw_of = {int(new): int(raw) for raw, new in value_question(question)[2].items() if new != ""}
        if question not in FROM_ZERO:  # the inverse of the adjustment: what the raw file has
            code = np.array([raw_of.get(c, c) for c in range(low + options)])[code]
        else:
            code = np.where(rng.random(respondents) < 0.02, 0, code)
        if question in DROPPED:
            code = np.where(rng.random(respondents) < 0.01, 4, code)
        lost = rng.random(respondents)
        code = np.where(lost < 0.02, -1, np.where(lost < 0.03, -2, code))
        if rng.random() < 0.05:
            code = np.where(country % 20 == rng.integers(0, 20), -4, code)
        found[question] = code
    return found


def write(out: pathlib.Path, respondents: int = 94_728, countries: int = 64, seed: int = 0) -> tuple[int, int]:
    """Writes both; (rows, columns) of the raw file."""
    folder = out / "checkout"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in checkout(countries).items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1))
    table = pa.table(columns(respondents, countries, seed))
    pa.csv.write_csv(table, out / "raw.csv")
    return table.num_rows, table.num_columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--respondents", type=int, default=94_728)
    parser.add_argument("--countries", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows, width = write(args.out, args.respondents, args.countries, args.seed)
    size = (args.out / "raw.csv").stat().st_size
    print(
        f"{args.out / 'raw.csv'}: {rows:,} respondents x {width} columns, {size / 1e6:.0f} MB; {args.out / 'checkout'}"
    )


if __name__ == "__main__":
    main()
