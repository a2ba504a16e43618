"""Stages of a chain: each in its folder, from the adapters of the one before, all scored on the same answers."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from conftest import changed, devices_of

from cuma_jax.config.schema import linked
from cuma_jax.evaluation.stages.answers import against_others
from cuma_jax.evaluation.stages.scores import score_stages, stages_table


def test_an_answer_is_compared_with_every_other_option():
    rng = np.random.default_rng(1)
    options_N, option_N = np.array([2, 5, 3]), np.array([1, 0, 2])
    probs_NO = np.zeros((3, 5))
    for n, size in enumerate(options_N):
        probs_NO[n, :size] = rng.dirichlet(np.ones(size))
    probs_NO[2, :3] = [0.25, 0.5, 0.25]  # one of the others is exactly as likely
    accuracy_N, margin_N = against_others(probs_NO, option_N, options_N)
    for n in range(3):
        others = [o for o in range(options_N[n]) if o != option_N[n]]
        mine = probs_NO[n, option_N[n]]
        wins = [1.0 if mine > probs_NO[n, o] else 0.5 if mine == probs_NO[n, o] else 0.0 for o in others]
        assert accuracy_N[n] == pytest.approx(np.mean(wins))
        assert margin_N[n] == pytest.approx(np.log(mine) - np.mean([np.log(probs_NO[n, o]) for o in others]))


@pytest.mark.slow
def test_equal_stages_score_equally_and_their_difference_is_exactly_zero(debug_run, random_adapters, monkeypatch):
    adapters = random_adapters(debug_run)
    monkeypatch.setattr("cuma_jax.evaluation.stages.answers.MOST_ANSWERS", 8)
    scores = score_stages(debug_run, {"one": adapters, "two": adapters})
    for split, block in scores.values["splits"].items():
        one, two = block["stages"]["one"], block["stages"]["two"]
        assert one["energy"] == two["energy"]
        assert two["change"]["energy"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert one["change"]["energy"]["value"] != 0.0
        assert one["energy"]["low"] < one["energy"]["value"] < one["energy"]["high"]
        frame = scores.frames[split]
        assert one["margin"]["value"] == pytest.approx(frame["margin: one"].mean())
        assert len(frame) == block["rows"]
        assert frame["annotator"].nunique() == block["people"]
    assert "unseen_respondent" in stages_table(scores)


@pytest.mark.slow
def test_a_chain_goes_on_where_it_was_and_scores_all_its_stages(tmp_path, debug_config, monkeypatch, capsys):
    from cuma_jax.commands.train_runs import run_chain
    from cuma_jax.run.saved_adapters import read_adapters

    monkeypatch.setattr("cuma_jax.evaluation.stages.answers.MOST_ANSWERS", 8)
    small = changed(
        debug_config,
        train={"steps": 2, "eval_every": 0, "eval_batches": 0},
        run={"dir": str(tmp_path)},
        evaluation={"bootstrap": 20, "max_profiles": 10, "splits": ("unseen_respondent",)},
    )
    first = changed(small, objective={"name": "sft", "aggregate": "respondent"})
    stages = linked("chain", [dataclasses.replace(c, name=n) for n, c in {"first": first, "second": small}.items()])
    with devices_of(small.mesh):
        assert run_chain(stages[:1]) is None  # as if it had been stopped after the first stage
        before = (tmp_path / "first" / "results.json").stat().st_mtime_ns
        assert run_chain(stages) is None
    said = capsys.readouterr().out
    assert "stage 1 of 2, first (objective sft)" in said
    assert "done before" in said
    assert (tmp_path / "first" / "results.json").stat().st_mtime_ns == before
    found = json.loads((tmp_path / "stages.json").read_text())["splits"]["unseen_respondent"]["stages"]
    assert list(found) == ["everybody alike", "base", "first", "second"]
    config = json.loads((tmp_path / "second" / "config.json").read_text())
    assert config["adapter"]["init_from"] == str(tmp_path / "first")
    first, second = (read_adapters(tmp_path / stage, 2).adapters for stage in ("first", "second"))
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), first, second)
    assert 0 < max(jax.tree.leaves(moved)) < 0.1  # two steps away from where the first ended, not from new adapters
