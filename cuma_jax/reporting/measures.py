"""Values for the report's sections on calibration, on groups of people, and on the paper's own metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

from cuma_jax.reporting.scales import Scale
from cuma_jax.runtime.text_table import number_text

_WHOLE = Scale(0.0, 1.05)  # a little more than 1, so that its label is clear of the plot's title
_PAPER = (
    ("accuracy", "accuracy", "{:.1%}"),
    ("macro_f1", "macro-F1 over letters", "{:.3f}"),
    ("emd", "EMD of likeliest options", "{:.3f}"),
    ("emd_auc", "AUC of EMD (60 is best)", "{:.2f}"),
    ("country_accuracy", "country macro-accuracy", "{:.1%}"),
    ("sigma_inequity", "sigma-inequity", "{:.3f}"),
)


def reliability_plot(bins: Sequence[Mapping[str, Any]], ece: Mapping[str, Any]) -> dict[str, Any]:
    """Share right against the probability of the likeliest option, a dot a bin; larger dots hold more answers."""
    largest = max(b["share"] for b in bins)
    return {
        "ticks": _WHOLE.ticks(4),
        "ece": number_text(ece["value"]),
        "answers": sum(b["answers"] for b in bins),
        "line": " ".join(f"{_WHOLE.at(b['confidence'])},{100 - _WHOLE.at(b['accuracy'])}" for b in bins),
        "dots": [
            {"left": _WHOLE.at(b["confidence"]), "bottom": _WHOLE.at(b["accuracy"]),
             "size": round(5 + 11 * (b["share"] / largest) ** 0.5, 1),
             "text": f"said {b['confidence']:.0%}, right {b['accuracy']:.0%}: {b['answers']:,} answers"}
            for b in bins
        ],
    }  # fmt: skip


def equity_rows(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a profile field: worst and best group and the spread, of accuracy and of distance."""

    def end(group: dict[str, Any], style: str) -> dict[str, Any]:
        return group | {"answers": f"{group['answers']:,}", "score": number_text(group["score"], style)}

    def cells(part: dict[str, Any] | None, style: str) -> dict[str, Any] | None:
        return part and {
            "worst": end(part["worst"], style), "best": end(part["best"], style),
            "std": number_text(part["std"], "{:.3f}"), "corrected": number_text(part["std_corrected"], "{:.3f}"),
        }  # fmt: skip

    return [
        {"field": field.replace("_", " "), "groups": part["groups"],
         "accuracy": cells(part["accuracy"], "{:.1%}"), "distance": cells(part["distance"], "{:.3f}")}
        for field, part in fields.items()
    ]  # fmt: skip


def paper_rows(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The paper's metrics, one column a split, and the fields that sigma-inequity is of."""
    return {
        "splits": list(splits),
        "rows": [
            {"label": label, "values": [number_text(scores["paper"][key], style) for scores in splits.values()]}
            for key, label, style in _PAPER
        ],
        "fields": next(iter(splits.values()))["paper"]["sigma_fields"],
    }
