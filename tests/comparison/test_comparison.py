"""A comparison from running to its page; the runs are real but for their predictions (made_up_runs)."""

import dataclasses
import json
import os
import re
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
from conftest import changed
from made_up_runs import made_up_comparison, made_up_run

from cuma_jax.comparison.collect import collect
from cuma_jax.comparison.output import long_table, printed_table, write_comparison
from cuma_jax.comparison.runner import analyze_trials, run_trials
from cuma_jax.comparison.table import comparison_values
from cuma_jax.comparison.trials import RECORD_FILE, all_trials, evaluation_key, read_analysis, status
from cuma_jax.config import load_config
from cuma_jax.evaluation.results import read_results
from cuma_jax.reporting.comparison import render_comparison, write_comparison_report
from cuma_jax.run.folder import write_config
from cuma_jax.runtime.errors import CumaError

pytestmark = pytest.mark.slow  # several runs are scored, analyzed and compared

BASE = changed(
    load_config("debug"),
    adapter={"rank": 8},
    data={"questions": ("invented.tea", "invented.colour")},
    evaluation={"max_profiles": 60, "bootstrap": 60},
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(comparison, tally, lines said) of a comparison that was run once."""
    comparison = made_up_comparison(BASE, tmp_path_factory.mktemp("made"))
    said = []
    return comparison, run_trials(all_trials(comparison), made_up_run, said.append), said


@pytest.fixture(scope="module")
def values(made):
    return comparison_values(made[0], collect(all_trials(made[0]), "cuma"), {"command": "python -m <x>"})


def copied(made, folder):
    """The finished comparison in a folder of its own, to be changed."""
    shutil.copytree(made[0].folder, folder)
    return dataclasses.replace(made[0], dir=str(folder))


def never(config):
    raise AssertionError(f"{config.name} was run again")


def test_what_fails_does_not_stop_the_others(made):
    comparison, tally, said = made
    assert tally.finished == ["cuma seed 0", "lora seed 0", "flat seed 0", "cuma seed 1", "lora seed 1"]
    assert tally.troubled == ["base seed 0", "full seed 0"]
    where = {c.name: status(c) for c in all_trials(comparison)}
    assert where["base seed 0"] == ("refused", "method base cannot run on <this> source")
    assert where["full seed 0"] == ("failed", "ZeroDivisionError: planted & loud")
    folder = {c.name: c.folder for c in all_trials(comparison)}
    assert "Traceback" in (folder["full seed 0"] / "error.txt").read_text()
    assert "Traceback" not in (folder["base seed 0"] / "error.txt").read_text()
    assert any(re.search(r"\[5/7\] full seed 0: failed", line) for line in said)


def test_the_second_time_only_what_failed_is_tried_again(made):
    tally = run_trials(all_trials(made[0]), made_up_run, lambda _: None)
    assert (tally.finished, tally.troubled) == ([], ["base seed 0", "full seed 0"])
    assert len(tally.skipped) == 5


def test_other_evaluation_settings_are_scored_again_and_other_training_settings_refused(made, tmp_path):
    comparison = copied(made, tmp_path / "c")
    trial = all_trials(comparison, ("lora",), (0,))[0]
    assert status(trial)[0] == "finished"
    more = changed(BASE, evaluation={"bootstrap": 61})
    assert status(all_trials(dataclasses.replace(comparison, base=more), ("lora",), (0,))[0])[0] == "stopped"
    other = dataclasses.replace(comparison, base=changed(BASE, train={"steps": 41}))
    said = []
    tally = run_trials(all_trials(other, ("lora",), (0,)), never, said.append)
    assert tally.troubled == ["lora seed 0"]
    assert "train.steps was 40, now 41" in said[0]
    assert "delete that folder" in said[0]
    (trial.folder / "results.json").write_text("{}")
    assert status(trial)[0] == "stopped"


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"{}", b'{"status": 3, "seconds": 1}', b"[" * 100_000], ids=range(6)
)
def test_a_damaged_record_counts_as_none(made, tmp_path, content):
    comparison = copied(made, tmp_path / "c")
    trial = all_trials(comparison, ("lora",), (0,))[0]
    for name in (RECORD_FILE, "analysis.json"):
        (trial.folder / name).write_bytes(content)
    assert status(trial) == ("stopped", "")
    assert read_analysis(trial) is None


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_outside_training_ends_it_at_once(made, tmp_path, which):
    comparison = dataclasses.replace(made[0], dir=str(tmp_path))
    before = signal.getsignal(which)

    def killed(config):
        os.kill(os.getpid(), which)
        raise AssertionError("still running")

    assert run_trials(all_trials(comparison), killed, lambda _: None).stopped
    assert signal.getsignal(which) is before


def test_ctrl_c_while_training_asks_training_to_stop(made, tmp_path):
    comparison = dataclasses.replace(made[0], dir=str(tmp_path))
    asked = []

    def trains(config):
        before = signal.signal(signal.SIGTERM, lambda *_: asked.append(config.name))  # as training does
        os.kill(os.getpid(), signal.SIGINT)
        signal.signal(signal.SIGTERM, before)
        return False

    tally = run_trials(all_trials(comparison), trains, lambda _: None)
    assert (tally.stopped, tally.finished, asked) == (True, [], ["cuma, seed 0"])


def row(values, name, split="unseen_respondent"):
    scores = values["splits"][split]
    return next(r for r in scores["scopes"][scores["headline"]]["rows"] if r["name"] == name)


def test_figures_are_those_of_the_runs(made, values):
    runs = [read_results(c.folder).values for c in all_trials(made[0], ("cuma",))]
    overall = [r["splits"]["unseen_respondent"]["overall"] for r in runs]
    for metric in ("emd", "js", "nll", "accuracy", "spread_ratio", "correlation"):
        expected = np.mean([o["methods"]["model"][metric]["value"] for o in overall])
        assert row(values, "cuma")[metric]["value"] == pytest.approx(expected), metric
    closed = np.mean([o["share_closed"]["model"]["value"] for o in overall])
    assert row(values, "cuma")["share_closed"]["value"] == pytest.approx(closed)
    assert row(values, "flat")["difference"]["value"] == pytest.approx(
        row(values, "flat")["emd"]["value"] - row(values, "cuma")["emd"]["value"]
    )


def test_one_seed_gives_the_interval_of_its_own_run(made, values):
    """With one seed there is nothing to add to the respondents: the interval is that of results.json."""
    trial = all_trials(made[0], ("flat",))[0]
    own = read_results(trial.folder).values["splits"]["unseen_respondent"]["overall"]
    got = row(values, "flat")
    for metric in ("emd", "nll", "spread_ratio"):
        expected = own["methods"]["model"][metric]
        assert [got[metric][b] for b in ("low", "high")] == pytest.approx([expected["low"], expected["high"]], abs=1e-5)
    assert got["share_closed"]["low"] == pytest.approx(own["share_closed"]["model"]["low"], abs=1e-4)
    pooled = row(values, "pooled")
    assert pooled["emd"]["low"] == pytest.approx(own["methods"]["pooled"]["emd"]["low"], abs=1e-5)


def test_a_flat_variant_is_worse_beyond_doubt_and_a_like_one_is_not(values):
    assert row(values, "flat")["difference"]["low"] > 0
    assert row(values, "flat")["superiority"] == 0.0
    assert row(values, "lora")["difference"]["low"] < 0 < row(values, "lora")["difference"]["high"]
    assert row(values, "cuma")["difference"] is None
    assert row(values, "flat")["spread_ratio"]["value"] < row(values, "cuma")["spread_ratio"]["value"]


def test_costs_and_seeds_are_told(values):
    cost = {v["name"]: v["cost"] for v in values["variants"]}
    assert cost["cuma"]["training_seconds"] == 80.0
    assert cost["lora"]["trainable_parameters"] == 1000
    assert cost["cuma"]["seconds_per_step"] == pytest.approx(BASE.train.batch_size / 8.0)
    assert cost["full"]["training_seconds"] is None
    assert (row(values, "cuma")["seeds"], row(values, "flat")["seeds"]) == (2, 1)
    assert {t["cell"]: t["status"] for t in values["troubles"]} == {"base seed 0": "refused", "full seed 0": "failed"}


def test_runs_on_other_people_or_with_other_settings_stay_out(made, tmp_path):
    comparison = copied(made, tmp_path / "c")
    trials = {c.name: c for c in all_trials(comparison)}

    def other(name, section, **fields):
        """Scores a trial with other settings, as if by hand, and records it as this comparison's own."""
        trial = trials[name]
        config = changed(trial.config, **{section: fields})
        shutil.rmtree(trial.folder)
        tally = run_trials([dataclasses.replace(trial, config=config)], made_up_run, lambda _: None)
        assert tally.finished == [name]
        record = json.loads((trial.folder / RECORD_FILE).read_text())
        write_config(trial.folder, trial.config)
        record["evaluation"] = evaluation_key(trial.config)
        (trial.folder / RECORD_FILE).write_text(json.dumps(record))

    other("lora seed 0", "data", split_seed=5)
    other("flat seed 0", "evaluation", min_cell=6)
    other("lora seed 1", "data", validation_respondents=0.2)
    collected = collect(all_trials(comparison), "cuma")
    why = {(trial.name, split): text for trial, split, text in collected.not_comparable}
    assert why["flat seed 0", ""] == "min_cell is 6, and 5 in cuma seed 0"
    assert ("lora seed 0", "unseen_respondent") in why
    assert [s.trial.name for s in collected.of("lora", "unseen_respondent")] == ["lora seed 1"]
    assert [trial.name for trial, _ in collected.notes] == ["lora seed 1"]
    values = comparison_values(comparison, collected, {})
    names = [r["name"] for r in values["splits"]["unseen_respondent"]["scopes"]["overall"]["rows"]]
    assert "flat" not in names
    assert "not comparable: flat seed 0: min_cell is 6" in printed_table(values)
    assert "min_cell is 6" in render_comparison(values)


def test_nothing_finished_is_one_message(made, tmp_path):
    comparison = dataclasses.replace(made[0], dir=str(tmp_path))
    with pytest.raises(CumaError, match="no trial of this comparison is finished"):
        collect(all_trials(comparison), "cuma")


def test_without_the_reference_the_rest_is_still_shown(made):
    comparison = dataclasses.replace(made[0], reference="full")
    values = comparison_values(comparison, collect(all_trials(comparison), "full"), {})
    assert values["reference"] == ""
    assert row(values, "cuma")["difference"] is None
    assert "cannot be told yet" in render_comparison(values)
    assert "cuma" in printed_table(values)


def test_the_files_hold_every_figure(values, tmp_path):
    write_comparison(values, tmp_path)
    assert json.loads((tmp_path / "comparison.json").read_text()) == values
    frame = pd.read_parquet(tmp_path / "comparison.parquet")
    pd.testing.assert_frame_equal(frame, long_table(values))
    tsv = pd.read_csv(tmp_path / "comparison.tsv", sep="\t")
    assert list(tsv.columns) == list(frame.columns)
    line = frame[(frame.split == "unseen_respondent") & (frame.questions == "overall") & (frame.method == "cuma")]
    assert line.emd.item() == row(values, "cuma")["emd"]["value"]
    questions = values["splits"]["unseen_respondent"]["questions"]
    assert set(frame[frame.split == "unseen_respondent"].questions) >= set(questions)


def test_the_page_is_escaped_self_contained_and_says_what_is_missing(values, tmp_path):
    page = write_comparison_report(values, tmp_path)
    text = page.read_text()
    assert "<b>&" not in text
    assert "http" not in re.sub(r"<meta[^>]*>", "", text)
    for part in ("Rank 1 &lt;b&gt;&amp;", "&lt;this&gt;", "planted &amp; loud", "python -m &lt;x&gt;", "Than 1 of 2",
                 "Distance to the real answers", "Did they collapse?", "What it costs", "by question"):  # fmt: skip
        assert part in text


def test_a_page_without_a_bootstrap_has_values_only(made, tmp_path, monkeypatch):
    monkeypatch.setattr("cuma_jax.config.checks.check_values", lambda *_: None)  # runs of before may have none
    comparison = made_up_comparison(changed(BASE, evaluation={"bootstrap": 0}), tmp_path)
    run_trials(all_trials(comparison, ("cuma", "flat"), (0,)), made_up_run, lambda _: None)
    values = comparison_values(comparison, collect(all_trials(comparison), "cuma"), {})
    assert row(values, "flat")["difference"]["low"] is None
    assert row(values, "flat")["superiority"] is None
    assert "It cannot be told" in render_comparison(values)
    assert "flat" in printed_table(values)


def test_a_floor_that_nobody_knows_is_a_dash(made, tmp_path):
    """Of shares there is none: see `Survey.persons`."""
    collected = collect(all_trials(made[0]), "cuma")
    for scored in (one for many in collected.scored.values() for one in many):
        for key in [key for key in scored.resamples if key.endswith("/floor")]:
            scored.resamples[key] = np.full_like(scored.resamples[key], np.nan)
    values = comparison_values(made[0], collected, {})
    write_comparison(values, tmp_path)  # no NaN in JSON
    assert {s["scopes"]["overall"]["floor"] for s in values["splits"].values()} == {None}
    assert row(values, "flat")["share_closed"]["value"] is not None
    assert "; floor -" in printed_table(values)
    page = render_comparison(values)
    assert "(floor -)" in page
    assert "at a noise floor of" not in page
    assert "noise floor</span>" not in page


def analysis_of(trial, **topology):
    """The shape of analysis.json, as `analysis.run` documents it."""
    block = {"mean_cosine": 0.25, "negative_share": 0.125, "within": 0.5, "pairs": 10}
    blocks = {"matrices": block, "experts": {**block, "negative_share": 0.0625}}
    found = {"step": 2, "topology": topology or {"reason": "none"}, "interference": {"blocks": blocks}}
    (trial.folder / "analysis.json").write_text(json.dumps(found))


def test_analyses_are_made_once_for_the_first_seed_and_shown(made, tmp_path):
    comparison = copied(made, tmp_path / "c")
    trials, asked = all_trials(comparison), []

    def analyze(trial):
        asked.append(trial.name)
        if trial.name.startswith("lora"):
            raise CumaError("nothing to analyse")
        if trial.name.startswith("flat"):
            raise ZeroDivisionError
        analysis_of(
            trial, information={"normalised": 0.375, "bits": 0.1, "null_bits": 0.01, "p": 0.005},
            mantel={"true x routes": {"rho": 0.4375, "p": 0.001, "groups": 7}},
        )  # fmt: skip

    said = []
    tally = analyze_trials(trials, analyze, said.append)
    assert asked == ["cuma seed 0", "lora seed 0", "flat seed 0"]
    assert tally.finished == ["cuma seed 0"]
    assert tally.troubled == ["lora seed 0", "flat seed 0"]
    assert "Traceback" in (next(c for c in trials if c.name == "flat seed 0").folder / "analysis_error.txt").read_text()
    analyze_trials(trials, analyze, said.append)
    assert asked[3:] == ["lora seed 0", "flat seed 0"]
    analysis_of(next(c for c in trials if c.name == "lora seed 0"))  # no router: figures that are not there
    page = render_comparison(comparison_values(comparison, collect(trials, "cuma"), {}))
    for text in ("Routes and gradients", "38%", "0.44", "12%", "6%", 'href="cuma/seed0/analysis.html"'):
        assert text in page, text
    assert not re.search(r'href="(?!data:|[a-z_]+/seed\d/)', page)
    assert read_analysis(trials[0]) is not None
    (trials[0].folder / "analysis.json").write_text('{"step": 1}')  # of an earlier checkpoint
    assert read_analysis(trials[0]) is None
