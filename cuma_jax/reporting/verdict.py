"""The headline: did the model collapse, and does it come closer to the real answers than the pooled ones?"""

from typing import Any

from cuma_jax.evaluation.results import Results
from cuma_jax.reporting.scales import Scale
from cuma_jax.runtime.text_table import number_text

GAUGE = Scale(0.0, 1.5)
"""Axis of the spread-ratio gauge."""
HELD, PARTLY = 0.5, 0.25
"""A spread ratio of at least `HELD` is no collapse, below `PARTLY` it is one."""

_PLURAL = {"country": "countries"}
SPLIT_TITLES = {
    "train": "training answers",
    "validation": "validation respondents",
    "unseen_respondent": "respondents never seen in training",
    "unseen_country": "countries never seen in training",
    "unseen_question": "questions never seen in training",
    "test": "respondents of the official test split",
    "probe": "answers of the official probe set",
    "unseen_annotator": "people never seen in training",
    "unseen_prompt": "prompts never seen in training",
    "unseen_conversation": "conversations never seen in training",
}


def split_title(split: str) -> str:
    """A split's name in words."""
    return SPLIT_TITLES.get(split, split.replace("_", " "))


def group_words(results: Results) -> tuple[str, str]:
    """What the groups are called, singular and plural."""
    fields = results.values["group_by"]
    if len(fields) == 1:
        return fields[0].replace("_", " "), _PLURAL.get(fields[0], f"groups by {fields[0].replace('_', ' ')}")
    return "group", "groups"


def headline_split(results: Results) -> str:
    """The split that the headline speaks of: unseen respondents where scored, else the first."""
    splits = results.values["splits"]
    return "unseen_respondent" if "unseen_respondent" in splits else next(iter(splits))


def preferences_verdict(results: Results) -> dict[str, Any]:
    """What the top of a report on preference data says: of conversations by their loss, of choices by accuracy."""
    split, scores = next(iter(results.values["splits"].items()))
    kind = results.values["kind"]
    choices = kind != "conversations"
    difference = scores["accuracy_difference"] if choices else scores["difference"]
    answer, tone, known = "It cannot be told", "unknown", difference["low"] is not None
    if known and (difference["low"] > 0 or difference["high"] < 0):
        better = (difference["low"] > 0) == choices  # more accuracy, less loss
        answer, tone = ("Yes", "good") if better else ("No, less than before", "bad")
    if choices:
        because = (
            f"The likeliest response is the preferred one in {scores['accuracy']['value']:.1%} of the {kind} (chance: "
            f"{scores['chance']['value']:.1%}), {difference['value']:+.1%} against the model before training"
        )
    else:
        because = (
            f"The answers people preferred cost {scores['loss']['value']:.3f} nats a token, "
            f"{difference['value']:+.3f} against the model before training"
        )
    style = "{:+.1%}" if choices else "{:+.3f}"
    because += f" ({interval(difference, style)})." if known else "."
    question = "Does it know what people prefer?" if choices else "Does it answer more as people preferred?"
    n, title = scores["n"], split_title(split)
    return {"answer": answer, "tone": tone, "because": because, "split": title, "n": n, "question": question}


def number(metric: dict[str, Any], style: str = "{:.3f}") -> str:
    """A metric's value as text; a dash where it is not defined."""
    return number_text(metric["value"], style)


def interval(metric: dict[str, Any], style: str = "{:.3f}") -> str:
    """A metric's interval as text; empty where it has none."""
    if metric.get("low") is None or metric.get("high") is None:
        return ""
    return f"{number_text(metric['low'], style)} to {number_text(metric['high'], style)}"


def verdict(results: Results) -> dict[str, Any]:
    """What the top of the report says, as values for the template."""
    split = headline_split(results)
    scores = results.values["splits"][split]
    overall, (one, many) = scores["several_groups"] or scores["overall"], group_words(results)
    model, ratio = overall["methods"]["model"], overall["methods"]["model"]["spread_ratio"]
    answer, tone, because = _collapse(ratio, model["correlation"]["value"], many)
    difference, pooled = overall["difference"]["pooled"], overall["methods"]["pooled"]["emd"]
    return {
        "split": split_title(split),
        "answer": answer,
        "tone": tone,
        "because": because,
        "distance": _distance(model["emd"], pooled, difference),
        "tiles": [
            {"label": f"differences between {many} kept", "value": number(ratio, "{:.0%}"),
             "range": interval(ratio, "{:.0%}"), "hint": "spread ratio; 100% is right, 0% is collapse"},
            {"label": "explainable distance closed", "value": number(overall["share_closed"]["model"], "{:.0%}"),
             "range": interval(overall["share_closed"]["model"], "{:.0%}"),
             "hint": "0% is the pooled answers, 100% "
                     + ("the sampling noise floor" if results.values.get("persons", True) else "the real answers")},
            {"label": "distance to the real answers (EMD)", "value": number(model["emd"]),
             "range": interval(model["emd"]),
             "hint": f"pooled {number(pooled)}, the {one}'s own average "
                     f"{number(overall['methods']['group']['emd'])}"},
            {"label": f"correlation of {one} means", "value": number(model["correlation"], "{:.2f}"),
             "range": interval(model["correlation"], "{:.2f}"), "hint": "predicted with true, mean over questions"},
        ],
        "gauge": _gauge(scores, ratio),
        "n": overall["floor"],
        "left_out": scores["n"]["questions"] - overall["floor"]["questions"],
    }  # fmt: skip


def _collapse(ratio: dict[str, Any], correlation: float | None, many: str) -> tuple[str, str, str]:
    value, low = ratio["value"], ratio["low"]
    if value is None:
        return "Cannot tell", "unknown", f"No question here has three or more {many} to compare."
    kept = f"Its answers differ between {many} by {value:.0%} of what people's answers really do"
    if correlation is not None and value >= HELD and correlation < 0.3:
        return "Not flat, but wrong", "bad", f"{kept}, but not in the right places (correlation {correlation:.2f})."
    if value > 1.5:
        return "No: it exaggerates", "fair", f"{kept}."
    if value >= HELD:
        if low is None or low >= HELD:
            return "No", "good", f"{kept}."
        return "Probably not", "fair", f"{kept}; the interval reaches {low:.0%}."
    if value >= PARTLY:
        if correlation is not None and correlation < 0.3:
            return "Mostly", "bad", f"{kept}, and not in the right places (correlation {correlation:.2f})."
        return "Partly", "fair", f"{kept}."
    return "Yes", "bad", f"{kept}: nearly the same answer for everyone."


def _distance(emd: dict[str, Any], pooled: dict[str, Any], difference: dict[str, Any]) -> str:
    text = f"Its distance to the real answers is {number(emd)}, against {number(pooled)} for the pooled answers: "
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return text + "no interval was computed."
    if high < 0:
        return text + "closer, by more than sampling can explain."
    if low > 0:
        return text + "farther, by more than sampling can explain."
    return text + "too close to tell apart with this sample."


def _gauge(scores: dict[str, Any], ratio: dict[str, Any]) -> dict[str, Any] | None:
    if ratio["value"] is None:
        return None
    low, high = (ratio["value"] if b is None else b for b in (ratio["low"], ratio["high"]))
    return {
        "at": GAUGE.at(ratio["value"]),
        "low": GAUGE.at(low),
        "width": GAUGE.at(high) - GAUGE.at(low),
        "text": f"{ratio['value']:.2f}",
        "one": GAUGE.at(1.0),
        "held": GAUGE.at(HELD),
        "ticks": GAUGE.ticks(4),
        "questions": [
            {"at": GAUGE.at(q["methods"]["model"]["spread_ratio"]["value"]), "name": name,
             "text": f"{q['methods']['model']['spread_ratio']['value']:.2f}"}
            for name, q in scores["questions"].items()
            if q["methods"]["model"]["spread_ratio"]["value"] is not None
        ],
    }  # fmt: skip
