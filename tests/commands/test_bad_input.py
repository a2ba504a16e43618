"""A user's mistake is one message that says what, where and what to do; exit code 2; nothing is written.

All but one run `train.main` in this process.
"""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from processes import environment

from cuma_jax.commands import train


def run(argv, tmp_path, monkeypatch, refused):
    """Runs train with `argv` in an empty folder; its message, after checking that it is one and nothing is there."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    # The tests have their own settings.
    monkeypatch.setattr("cuma_jax.commands.train_runs.prepare_jax", lambda config: None)
    monkeypatch.setattr(sys, "argv", ["cuma_jax.train", "--run.cache_dir", str(tmp_path / "cache"), *argv])
    messages = [line for line in refused(train.main).splitlines() if line.startswith("error: ")]
    assert len(messages) == 1
    assert list(work.iterdir()) == []
    return messages[0]


DEBUG = ["--config", str(ROOT / "configs" / "debug.py")]
GRPO = ["--objective.name", "grpo", "--reward.survey", "1"]
CASES = {
    "field": (["--router.top_k", "9"], ["config field router.top_k is 9"]),
    "address_of_a_bucket": (["--run.dir", "gs://bucket/run"], ["'gs://bucket/run'", "Mount the bucket"]),
    "missing_model_folder": (["--model.source", "./nowhere"], ["nowhere"]),
    "split_that_is_not_there": (["--data.unseen_countries", "0"], ["evaluation.splits", "unseen_country"]),
    "too_many_layers": (["--adapter.layers", "99"], ["adapter.layers is 99", "4 layers"]),
    "row_too_long": (["--data.max_length", "100"], ["data.max_length"]),
    "profile_too_long": (["--profile.max_length", "4"], ["profile.max_length"]),
    "one_reply": ([*GRPO, "--grpo.samples", "1"], ["grpo.samples is 1", "at least 2"]),
    "no_reward": (["--objective.name", "grpo"], ["reward.survey is 0.0", "reward.judge, or reward.function"]),
    "survey_reward_of_conversations": (
        [*GRPO, "--data.source", "prism", "--data.path", "x"],
        ["reward.survey is 1.0", "have no answers to agree with"],
    ),
    "judge_of_a_survey": (
        [*GRPO, "--reward.judge", "1", "--judge.url", "http://localhost:1/v1", "--judge.model", "m"],
        ["reward.judge is 1.0", "no preferred reply"],
    ),
    "replies_without_adapters": (
        [*GRPO, "--adapter.kind", "none", "--adapter.experts", "1", "--router.inputs", "none", "--router.top_k", "1"],
        ["adapter.kind is 'none'", "objective.name is grpo"],
    ),
    "replies_with_dropout": ([*GRPO, "--profile.field_dropout", "0.1"], ["profile.field_dropout is 0.1", "without"]),
    "prompt_too_long": ([*GRPO, "--train.batch_size", "64", "--data.max_length", "100"], ["data.max_length"]),
    "prompts_and_mesh": (
        [*GRPO, "--train.batch_size", "16", "--grpo.samples", "8"],
        ["(prompts per step) is 2", "not divisible by 8"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_message_and_leaves_nothing_behind(case, tmp_path, monkeypatch, refused):
    argv, parts = CASES[case]
    message = run([*DEBUG, *argv], tmp_path, monkeypatch, refused)
    for part in parts:
        assert part in message


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path, monkeypatch, refused):
    """The bytes tokenizer of random models has more tokens than a model of 100."""
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "tests" / "golden" / "reference" / "base_qwen3", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    argv = [*DEBUG, "--model.source", str(folder), "--model.tokenizer", "random:tiny"]
    assert "--model.tokenizer" in run(argv, tmp_path, monkeypatch, refused)


def test_a_run_folder_of_other_settings_is_left_alone(tmp_path, monkeypatch, refused):
    from cuma_jax.config.presets import load_config
    from cuma_jax.run.folder import write_config

    folder = tmp_path / "run"
    write_config(folder, load_config("debug"))
    before = (folder / "config.json").read_bytes()
    message = run([*DEBUG, "--run.dir", str(folder), "--adapter.rank", "5"], tmp_path, monkeypatch, refused)
    assert "adapter.rank was 4, now 5" in message
    assert (folder / "config.json").read_bytes() == before
    assert [p.name for p in folder.iterdir()] == ["config.json"]


@pytest.mark.slow
def test_the_real_command_says_that_a_hub_name_needs_the_network_and_exits_with_code_two(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "CUMA_JAX_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "cuma_jax.train", *DEBUG, "--model.source", "no-such-org/no-such-model"]
    done = subprocess.run(command, cwd=work, env=environment(**offline), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no-such-org/no-such-model" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(work.iterdir()) == []
