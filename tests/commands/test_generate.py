"""`python -m cuma_jax.generate` on a run: what is asked, in which words, and what is refused."""

import json
import re
import sys

import numpy as np
import pytest
from conftest import changed, devices_of
from saved_runs import save_run

from cuma_jax.commands import generate, replies
from cuma_jax.config import MeshConfig, load_config
from cuma_jax.data.shots import build_shots
from cuma_jax.generation.personas import Persona, parse_persona
from cuma_jax.generation.prompt_files import PromptRequest
from cuma_jax.generation.texts import prompt_tokens
from cuma_jax.run.folder import write_config
from cuma_jax.runtime.errors import CumaError

ANNA = "country: Belmora; sex: female"


@pytest.fixture(scope="module")
def saved_run(run_on, debug_config, random_adapters, tmp_path_factory):
    """The folder of a run with random adapters and the profile in the prompt, and its run.

    Its mesh does not divide the batch that it was trained with, which is no matter here.
    """
    run = run_on(changed(debug_config, profile={"in_prompt": True}, data={"buckets": (256, 384)}))
    folder = save_run(tmp_path_factory.mktemp("runs") / "run", run, random_adapters(run))
    write_config(folder, changed(run.config, train={"batch_size": 9}))
    return folder, run


@pytest.fixture
def say(saved_run, monkeypatch, capsys):
    """`say(*args)`: what the command prints on stdout and on stderr."""

    def call(*args):
        # The tests have their own settings.
        monkeypatch.setattr("cuma_jax.commands.score_run.prepare_jax", lambda config: None)
        short = ("--sampling.max_new_tokens", "4", "--batch_size", "3", "--mesh.data", "2")
        monkeypatch.setattr(sys, "argv", ["generate", "--run", str(saved_run[0]), *short, *args])
        with devices_of(MeshConfig(data=2)):
            generate.main()
        found = capsys.readouterr()
        return found.out, found.err

    return call


def asked_as_in_training(run, row, number):
    """The prompt's tokens are those of a training row, up to the answer."""
    who = parse_persona("; ".join(f"{k}: {v}" for k, v in run.profiles.values(row).items()), run.profiles, run.table)
    question, tokens = run.survey.questions[number], run.prediction.tokens
    chat = replies.chat_of(run, PromptRequest("", question=question.id), who)
    prompt = prompt_tokens(run.tokenizer, chat)
    trained = tokens.fill(np.array([row], np.int32), tokens.template_QO[[number], [0]], len(prompt))[0]
    np.testing.assert_array_equal(prompt, trained)
    return chat


def test_shots_are_shown_as_in_training_and_a_new_person_has_some_of_their_own(debug_config, run_on):
    profile = {"in_prompt": True, "shots": 2}
    run = run_on(changed(debug_config, profile=profile, router={"inputs": "hidden"}, data={"buckets": (384,)}))
    profiles, shots = run.profiles, run.prediction.tokens.shots
    for row in (0, len(profiles) // 2, len(profiles) - 1):
        # A question that is among the person's shots, which gives way, and one that is not.
        of_shots = int(shots.question_PJ[row, 0])
        others = [q for q in range(len(run.survey.questions)) if q not in shots.question_PJ[row]]
        for number in (of_shots, *others[:1]):
            chat = asked_as_in_training(run, row, number)
            assert "People like this answered" in chat[0]["content"]
            assert run.survey.questions[number].text not in chat[0]["content"]
    new = parse_persona("country: Belmora", profiles, None)
    assert new.values not in [profiles.values(p) for p in range(len(profiles))]
    system = replies.chat_of(run, PromptRequest("", question=run.survey.questions[0].id), new)[0]["content"]
    said = next(text for text in shots.lines if text in system)
    assert system.count("; ") >= 1, said
    # A profile that only the data lack a row of is served as if they had one.
    more, row = profiles.with_person(new.values)
    whole = build_shots(run.survey, more, run.mask("train"), 2, debug_config.data.split_seed)
    assert system.endswith(whole.text(row, int(whole.variant(np.array([row]), np.array([0]))[0])))


@pytest.mark.slow
def test_prompts_times_profiles_are_answered_in_order_and_as_in_training(saved_run, say, tmp_path):
    _, run = saved_run
    question = run.survey.questions[2]
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "What now?"}\n{"prompt": "And then?", "profile": "country: Ardenia"}\n')
    args = ("--profile", ANNA, "--profile", "country=Nowhere", "--question", question.id, "--file", str(file))
    out, err = say(*args, "--json", "--samples", "2")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["question"], line["profile"]["country"], line["sample"]) for line in lines] == [
        (asked, country, sample)
        for asked in (question.id, None)
        for country in ("Belmora", "Nowhere")
        for sample in (0, 1)
    ] + [(None, "Ardenia", 0), (None, "Ardenia", 1)]  # a line that says who asks it
    assert lines[-1]["messages"][-1]["content"] == "And then?"
    assert "nobody in the data has country 'Nowhere'" in err
    assert lines[0]["reply"] != lines[1]["reply"]
    # The question's tokens are those of a training row of the same person, up to the answer.
    profiles = run.profiles
    row = next(p for p in range(len(profiles)) if profiles.values(p).get("sex") == "female")
    asked_as_in_training(run, row, 2)
    assert "as suits this user. A person from Belmora" in lines[4]["messages"][0]["content"]

    text, _ = say("--profile", ANNA, "--prompt", "What now?")
    assert re.match(r"-- 1 of 1: A person from Belmora; sex: female\. -+\n> What now\?\n\n", text)
    assert "[cut at 4 tokens" in text
    assert replies.printable(lines[4]["reply"]) in text  # the same, alone
    base, _ = say("--profile", ANNA, "--prompt", "What now?", "--json", "--base")
    assert json.loads(base)["reply"] != lines[4]["reply"]
    assert json.loads(base)["checkpoint"] == "the base"
    assert lines[4]["checkpoint"].startswith("last, step 0")
    with pytest.raises(CumaError, match=r"--prompt 'x x.* has \d+ tokens .* room for 300; .*--max_prompt N"):
        say("--prompt", "x " * 300, "--profile", ANNA, "--max_prompt", "300")


@pytest.mark.slow
def test_an_unknown_person_or_question_is_one_message_with_what_is_known(saved_run):
    _, run = saved_run
    with pytest.raises(CumaError, match=r"who asks\?(.|\n)*country: Ardenia"):
        replies.people_of(run, [], base=False)
    with pytest.raises(CumaError, match="unknown profile field 'planet'; known here: country"):
        replies.people_of(run, ["planet: Mars"], base=False)
    with pytest.raises(CumaError, match="the survey has no such question; it has invented"):
        replies.chat_of(run, PromptRequest("--question x", question="x"), Persona({}, ""))
    lines = (PromptRequest("", question="x"), PromptRequest("", question="x", profile=ANNA))
    with pytest.raises(CumaError, match=r"who asks\?"):  # the first line
        replies.askers(run, (), False, lines)


@pytest.mark.parametrize(
    ("args", "message"),
    [((), "what is asked"), (("--prompt", " "), "is empty"), (("--prompt", "a", "--samples", "0"), "--samples is 0")],
)
def test_bad_options_are_one_message_before_any_work(monkeypatch, tmp_path, args, message):
    write_config(tmp_path, load_config("debug"))
    monkeypatch.setattr(sys, "argv", ["generate", "--run", str(tmp_path), *args])
    with pytest.raises(CumaError, match=message):
        generate.main()


def test_what_a_terminal_would_obey_is_not_printed():
    assert replies.printable("a\x1b[2Jb\nc\td\x9be") == "a\ufffd[2Jb\nc\td\ufffde"
