"""Files of the shape of Community Alignment (v1.1) and PRISM, with invented rows: nobody wrote or chose any of it.

What people choose is planted: each country likes one style of response (`STYLES`), most of the time, so that a test
can see whether training finds it.
"""

import gzip
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from conftest import changed

TURNS = ("first", "second", "third", "fourth")
COUNTRIES = ("united states", "india", "brazil", "france", "italy")
LANGUAGES = dict(zip(COUNTRIES, ("en", "hi", "pt", "fr", "it"), strict=True))
STYLES = ("Short", "Careful", "Cheerful", "Detailed")
TOPICS = ("bread", "trains", "gardens", "music", "rain", "football",
          "letters", "tea", "rivers", "chess", "hats", "soup")  # fmt: skip
FOLLOW_UPS = ("Tell me more.", "Why is that?", "And for beginners?", "Can you say it again, shorter?")
EDUCATED = ("Some post-secondary", "Post-secondary graduate")

CA_PROFILES = {
    "annotator_age": ("18-34", "35-45", "46-54", "55+"),
    "annotator_gender": ("male", "female", "other", "Prefer not to say"),
    "annotator_education_level": ("(At most) Complete Secondary", *EDUCATED, "Some or complete graduate degree"),
    "annotator_political": ("Very left-leaning", "Middle-of-the-road, centrist", "Somewhat right-leaning"),
    "annotator_ethnicity": ("White", "Asian", "Other", "Prefer not to say"),
}
PRISM_COUNTRIES = ("United States", "United Kingdom", "Chile", "South Africa", "New Zealand")
PRISM_PROFILES = {
    "age": ("18-24 years old", "25-34 years old", "65+ years old", "Prefer not to say"),
    "gender": ("Male", "Female", "Non-binary / third gender", "Prefer not to say"),
    "employment_status": ("Working full-time", "Student", "Retired"),
    "education": ("Completed Secondary School", "University Bachelors Degree", "Vocational"),
    "marital_status": ("Never been married", "Married", "Divorced / Separated"),
    "english_proficiency": ("Native speaker", "Fluent"),
    "study_locale": ("us", "uk"),
}
MODELS = ("invented-a", "invented-b", "invented-c", "invented-d")


def _response(style: str, topic: str, turn: int) -> str:
    return f"{style} answer on {topic}, part {turn + 1}."


def _preferred(rng: np.random.Generator, country: int, styles: list[str]) -> int:
    """Four times in five what the country likes, else anything."""
    liked = STYLES[country % len(STYLES)]
    if liked in styles and rng.random() < 0.8:
        return styles.index(liked)
    return int(rng.integers(len(styles)))


def community_alignment_rows(conversations: int = 200, annotators: int = 30, seed: int = 0) -> list[dict]:
    """Rows of the v1.1 table: strings, booleans and None; from one to four turns; many prompts are asked of several."""
    rng = np.random.default_rng([seed, 11])
    people = [
        {column: values[rng.integers(len(values))] for column, values in CA_PROFILES.items()}
        | {"annotator_country": COUNTRIES[i % len(COUNTRIES)]}
        for i in range(annotators)
    ]
    rows = []
    for c in range(conversations):
        i = int(rng.integers(annotators))
        country = COUNTRIES.index(people[i]["annotator_country"])
        topic = TOPICS[rng.integers(len(TOPICS))]
        row: dict = {"conversation_id": f"{100000 + c}", "assigned_lang": LANGUAGES[COUNTRIES[country]],
                     "annotator_id": f"{7000 + i}"}  # fmt: skip
        length = int(rng.integers(1, 5))
        for t, name in enumerate(TURNS):
            prompt = f"What should I know about {topic}?" if t == 0 else FOLLOW_UPS[rng.integers(len(FOLLOW_UPS))]
            styles = list(STYLES) if t == 0 else rng.permutation(STYLES).tolist()
            there = t < length
            row[f"{name}_turn_prompt"] = prompt if there else None
            for letter, style in zip("abcd", styles, strict=True):
                row[f"{name}_turn_response_{letter}"] = _response(style, topic, t) if there else None
            chosen = "abcd"[_preferred(rng, country, styles)]
            row[f"{name}_turn_preferred_response"] = f"response_{chosen}" if there else None
            row[f"{name}_turn_feedback"] = 'It was "clear",\nand polite.' if there and rng.random() < 0.4 else None
        row |= people[i] | {"is_pregenerated_first_prompt": True, "in_balanced_subset": bool(rng.random() < 0.5)}
        row |= {"in_balanced_subset_10": False, "wave": "1"}
        rows.append(row)
    return rows


def prism_rows(conversations: int = 150, users: int = 25, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Rows of survey.jsonl and of conversations.jsonl."""
    rng = np.random.default_rng([seed, 12])
    survey, talks = [], []
    for u in range(users):
        country = PRISM_COUNTRIES[u % len(PRISM_COUNTRIES)]
        person = {field: values[rng.integers(len(values))] for field, values in PRISM_PROFILES.items()}
        religion = ("No Affiliation", "Christian", "Muslim", "Prefer not to say")[rng.integers(4)]
        ethnicity = ("White", "Black", "Asian", "Mixed", "Prefer not to say")[rng.integers(5)]
        texts = {n: {"categorised": v, "simplified": v} for n, v in (("religion", religion), ("ethnicity", ethnicity))}
        survey.append({
            "user_id": f"user{u}", "self_description": "I like invented things.", **person, **texts,
            "location": {"birth_country": country, "reside_country": country},
            "lm_usecases": {"research": 1, "other": 0, "other_text": None},
            "included_in_US_REP": country == "United States", "included_in_UK_REP": country == "United Kingdom",
            "included_in_balanced_subset": bool(rng.random() < 0.8),
        })  # fmt: skip
    for c in range(conversations):
        u = int(rng.integers(users))
        topic = TOPICS[rng.integers(len(TOPICS))]
        kind = ("unguided", "values guided", "controversy guided")[c % 3]
        history: list[dict] = []
        opening = f"{kind}: what do you think of {topic}?"
        length = int(rng.integers(2, 5))
        for t in range(length):
            count = 2 if t else int(rng.integers(2, 5))
            styles = rng.permutation(STYLES)[:count].tolist()
            best = _preferred(rng, u % len(PRISM_COUNTRIES), styles)
            history.append(_message(t, "user", opening if t == 0 else FOLLOW_UPS[rng.integers(len(FOLLOW_UPS))]))
            top = int(rng.integers(60, 101))
            for k, style in enumerate(styles):
                score = top if k == best else int(rng.integers(1, top + 1))
                reply = _message(t, "model", _response(style, topic, t))
                reply |= {"model_provider": "invented", "model_name": MODELS[k if t == 0 else 0]}
                history.append(reply | {"score": score, "if_chosen": k == best, "within_turn_id": k})
        talks.append({
            "conversation_id": f"c{c}", "user_id": f"user{u}", "conversation_type": kind, "opening_prompt": opening,
            "conversation_turns": length, "conversation_history": history, "open_feedback": "Fine.",
            "performance_attributes": {"values": None, "fluency": 90},
            "included_in_balanced_subset": bool(rng.random() < 0.8),
        })  # fmt: skip
    return survey, talks


def _message(turn: int, role: str, content: str) -> dict:
    """What a user's message has; a model's has more."""
    return {"turn": turn, "role": role, "content": content}


def write_rows(path: pathlib.Path | str, rows: list[dict]) -> pathlib.Path:
    """Writes rows as what the name ends in: .csv or .jsonl (these also with .gz), or .parquet."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    elif name.endswith(".csv"):
        sink = pa.BufferOutputStream()
        pa.csv.write_csv(pa.Table.from_pylist(rows), sink)
        data = sink.getvalue().to_pybytes()
    else:
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def write_community_alignment(
    path: pathlib.Path | str, conversations: int = 200, annotators: int = 30, seed: int = 0
) -> pathlib.Path:
    """Writes an invented Community Alignment table to the file `path`; its ending says in which format."""
    return write_rows(path, community_alignment_rows(conversations, annotators, seed))


def write_prism(
    folder: pathlib.Path | str, conversations: int = 150, users: int = 25, seed: int = 0, suffix: str = ".jsonl"
) -> pathlib.Path:
    """Writes an invented survey and its conversations into `folder`, as survey.jsonl and conversations.jsonl."""
    survey, talks = prism_rows(conversations, users, seed)
    write_rows(pathlib.Path(folder) / f"survey{suffix}", survey)
    write_rows(pathlib.Path(folder) / f"conversations{suffix}", talks)
    return pathlib.Path(folder)


def of_conversations(config, path, objective, **data):
    """`config` on the Community Alignment file `path` (or another source of `data`), scored on unseen annotators."""
    known = {"source": "community_alignment", "path": str(path), "unseen_countries": 0.0, "unseen_respondents": 0.15}
    return changed(
        config,
        data=known | data,
        objective={"name": objective, "aggregate": "respondent"},
        evaluation={"splits": ("unseen_annotator",), "min_cell": 3, "batch_size": 8},
    )
