"""Figures over annotators against plain loops; intervals move whole people."""

import numpy as np
import pandas as pd
import pytest

from cuma_jax.config import EvaluationConfig
from cuma_jax.evaluation.metrics.cluster_bootstrap import (
    Ratio,
    add_people,
    annotator_figures,
    check_groups,
    figures_with_groups,
)
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.invented import make_invented

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


def test_figures_are_ratios_of_sums(frame):
    found = annotator_figures(frame, RATIOS, "turns", 200, (0,))
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
    one, ten = (annotator_figures(f, RATIOS, "turns", 500, (0,))["accuracy"] for f in (frame, copies))
    assert ten["high"] - ten["low"] == pytest.approx(one["high"] - one["low"], rel=1e-9)
    alone = annotator_figures(frame[frame["annotator"] == "p0"], RATIOS, "turns", 100, (0,))
    assert alone["accuracy"]["low"] is None
    nothing = annotator_figures(frame.assign(turns=0, choice=0), RATIOS, "turns", 100, (0,))
    assert nothing["choice"] == {"value": None, "low": None, "high": None}


def test_groups_of_enough_rows_have_figures_of_their_own():
    survey, config = make_invented(), EvaluationConfig(min_cell=12, bootstrap=50)
    check_groups(survey, ("country",))
    with pytest.raises(CumaError, match=r"group_by names 'planet'.*it has.*country"):
        check_groups(survey, ("planet",))
    person_N = np.arange(70)
    frame = add_people(pd.DataFrame({"pairs": np.ones(70), "correct": person_N % 2}), survey, person_N, ("country",))
    countries = survey.respondents["country"].astype(str).to_numpy()[:70]
    assert frame["country"].tolist() == countries.tolist()
    found = figures_with_groups(frame, {"accuracy": RATIOS["accuracy"]}, "pairs", config, 0)["groups"]["country"]
    for name, count in zip(*np.unique(countries, return_counts=True), strict=True):
        assert (name in found) == (count >= 12)
        if name in found:
            assert found[name]["accuracy"]["value"] == pytest.approx((person_N % 2)[countries == name].mean())
    assert found
