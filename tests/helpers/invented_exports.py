"""One invented survey of 600 persons, as the programs write it that people ask with: SPSS, Qualtrics, LimeSurvey,
REDCap. Texts, persons and answers are drawn by a seed."""

import json
import pathlib

import numpy as np
import pandas as pd

COUNTRY = ("Norland", "Estmark", "C\u00f4te d\u2019Or")
SEX = ("Female", "Male")
EDUCATION = ("Primary school", "Secondary school", "University")
AGREE = ("Strongly agree", "Agree", "Neither agree nor disagree", "Disagree", "Strongly disagree")
TRUST = ("A great deal", "Quite a lot", "Not very much", "None at all")
OFTEN = ("Always", "Often", "Sometimes", "Rarely", "Never")
NONE = "Don't know"
QUESTIONS = {
    "trust": ("How much do you trust the town council?", TRUST),
    "tax": ("People like me pay too much tax, \u201call in all\u201d.", AGREE),
    "vote": ("How often do you vote?", OFTEN),
    "rain": ("Rain is good for the fields.", AGREE),
    "news": ("Do you read the news?", ("Yes", "No")),
}
MEDIA = ("Which of these do you use?", ("Radio", "Television", "Newspapers"))
PROFILE = {"country": ("In which country do you live?", COUNTRY), "sex": ("What is your sex?", SEX),
           "education": ("What is your highest level of education?", EDUCATION)}  # fmt: skip
NUM = 600


def persons(seed: int = 0) -> pd.DataFrame:
    """One row a person: positions of options (-1: don't know, -2: no answer), ticks as 0 and 1, age, weight."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"id": [f"R_{n:04d}" for n in range(NUM)]})
    for name, (_, options) in {**PROFILE, **QUESTIONS}.items():
        table[name] = rng.integers(0, len(options), NUM)
    for name in QUESTIONS:
        table.loc[rng.random(NUM) < 0.05, name] = -1
        table.loc[rng.random(NUM) < 0.05, name] = -2
    table["age"] = rng.integers(18, 90, NUM)
    table["weight"] = rng.integers(50, 200, NUM) / 100
    for n in range(len(MEDIA[1])):
        table[f"media_{n + 1}"] = rng.integers(0, 2, NUM)
    table.loc[table.filter(like="media_").sum(axis=1) == 0, "media_1"] = 1
    return table


def spss(folder: pathlib.Path) -> pathlib.Path:
    """Codes with labels; don't know is 9 and declared missing, no answer is empty."""
    import pyreadstat

    table = persons()
    labels = {"id": "Respondent ID", "age": "How old are you?", "weight": "Survey weight"}
    values, missing, out = {}, {}, table[["id", "age", "weight"]].copy()
    for name, (text, options) in {**PROFILE, **QUESTIONS}.items():
        labels[name] = text
        values[name] = {float(code): option for code, option in enumerate(options, 1)}
        codes = table[name].astype(float) + 1
        if name in QUESTIONS:
            values[name][9.0], missing[name] = NONE, [9]
            codes = codes.mask(table[name] == -1, 9.0).mask(table[name] == -2)
        out[name] = codes
    for n, option in enumerate(MEDIA[1], 1):
        name = f"media_{n}"
        labels[name] = f"{MEDIA[0]} - {option}"
        values[name] = {1.0: option}
        out[name] = table[name].astype(float).mask(table[name] == 0)
    folder.mkdir(exist_ok=True)
    path = folder / "poll.sav"
    pyreadstat.write_sav(out, path, column_labels=labels, variable_value_labels=values, missing_ranges=missing)
    return path


def texts(table: pd.DataFrame, name: str, options: tuple[str, ...]) -> list[str]:
    """What a person chose, in words."""
    return [{-1: NONE, -2: ""}.get(code, options[code] if code >= 0 else "") for code in table[name]]


def qualtrics(folder: pathlib.Path, encoding: str = "utf-8", delimiter: str = ",") -> pathlib.Path:
    """Choice texts, with two further header rows and what the program records."""
    table = persons()
    columns: dict[str, tuple[str, list[str]]] = {
        "StartDate": ("Start Date", ["2024-05-01 10:00:00"] * NUM),
        "Status": ("Response Type", ["IP Address"] * NUM),
        "IPAddress": ("IP Address", [f"10.0.{n // 250}.{n % 250}" for n in range(NUM)]),
        "Progress": ("Progress", ["100"] * NUM),
        "Duration (in seconds)": ("Duration (in seconds)", [str(60 + n) for n in range(NUM)]),
        "Finished": ("Finished", ["True"] * NUM),
        "ResponseId": ("Response ID", table["id"].tolist()),
        "UserLanguage": ("User Language", ["EN"] * NUM),
    }
    for name, (text, options) in {**PROFILE, **QUESTIONS}.items():
        columns[name] = text, texts(table, name, options)
    columns["age"] = "How old are you?", [str(age) for age in table["age"]]
    columns["weight"] = "weight", [str(weight) for weight in table["weight"]]
    for n, option in enumerate(MEDIA[1], 1):
        columns[f"media_{n}"] = (
            f"{MEDIA[0]} - Selected Choice - {option}",
            [option if ticked else "" for ticked in table[f"media_{n}"]],
        )
    ids = [json.dumps({"ImportId": f"QID{n}"}) for n in range(len(columns))]
    rows = [[text for text, _ in columns.values()], ids]
    rows += [list(row) for row in zip(*(values for _, values in columns.values()), strict=True)]
    return _csv(folder / "qualtrics.csv", list(columns), rows, encoding, delimiter)


def limesurvey(folder: pathlib.Path) -> pathlib.Path:
    """Full answers under the questions' codes and texts; N/A where a question was not shown."""
    table = persons()
    columns: dict[str, list[str]] = {
        "id. Response ID": table["id"].tolist(),
        "submitdate. Date submitted": ["2024-05-01 10:00:00"] * NUM,
        "lastpage. Last page": ["3"] * NUM,
        "startlanguage. Start language": ["en"] * NUM,
        "seed. Seed": [str(1000 + n) for n in range(NUM)],
    }
    for name, (text, options) in {**PROFILE, **QUESTIONS}.items():
        columns[f"{name}. {text}"] = texts(table, name, options)
    columns["age. How old are you?"] = [str(age) for age in table["age"]]
    columns["weight. Weight"] = [str(weight) for weight in table["weight"]]
    for n, option in enumerate(MEDIA[1], 1):
        name = f"media[{n}]. {MEDIA[0]} [{option}]"
        columns[name] = ["Yes" if ticked else "No" for ticked in table[f"media_{n}"]]
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return _csv(folder / "limesurvey.csv", list(columns), rows)


def redcap(folder: pathlib.Path) -> pathlib.Path:
    """Codes, and a column of 0 and 1 for each box."""
    table = persons()
    columns: dict[str, list[str]] = {"record_id": [str(n + 1) for n in range(NUM)]}
    for name in (*PROFILE, *QUESTIONS):
        columns[name] = [{-1: "99", -2: ""}.get(code, str(code + 1)) for code in table[name]]
    for n in range(1, len(MEDIA[1]) + 1):
        columns[f"media___{n}"] = [str(tick) for tick in table[f"media_{n}"]]
    columns["poll_complete"] = ["2"] * NUM
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return _csv(folder / "redcap.csv", list(columns), rows)


def _csv(
    path: pathlib.Path, header: list[str], rows: list[list[str]], encoding: str = "utf-8", delimiter: str = ","
) -> pathlib.Path:
    path.parent.mkdir(exist_ok=True)
    lines = [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [header, *rows]]
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path
