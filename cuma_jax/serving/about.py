"""Facts of a run for page, model card and warnings."""

import pathlib
from typing import Any

from cuma_jax.config.saved import saved_steps
from cuma_jax.serving.asking.known import errors_of
from cuma_jax.serving.bundle.contents import Contents
from cuma_jax.serving.bundle.files import has_adapters

WARNINGS = (
    "Estimates of a model, not observed answers: nobody was asked.",
    "They are about groups, not persons; they must not be used for decisions about people.",
    "A model may repeat stereotypes, of its training data and of its base.",
)


def about_of(contents: Contents, checkpoint: str) -> dict[str, Any]:
    """Plain JSON values, of a run that is asked with one of its checkpoints (last or best).

    Keys: run, kind, base (source, revision, fingerprint, dtype), data (name, people, answers, splits, questions,
    fields), method (adapter and router in short), checkpoint, steps, created, errors (by split: `errors_of`), min_cell,
    option_orders, has_router, has_answers, warnings, cite.
    """
    facts, config, measured = contents.facts, contents.config, contents.results.get("about", {})
    errors = errors_of(contents.results)
    warnings = list(WARNINGS)
    if "unseen_question" not in errors:
        warnings.append("The error on new questions was not measured in this run (no questions were held out).")
    return {
        "run": facts["run"],
        "kind": facts["kind"],
        "base": facts.get("base") or {"source": config.model.source, "revision": config.model.revision},
        "data": {
            "name": facts["source"],
            "source": config.data.source,
            "people": facts["people"],
            "answers": facts["answers"],
            "splits": facts["splits"],
            "questions": len(contents.questions),
            "fields": list(contents.people.fields),
        },
        "method": {
            "objective": config.objective.name,
            "adapter": config.adapter.kind,
            "experts": config.adapter.experts,
            "router": config.router.inputs,
            "profile_in_prompt": config.profile.in_prompt,
        },
        "checkpoint": checkpoint,
        "steps": facts.get("step") or facts.get("steps") or measured.get("steps"),
        "created": facts.get("created"),
        "errors": errors,
        "min_cell": config.evaluation.min_cell,
        "option_orders": config.evaluation.option_orders,
        "option_order": contents.results.get("option_order"),
        "has_router": config.adapter.kind == "lora" and config.router.inputs != "none",
        "has_answers": contents.answers is not None,
        "versions": measured.get("versions"),
        "warnings": warnings,
        "cite": f"{facts['run']}: predictions of {config.model.source} adapted with cuma_jax on {facts['source']}",
    }


def keeps(contents: Contents, folder: pathlib.Path, checkpoint: str) -> bool:
    """Whether the kept predictions are those of the checkpoint that is asked."""
    facts = contents.facts
    if facts.get("predicted_checkpoint") != checkpoint:
        return False
    if has_adapters(folder):
        return True
    steps = saved_steps(folder)
    return bool(steps) and max(steps) == facts.get("latest_step")
