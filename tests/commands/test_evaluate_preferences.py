"""`evaluate --preferences` from the command line to the report, with a judge behind a real server."""

import collections
import dataclasses
import functools
import json
import pathlib
import sys

import numpy as np
import pytest
from conftest import changed, devices_of
from preference_files import of_conversations, write_community_alignment
from saved_runs import save_run
from scripted_judge import says, serving, shown

from cuma_jax.commands import evaluate, score_run
from cuma_jax.config import Config, MeshConfig
from cuma_jax.evaluation.preferences.head_to_head import Sizes
from cuma_jax.evaluation.preferences.held_out_prompts import held_out_prompts, prompt_tokens, same_for
from cuma_jax.run.folder import write_config
from cuma_jax.runtime.errors import CumaError

KEY = "sk-seen-by-no-file-51c0"


@pytest.fixture(scope="module")
def talks(debug_config, tmp_path_factory):
    """A config of conversations: a tiny model, an invented file."""
    path = write_community_alignment(tmp_path_factory.mktemp("talks") / "ca.jsonl.gz", 60, 30)
    data = {"buckets": (384,), "unseen_respondents": 0.3, "validation_respondents": 0.1}
    return changed(
        of_conversations(debug_config, path, "sft", **data),
        evaluation={"bootstrap": 100},
        sampling={"max_new_tokens": 4},
        train={"batch_size": 4},
    )


@pytest.fixture
def command(monkeypatch):
    """`command(mesh, *args)`: runs the main in this process, on as many fake devices as the mesh names."""
    monkeypatch.setenv("TEST_JUDGE_KEY", KEY)
    monkeypatch.setattr("cuma_jax.commands.score_run.prepare_jax", lambda config: None)
    monkeypatch.setattr(score_run, "Sizes", functools.partial(Sizes, shown=2))  # few: code here is slow

    def run(mesh, *args):
        monkeypatch.setattr(sys, "argv", ["evaluate", "--preferences", *map(str, args)])
        with devices_of(mesh):
            evaluate.main()

    return run


@pytest.fixture
def no_pairs(monkeypatch):
    """Leaves out the pairwise scores, which have tests of their own."""
    monkeypatch.setattr(score_run, "pair_metrics", lambda *args: ({}, None, {}))


def judged_at(url, **flags):
    known = {"url": url, "model": "scripted", "key_env": "TEST_JUDGE_KEY"} | flags
    return [text for name, value in known.items() for text in (f"--judge.{name}", str(value))]


@pytest.mark.slow
@pytest.mark.nightly
def test_a_judge_with_position_bias_an_outage_and_no_key_anywhere(
    talks, run_on, random_adapters, command, refused, tmp_path, capsys
):
    """A judge that always prefers the first: 50% by both orders and 100% for the first. An outage: nothing written."""
    run = run_on(talks)
    folder = save_run(tmp_path / "run", run, random_adapters(run), run.config.train.steps)
    before = sorted(path.name for path in folder.iterdir())

    def outage(number, request):
        return says("A") if number < 3 else (503, "down for repairs")

    few = ("--run", folder, "--prompts", 8, "--pairs", 4)
    with serving(outage) as (url, _):
        assert "down for repairs" in refused(command, talks.mesh, *few, *judged_at(url, retries=0))
    assert sorted(path.name for path in folder.iterdir()) == before, "nothing half written"

    with serving(lambda n, r: says("A")) as (url, server):
        command(talks.mesh, *few, *judged_at(url))
    values = json.loads((folder / "preferences.json").read_text())
    win, orders = values["winrate"], values["winrate"]["orders"]
    assert win["win_rate"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert 4 <= win["n"]["comparisons"] == win["n"]["ties"] <= 8
    assert (orders["first_position"]["value"], orders["consistent"]["value"]) == (1.0, 0.0)
    assert len(server.requests) == orders["calls"]["answered"] + 2 * 4
    assert values["agreement"]["agreement"]["value"] == 0.5
    assert values["agreement"]["orders"]["first_position"]["value"] == 1.0
    assert values["judge"]["judge"] == "scripted"
    assert "Which reply would this person prefer" in values["judge"]["prompt"]
    assert 0 <= values["pairs"]["splits"]["unseen_annotator"]["choice_accuracy"]["value"] <= 1
    assert {"across_profiles", "one_profile"} == set(values["distinct"]["run"])
    profiles = [row["profile"] for row in values["samples"][0]["rows"]]
    assert len(set(profiles)) == len(profiles) == 4
    assert "for the reply shown first" in (folder / "report.html").read_text()

    # The judge was shown the profile, the prompt, and a reply of each side in both orders.
    replies = [shown(request) for request in server.requests]
    first = values["samples"][0]["rows"][0]
    both = (first["run"], first["against"]), (first["against"], first["run"])
    own = [texts for texts in replies if (texts["reply A"], texts["reply B"]) in both]
    assert {texts["reply A"] for texts in own} == {first["run"], first["against"]}
    assert first["profile"] in {texts["the person who is asking"] for texts in own}

    assert set(server.keys) == {f"Bearer {KEY}"}
    captured = capsys.readouterr()
    assert KEY not in captured.out + captured.err
    for place in (folder, talks.run.cache_dir):
        found = [path for path in pathlib.Path(place).rglob("*") if path.suffix in (".json", ".html", ".jsonl")]
        assert found
        assert not [path for path in found if KEY in path.read_text()]


@pytest.mark.slow
def test_a_run_against_another_and_without_a_judge(talks, run_on, random_adapters, command, no_pairs, tmp_path, capsys):
    """No win-rate without a judge; the same run against a copy of itself gives the same replies, by the same seeds."""
    run = run_on(talks)
    folder, copy = (
        save_run(tmp_path / name, run, random_adapters(run), run.config.train.steps) for name in ("run", "copy")
    )
    command(talks.mesh, "--run", folder, "--against", copy, "--prompts", 3)
    values = json.loads((folder / "preferences.json").read_text())
    assert values["winrate"] is None
    assert values["run"] != values["against"]
    assert all(row["run"] == row["against"] for sample in values["samples"] for row in sample["rows"])
    assert "no win-rate" in capsys.readouterr().out
    with pytest.raises(CumaError, match=r"--against .* is the run itself"):
        command(talks.mesh, "--run", folder, "--against", folder)


@pytest.mark.slow
def test_people_judge_surveys_themselves(debug_run, random_adapters, command, no_pairs, tmp_path):
    """Win, tie and loss by a plain loop over the samples; a mesh that training's batch does not divide is no matter."""
    config = changed(debug_run.config, train={"batch_size": 9}, evaluation={"splits": ("unseen_respondent",)})
    folder = save_run(tmp_path / "run", debug_run, random_adapters(debug_run), config.train.steps)
    write_config(folder, config)
    command(MeshConfig(data=2, fsdp=1, tensor=1), "--run", folder, "--prompts", 60, "--mesh.data", 2)
    values = json.loads((folder / "preferences.json").read_text())
    assert values["judge"] == {"judge": "respondents"}
    assert values["winrate"]["n"]["comparisons"] == 60
    assert values["winrate"]["n"]["wins"] + values["winrate"]["n"]["losses"] > 0
    rows = [row for sample in values["samples"] for row in sample["rows"]]
    assert len(rows) > 5
    for row in rows:
        ours, theirs = row["run"] == row["answer"], row["against"] == row["answer"]
        assert row["score"] == (0.5 if ours == theirs else float(ours))
    assert not values["distinct"]


def test_prompts_are_held_out_and_the_same_for_another_run(debug_run):
    asked, notes = held_out_prompts(debug_run, 40)
    assert not notes
    assert collections.Counter(a.split for a in asked) == dict.fromkeys(debug_run.config.evaluation.splits, 20)
    survey = debug_run.survey
    for a in asked:
        person = survey.respondents["respondent_id"][a.person]
        assert a.id == f"{person}/{survey.questions[a.question].id}"
        rows = np.flatnonzero((survey.respondent_A == a.person) & (survey.question_A == a.question))
        assert survey.option_A[rows].tolist() == [a.option]
        assert debug_run.mask(a.split)[rows].all()
        text = debug_run.tokenizer.decode(prompt_tokens(debug_run, a).tolist())
        assert survey.questions[a.question].text in text
    assert same_for(debug_run, debug_run, asked) == asked
    in_train = dataclasses.replace(debug_run, split_N=np.zeros_like(debug_run.split_N))
    with pytest.raises(CumaError, match=r"is held out in one run, and in the other it is in train"):
        same_for(in_train, debug_run, asked)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--prompts", "0"], r"--prompts is 0; it must be at least 1"),
        (["--against", "nowhere"], r"is nowhere the folder of a run"),
        (["--judge.url", "http://localhost:1/v1"], r"judge\.model"),
        (["--judge.url", "http://localhost:1/v1", "--judge.model", "m", "--judge.key_env", "NOT_SET_ANYWHERE"],
         r"environment variable NOT_SET_ANYWHERE"),
        (["--judge.url", "http://me:secret@localhost/v1", "--judge.model", "m"], r"holds a user name, a password"),
    ],
)  # fmt: skip
def test_bad_options_are_found_before_anything_is_read(tmp_path, monkeypatch, args, message):
    write_config(tmp_path / "run", Config())
    monkeypatch.setattr(sys, "argv", ["evaluate", "--preferences", "--run", str(tmp_path / "run"), *args])
    with pytest.raises(CumaError, match=message) as caught:
        evaluate.main()
    assert "secret" not in str(caught.value)
