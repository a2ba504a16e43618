"""Metrics over annotators against plain loops; intervals move whole people."""

import numpy as np
import pandas as pd
import pytest

from cuma_jax.evaluation.metrics.ratios import Ratio, annotator_metrics

RATIOS = {
    "accuracy": Ratio({"correct": 1}, "pairs"),
    "difference": Ratio({"correct": 1, "base": -1}, "pairs"),
    "choice": Ratio({"choice": 1}, "turns"),
}


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"annotator": [f"p{i}" for i in rng.integers(0, 9, 60)], "pairs": 1})
    good = rows["annotator"].str[1:].astype(int) % 3 == 0  # some people's rows are all right
    rows["correct"] = np.where(good, 1.0, rng.integers(0, 2, 60))
    rows["base"], rows["turns"] = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    rows["choice"] = rows["turns"] * rng.integers(0, 2, 60)
    return rows


def test_metrics_are_ratios_of_sums(frame):
    found = annotator_metrics(frame, RATIOS, "turns", 200, (0,))
    assert found["n"] == {"rows": 60, "annotators": frame["annotator"].nunique(), "units": int(frame["turns"].sum())}
    expected = {
        "accuracy": sum(frame["correct"]) / 60,
        "difference": sum(frame["correct"] - frame["base"]) / 60,
        "choice": sum(frame["choice"]) / sum(frame["turns"]),
    }
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value)
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]


def test_people_are_drawn_whole(frame):
    """Rows of one person that are all alike say no more than one row: copies do not narrow the interval."""
    copies = pd.concat([frame] * 10)
    one, ten = (annotator_metrics(f, RATIOS, "turns", 500, (0,))["accuracy"] for f in (frame, copies))
    assert ten["high"] - ten["low"] == pytest.approx(one["high"] - one["low"], rel=1e-9)
    alone = annotator_metrics(frame[frame["annotator"] == "p0"], RATIOS, "turns", 100, (0,))
    assert alone["accuracy"]["low"] is None
    nothing = annotator_metrics(frame.assign(turns=0, choice=0), RATIOS, "turns", 100, (0,))
    assert nothing["choice"] == {"value": None, "low": None, "high": None}
