"""A source of shares has no persons: no noise of a sample is told of it."""

import dataclasses

import numpy as np
from test_scores import make_survey, of, run

from cuma_jax.evaluation import read_results, summary_table, write_results
from cuma_jax.evaluation.results import read_resamples


def test_shares_have_neither_a_floor_nor_intervals_over_persons(tmp_path):
    persons = run(survey := make_survey(200), bootstrap=20)
    shares = run(dataclasses.replace(survey, persons=False), bootstrap=20)
    for block in (of(shares)["overall"], *of(shares)["questions"].values()):
        assert block["floor"]["value"] == 0
        assert block["methods"]["model"]["emd"]["low"] is None
    emd = [of(results)["overall"]["methods"]["model"]["emd"]["value"] for results in (persons, shares)]
    assert emd[0] == emd[1]
    assert of(persons)["overall"]["floor"]["value"] > 0
    text = summary_table(shares)
    assert "Shares, not persons" in text
    assert "Shares, not persons" not in summary_table(persons)
    write_results(shares, tmp_path)
    assert not read_results(tmp_path).values["persons"]
    assert all(np.shape(v)[-1:] != (20,) for v in read_resamples(tmp_path).values())
