"""A user's mistake is one message that says what, where and what to do; exit code 2; nothing is written.

Most run `train.main` in this process; one of each kind runs as the real command.
"""

import json
import pathlib
import subprocess
import sys

import pytest
from conftest import ROOT
from processes import environment
from safetensors.numpy import load_file, save_file

from cuma_jax.commands import train
from cuma_jax.runtime.errors import run_main

REFERENCE = ROOT / "tests" / "golden" / "reference"


def model_folder(tmp_path):
    """A copy of a tiny Hugging Face model folder, to be damaged."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (REFERENCE / "base_qwen3").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def run(argv, tmp_path, monkeypatch, capsys):
    """Runs train with `argv` in an empty folder; its message, after checking that it is one and nothing is there."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    # The tests have their own settings.
    monkeypatch.setattr("cuma_jax.commands.train_runs.prepare_jax", lambda config: None)
    monkeypatch.setattr(sys, "argv", ["cuma_jax.train", "--run.cache_dir", str(tmp_path / "cache"), *argv])
    with pytest.raises(SystemExit) as caught:
        run_main(train.main)
    assert caught.value.code == 2
    out, error = capsys.readouterr()
    assert "Traceback" not in out + error
    messages = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1
    assert list(work.iterdir()) == []
    return messages[0]


DEBUG = ["--config", str(ROOT / "configs" / "debug.py")]
GRPO = ["--objective.name", "grpo", "--reward.survey", "1"]
CASES = {
    "not_processes": (["--distributed", "two"], ["--distributed is 'two'", "auto, none or HOST:PORT,N,I"]),
    "address_of_a_bucket": (["--run.dir", "gs://bucket/run"], ["'gs://bucket/run'", "Mount the bucket"]),
    "missing_model_folder": (["--model.source", "./nowhere"], ["nowhere"]),
    "unknown_target": (["--adapter.targets", "q", "qkv"], ["adapter.targets is 'qkv'", "q, k, v, o, gate, up, down"]),
    "split_that_is_not_there": (["--data.unseen_countries", "0"], ["evaluation.splits", "unseen_country"]),
    "batch_and_mesh": (["--train.batch_size", "12"], ["train.batch_size", "12", "not divisible by 8"]),
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
def test_a_mistake_is_one_message_and_leaves_nothing_behind(case, tmp_path, monkeypatch, capsys):
    argv, parts = CASES[case]
    message = run([*DEBUG, *argv], tmp_path, monkeypatch, capsys)
    for part in parts:
        assert part in message


def test_a_truncated_weight_file_is_named(tmp_path, monkeypatch, capsys):
    file = model_folder(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    argv = [*DEBUG, "--model.source", str(file.parent), "--model.tokenizer", "random:tiny"]
    message = run(argv, tmp_path, monkeypatch, capsys)
    assert "model.safetensors" in message


def test_missing_unexpected_and_misshapen_tensors_are_listed(tmp_path, monkeypatch, capsys):
    file = model_folder(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    tensors["model.extra.weight"] = tensors.pop("model.norm.weight")
    save_file(tensors, file)
    argv = [*DEBUG, "--model.source", str(file.parent), "--model.tokenizer", "random:tiny"]
    message = run(argv, tmp_path, monkeypatch, capsys)
    assert "model.norm.weight" in message
    assert "model.extra.weight" in message


def test_a_tokenizer_without_the_letters_as_single_tokens_is_refused(tmp_path, monkeypatch, capsys):
    """A tokenizer that knows letters only in pairs."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = model_folder(tmp_path)
    vocab = {"<|im_start|>": 0, "<|im_end|>": 1, "<unk>": 2, "A": 3}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    message = run([*DEBUG, "--model.source", str(folder)], tmp_path, monkeypatch, capsys)
    assert "letter" in message


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path, monkeypatch, capsys):
    """The bytes tokenizer of random models has more tokens than a model of 100."""
    folder = model_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    argv = [*DEBUG, "--model.source", str(folder), "--model.tokenizer", "random:tiny"]
    assert "--model.tokenizer" in run(argv, tmp_path, monkeypatch, capsys)


def test_a_run_folder_of_other_settings_is_left_alone(tmp_path, monkeypatch, capsys):
    from cuma_jax.config.presets import load_config
    from cuma_jax.run.folder import write_config

    folder = tmp_path / "run"
    write_config(folder, load_config("debug"))
    before = (folder / "config.json").read_bytes()
    message = run([*DEBUG, "--run.dir", str(folder), "--adapter.rank", "5"], tmp_path, monkeypatch, capsys)
    assert "adapter.rank was 4, now 5" in message
    assert (folder / "config.json").read_bytes() == before
    assert [p.name for p in folder.iterdir()] == ["config.json"]


def command(argv, cwd, **extra):
    return subprocess.run(
        [sys.executable, "-m", "cuma_jax.train", *argv],
        cwd=cwd, env=environment(**extra), capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_real_command_says_one_thing_and_exits_with_code_two(tmp_path):
    done = command([*DEBUG, "--router.top_k", "9"], tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: config field router.top_k is 9")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_hub_name_without_network_is_one_message(tmp_path):
    cache = pathlib.Path(tmp_path) / "cache"
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = command([*DEBUG, "--model.source", "no-such-org/no-such-model", "--run.cache_dir", str(cache)], tmp_path,
                   **offline)  # fmt: skip
    assert done.returncode == 2
    assert "no-such-org/no-such-model" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
