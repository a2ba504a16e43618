"""Writes report.html: one self-contained page that shows what a run learnt and how it was measured."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd

from cuma_jax.evaluation.preferences.results import PREFERENCES_FILE, read_preferences
from cuma_jax.evaluation.results import Results
from cuma_jax.reporting.charts import (
    answer_panels,
    distance_plot,
    expert_map,
    mean_scatters,
    overall_blocks,
    training_plot,
)
from cuma_jax.reporting.measures import equity_rows, paper_rows, reliability_plot
from cuma_jax.reporting.verdict import (
    group_words,
    headline_split,
    interval,
    number,
    preferences_verdict,
    split_title,
    verdict,
)
from cuma_jax.reporting.win_rate import with_part
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import write_text

REPORT_FILE = "report.html"
_METHOD_TITLES = {"model": "CuMA", "uniform": "uniform", "pooled": "pooled", "group": "{one}'s average",
                  "shrunken_group": "{one}'s average, shrunk", "logistic": "regression on the profile"}  # fmt: skip
_SAID = ("step", "steps", "unfinished")  # of the checkpoint, in words beside it


def write_report(
    run_dir: pathlib.Path,
    results: Results,
    metrics: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    expert_use: pd.DataFrame | None = None,
    process_index: int = 0,
) -> pathlib.Path:
    """Writes `run_dir`/report.html, whole or not at all, and returns its path.

    Args:
        results: from `evaluation.evaluate`; `results.values["about"]` (command, machine, versions, times) is shown.
        metrics: the lines of metrics.jsonl: step, loss, balance, learning_rate, tokens_per_s, examples_per_s; a
            validation has "eval" with the split's name, step and loss.
        config: the resolved config as plain values.
        expert_use: mean gate, one row a group and one column an expert; rows may be indexed by (group, layer).
        process_index: processes other than 0 write nothing.
    """
    path = run_dir / REPORT_FILE
    if process_index != 0:
        return path
    text = render_report(results, metrics, config, expert_use)
    if values := read_preferences(run_dir):  # of an earlier `evaluate --preferences`; it says of which step
        try:
            text = with_part(make_environment(), text, values)
        except (LookupError, TypeError, ValueError, AttributeError, jinja2.TemplateError) as error:
            why = " ".join(str(error).split())[:200]
            raise CumaError(
                f"{run_dir / PREFERENCES_FILE} is damaged and cannot be read ({why}); delete it, and run evaluate "
                "--preferences again"
            ) from None
    write_text(path, text)
    return path


def add_preferences(run_dir: pathlib.Path, values: Mapping[str, Any], title: str) -> pathlib.Path:
    """Puts the values of preferences.json into `run_dir`/report.html, and returns its path; without a report there, the
    page has this part alone.
    """
    path, environment = run_dir / REPORT_FILE, make_environment()
    if path.is_file():
        try:
            page = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise CumaError(f"{path} is damaged (it is not UTF-8 text); delete it, and run the same again") from None
    else:
        page = environment.get_template("win_rate_page.html").render(title=title)
    write_text(path, with_part(environment, page, values))
    return path


def make_environment() -> jinja2.Environment:
    """How every page is rendered: question texts, group names and configs come from others, so all is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cuma_jax.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "interval": interval}
    return environment


def render_report(
    results: Results,
    metrics: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    expert_use: pd.DataFrame | None = None,
) -> str:
    """The page as text; see `write_report`."""
    environment, values = make_environment(), results.values
    common = {
        "title": str(config.get("name", "run")), "survey": values["survey"], "values": values,
        "training": training_plot(metrics), "about": about_rows(values["about"]),
        "config_text": json.dumps(config, indent=2, ensure_ascii=False, default=str),
    }  # fmt: skip
    if "kind" in values:  # preference data
        return environment.get_template("preferences.html").render(
            **common,
            headline=preferences_verdict(results),
            splits=[
                {"title": split_title(name), "blocks": [("all", scores), *_groups(scores)]}
                for name, scores in values["splits"].items()
            ],
        )
    one, many = group_words(results)
    split = headline_split(results)
    questions = values["splits"][split]["questions"]
    return environment.get_template("report.html").render(
        **common,
        one=one,
        many=many,
        persons=values.get("persons", True),
        verdict=verdict(results),
        splits=[
            {
                "key": name,
                "title": split_title(name),
                "scores": scores,
                "plot": distance_plot(scores, many),
                "overall": overall_blocks(scores, many),
                "reliability": reliability_plot(scores["calibration"], scores["overall"]["methods"]["model"]["ece"]),
                "equity": equity_rows(scores["equity"]),
            }
            for name, scores in values["splits"].items()
        ],
        headline=split,
        paper=paper_rows(values["splits"]),
        order=values.get("option_order"),
        unfinished=values["about"].get("checkpoint") if values["about"].get("unfinished") else None,
        answers=answer_panels(results.per_cell, split, questions),
        scatters=mean_scatters(results.per_cell, split, questions),
        experts=None if expert_use is None or expert_use.empty else expert_map(expert_use),
        methods={name: text.format(one=one) for name, text in _METHOD_TITLES.items()},
    )


def _groups(scores: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The groups of a split, those with most rows first."""
    found = [item for groups in scores["groups"].values() if len(groups) > 1 for item in groups.items()]
    return sorted(found, key=lambda item: -item[1]["n"]["rows"])


def about_rows(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How it was measured, as (label, text) rows; nested values on one line each, what is not known left out."""
    rows = []
    for key, value in about.items():
        if value is None or key in _SAID:
            continue
        if key.endswith("_seconds") and isinstance(value, (int, float)):
            key, value = key.removesuffix("_seconds") + "_time", f"{value:,.1f} s"
        elif isinstance(value, Mapping):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, (list, tuple)):
            value = " ".join(map(str, value))
        rows.append((str(key).replace("_", " "), str(value)))
    return rows
