"""A source of shares has no persons: no noise of a sample is told of it."""

import collections
import csv
import dataclasses
import json

import numpy as np
from guessing import evaluate_guess
from test_scores import CONFIG, make_survey, of, run

from cuma_jax.evaluation import read_results, summary_table, write_results
from cuma_jax.evaluation.results import read_resamples
from cuma_jax.reporting.charts import distance_plot
from cuma_jax.reporting.report import render_report
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.sources.global_opinions import COLUMNS, read_global_opinions
from cuma_jax.surveys.splits import SPLITS


def test_shares_have_neither_a_floor_nor_intervals_over_persons(tmp_path):
    persons = run(survey := make_survey(200), bootstrap=20)
    shares = run(dataclasses.replace(survey, persons=False), bootstrap=20)
    for block in (of(shares)["overall"], *of(shares)["questions"].values()):
        assert block["floor"]["value"] is None  # not 0: nobody knows how many were asked
        assert block["methods"]["model"]["emd"]["low"] is None
        assert block["spread"]["true_spread_corrected"]["value"] is None
        assert block["share_closed"]["logistic"]["value"] is not None  # counts from 0
    emd = [of(results)["overall"]["methods"]["model"]["emd"]["value"] for results in (persons, shares)]
    assert emd[0] == emd[1]
    assert of(persons)["overall"]["floor"]["value"] > 0
    assert of(shares)["equity"]["country"]["distance"]["std_corrected"] is None
    assert of(persons)["equity"]["country"]["distance"]["std_corrected"] is not None
    assert "none over respondents" in shares.values["interval"]
    assert shares.per_cell["floor"].isna().all()
    text = summary_table(shares)
    assert "Shares, not persons" in text
    assert "Shares, not persons" not in summary_table(persons)
    write_results(shares, tmp_path)
    json.dumps(read_results(tmp_path).values, allow_nan=False)
    assert not read_results(tmp_path).values["persons"]
    assert all(np.shape(v)[-1:] != (20,) for v in read_resamples(tmp_path).values())


def test_the_report_of_a_table_of_shares_has_no_floor_and_no_intervals(tmp_path):
    """The bug: a floor of 0.000, and intervals from a number to itself."""
    countries = [f"Country {letter}" for letter in "ABCDEF"]
    with (path := tmp_path / "global_opinions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for number in range(4):
            share = {c: 0.2 + 0.1 * ((i + number) % 6) for i, c in enumerate(countries)}
            shares = collections.defaultdict(list, {c: [yes, 1 - yes] for c, yes in share.items()})
            writer.writerow([f"Question {number}?", str(shares), "['Yes', 'No']", "GAS"])
    survey = read_global_opinions(str(path))
    held_A = survey.respondents["country"].isin(countries[3:]).to_numpy()[survey.respondent_A]
    split_A = np.where(held_A, SPLITS.index("unseen_country"), SPLITS.index("train"))
    config = dataclasses.replace(CONFIG, bootstrap=20, min_cell=2, splits=("unseen_country",))

    def guess(profile_N, question_N):
        return np.tile(np.float32([0.4, 0.6]), (len(profile_N), 1))

    results = evaluate_guess(survey, build_profiles(survey), split_A, guess, config)
    page = render_report(results, (), {"name": "shares"})
    (plot,) = (distance_plot(scores, "countries") for scores in results.values["splits"].values())
    assert not plot["floors"]
    assert not plot["intervals"]
    assert {(row["floor"], row["floor_text"], row["text_range"]) for row in plot["rows"]} == {(None, "-", "")}
    for absent in ("floor 0.0", "noise floor</span>", "95% interval", " people,", "resamples, predictions"):
        assert absent not in page
    assert "there is no floor, and no interval over persons" in page
    assert " shares, " in page
