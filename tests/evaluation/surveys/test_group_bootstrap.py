"""Groups drawn anew, against a loop over resamples."""

import numpy as np
import pandas as pd
import pytest

from cuma_jax.evaluation.metrics.baselines import BASELINES
from cuma_jax.evaluation.surveys.group_bootstrap import group_bootstrap


def cells(groups=9, seed=0):
    rng = np.random.default_rng(seed)
    rows = [(q, f"g{g}") for q in ("a", "b", "c") for g in range(groups) if (q, g) not in {("a", 0), ("c", 3)}]
    table = pd.DataFrame(rows, columns=["question", "group"])
    for column in ("emd", *(f"emd_{b}" for b in BASELINES)):
        table[column] = rng.uniform(0, 0.2, len(table))
    return table


@pytest.mark.slow
def test_it_is_the_mean_over_questions_and_a_loop_draws_the_same():
    table = cells()
    found = group_bootstrap(table, 3000, 0)["pooled"]
    gap = table["emd"] - table["emd_pooled"]
    assert found["value"] == pytest.approx(gap.groupby(table["question"]).mean().mean())
    assert found["groups"] == 9
    assert found["nearer"] == (gap.groupby(table["group"]).mean() < 0).sum()
    rng, names, drawn = np.random.default_rng(5), sorted(table["group"].unique()), []
    for _ in range(300):
        some = pd.concat([table[table["group"] == g] for g in rng.choice(names, len(names))])
        drawn.append((some["emd"] - some["emd_pooled"]).groupby(some["question"]).mean().mean())
    np.testing.assert_allclose([found["low"], found["high"]], np.percentile(drawn, [2.5, 97.5]), atol=0.012)
    assert found["low"] < found["value"] < found["high"]


def test_few_groups_are_no_sample():
    assert group_bootstrap(cells(4), 100, 0) is None
    none = group_bootstrap(cells(), 0, 0)["uniform"]
    assert none["low"] is None
    assert none["high"] is None
