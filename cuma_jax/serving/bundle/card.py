"""The model card of an exported bundle: README.md, with the metadata that the Hugging Face hub reads."""

import json
from typing import Any

from cuma_jax.serving.bundle.contents import Contents

_NOTICE = """Predictions are **estimates of a model, not observed answers**: nobody was asked. They are about groups,
not persons, and must not be used for decisions about people (targeting, eligibility, moderation). A model may repeat
stereotypes of its training data and of its base. With any figure, cite the survey, its wave and n, and the error.
"""


def card_text(contents: Contents, about: dict[str, Any], answers: bool) -> str:
    """The card. `about` is `Model.about`; `answers`: whether the bundle holds the real answers."""
    data, base, errors = about["data"], about["base"], about["errors"]
    meta = {
        "library_name": "cuma_jax",
        "pipeline_tag": "text-generation",
        "tags": ["cuma", "survey", "opinion", about["method"]["objective"]],
        **({"base_model": base["source"]} if "/" in base["source"] and ":" not in base["source"] else {}),
        "license": "other",
        "license_name": "see-the-survey",
    }
    head = "\n".join(
        ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in meta.items()), "---"]
    )
    lines = [
        head,
        "",
        f"# {_plain(about['run'])}",
        "",
        f"{_plain(base['source'])} with adapters that answer as groups of people do, trained with cuma_jax on "
        f"{_plain(data['name'])}: {data['people']:,} people, {data['answers']:,} "
        + (f"answers to {data['questions']:,} questions." if data["questions"] else "conversations."),
        "",
        _NOTICE,
        "## Use it",
        "",
        "```python",
        "import cuma_jax",
        "",
        'model = cuma_jax.load("FOLDER_OR_HUB_NAME")',
        *_example(contents),
        "```",
        "",
        "or `python -m cuma_jax.predict --run FOLDER`, `python -m cuma_jax.serve --run FOLDER` (or the hub name).",
        "The base is fetched by its name; its fingerprint is checked.",
        "",
        "## Measured error",
        "",
        *_errors(errors),
        "",
        "## Data",
        "",
        f"Splits (rows): {', '.join(f'{name} {n:,}' for name, n in data['splits'].items())}.",
        f"Fields of people: {', '.join(_plain(field) for field in data['fields']) or 'none'}.",
        "This bundle holds counts of real answers by kind of person (`bundle/answers-*.parquet`): check that the "
        "survey's terms allow to pass them on; `--without-answers` leaves them out."
        if answers
        else "Real answers were left out (`--without-answers`).",
        "",
        "## Licences",
        "",
        "The adapters derive from the base and the survey: the terms of both hold. The code is cuma_jax's.",
        "",
    ]
    return "\n".join(lines)


def _example(contents: Contents) -> list[str]:
    fields = contents.people.by_field
    told = next((field for field in fields.values() if field.told and field.values), None)
    group = {} if told is None else {told.name: max(told.values, key=lambda value: told.values[value])}
    who = json.dumps(group, ensure_ascii=False)
    if not contents.questions:
        return [f'model.chat({who}, "What matters in life?")']
    return [f"model.predict({who}, {json.dumps(contents.questions[0].id, ensure_ascii=False)})"]


def _errors(errors: dict[str, Any]) -> list[str]:
    if not errors:
        return ["Not measured, or measured on preferences: see `results.json`."]
    rows = [
        "Mean distance (earth mover's, 0 to 1) between true and predicted distributions of cells that training did not "
        "see:",
        "",
        "| split | model [95%] | pooled | group's own | logistic | sampling floor |",
        "|---|---|---|---|---|---|",
    ]
    for split, found in errors.items():
        interval = "" if found["low"] is None else f" [{found['low']:.4f}, {found['high']:.4f}]"
        others = [found[name] for name in ("pooled", "own_average", "logistic", "floor")]
        shown = " | ".join("-" if value is None else f"{value:.4f}" for value in others)
        rows.append(f"| {split} | {found['emd']:.4f}{interval} | {shown} |")
    return rows


def _plain(text: str) -> str:
    """A text that does nothing in Markdown."""
    kept = " ".join(str(text).split())
    return "".join(f"\\{char}" if char in "\\`*_[]<>#|" else char for char in kept)
