"""Makes the example survey. Places, persons and answers are invented; nothing here was said by anybody.

python examples/my_survey/make_survey.py writes answers.csv (one row a person) and, with the same answers,
long/answers_long.csv and long/people.csv beside this file: the same bytes each time.
"""

import csv
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent
SEED = 20240501
COUNTRIES = ("Norland", "Estmark", "Suvania", "Meridia")
AGES = ("18-34", "35-54", "55 and over")
EDUCATION = ("school", "vocational", "university")
# Mean position of a country's answers on each scale, from 0 (first option) to 1 (last option).
MEANS = {
    "market_day": (0.9, 0.1, 0.7, 0.25),
    "new_bridge": (0.15, 0.85, 0.4, 0.7),
    "tax_for_parks": (0.2, 0.75, 0.5, 0.9),
    "trust_council": (0.85, 0.2, 0.55, 0.35),
    "night_trains": (0.3, 0.8, 0.15, 0.6),
    "satisfied": (0.8, 0.35, 0.6, 0.2),
}
OPTIONS = {
    "market_day": 2,
    "new_bridge": 4,
    "tax_for_parks": 5,
    "trust_council": 4,
    "night_trains": 5,
    "satisfied": 10,
}
# Shares of the three colours (no scale) in each country.
COLOURS = ((0.7, 0.2, 0.1), (0.1, 0.2, 0.7), (0.2, 0.7, 0.1), (0.3, 0.3, 0.4))
# How much later on a scale the second and third age group answer.
AGE_SHIFT = {"night_trains": 0.12, "tax_for_parks": -0.1}


def main(folder: pathlib.Path = HERE, people: int = 300) -> None:
    """Writes the three tables into `folder`."""
    rng = np.random.default_rng(SEED)
    rows = []
    for n in range(people):
        country, age, education = n % len(COUNTRIES), int(rng.integers(3)), int(rng.choice(3, p=(0.3, 0.4, 0.3)))
        row = {
            "id": f"R{n + 1:03d}",
            "country": COUNTRIES[country],
            "age_group": AGES[age],
            "sex": str(int(rng.integers(2)) + 1),
            "education": EDUCATION[education],
            # The young and the schooled are rarer among those who answered than they should be.
            "weight": f"{(1.4, 1.0, 0.8)[age] * rng.uniform(0.8, 1.2):.3f}",
            "district": f"{COUNTRIES[country][:3]}-{int(rng.integers(12)) + 1:02d}",
        }
        if rng.random() < 0.03:
            row["education"] = "NA"
        for question, size in OPTIONS.items():
            mean = MEANS[question][country] + AGE_SHIFT.get(question, 0.0) * age
            code = int(np.clip(np.rint(np.clip(mean, 0, 1) * (size - 1) + rng.normal(0, 0.16 * size)), 0, size - 1)) + 1
            row[question] = str(code) if rng.random() > 0.04 else "-9"
        row["colour"] = ("red", "green", "blue")[int(rng.choice(3, p=COLOURS[country]))]
        rows.append(row)
    questions = [*OPTIONS, "colour"]
    people_columns = [name for name in rows[0] if name not in questions]
    _write(folder / "answers.csv", rows)
    (folder / "long").mkdir(exist_ok=True)
    _write(folder / "long" / "people.csv", [{name: row[name] for name in people_columns} for row in rows])
    answers = [{"id": row["id"], "item": q, "value": row[q]} for row in rows for q in questions]
    _write(folder / "long" / "answers_long.csv", answers)


def _write(path: pathlib.Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
