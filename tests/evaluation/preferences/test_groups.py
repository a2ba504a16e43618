import numpy as np
import pandas as pd
import pytest

from cuma_jax.config import EvaluationConfig
from cuma_jax.evaluation.metrics.ratios import Ratio
from cuma_jax.evaluation.preferences.groups import add_people, metrics_with_groups
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.groups import check_group_fields
from cuma_jax.surveys.sources.invented import make_invented


def test_groups_of_enough_rows_have_metrics_of_their_own():
    survey, config = make_invented(), EvaluationConfig(min_cell=12, bootstrap=50)
    check_group_fields(survey, ("country",))
    check_group_fields(survey, (), some=False)
    with pytest.raises(CumaError, match=r"group_by names 'planet'.*it has.*country"):
        check_group_fields(survey, ("planet",), some=False)
    person_N = np.arange(70)
    frame = add_people(pd.DataFrame({"pairs": np.ones(70), "correct": person_N % 2}), survey, person_N, ("country",))
    countries = survey.respondents["country"].astype(str).to_numpy()[:70]
    assert frame["country"].tolist() == countries.tolist()
    ratios = {"accuracy": Ratio({"correct": 1}, "pairs")}
    found = metrics_with_groups(frame, ratios, "pairs", config, 0)["groups"]["country"]
    for name, count in zip(*np.unique(countries, return_counts=True), strict=True):
        assert (name in found) == (count >= 12)
        if name in found:
            assert found[name]["accuracy"]["value"] == pytest.approx((person_N % 2)[countries == name].mean())
    assert found
