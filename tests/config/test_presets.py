"""The command line: presets, methods and typed overrides."""

import dataclasses
import json

import pytest
from conftest import changed

from cuma_jax.commands.command_line import parse_runs
from cuma_jax.commands.train import Options
from cuma_jax.config import Config, load_config, to_dict
from cuma_jax.config.methods import METHODS, apply_method
from cuma_jax.runtime.errors import CumaError, run_main


def parse(*argv):
    """The config of a line about one run."""
    (config,) = parse_runs("train", "Trains.", list(argv), Options, chains=False)[1]
    return config


def test_the_default_is_the_quickstart_and_overrides_are_typed():
    assert parse() == load_config("quickstart")
    config = parse("--config", "debug", "--adapter.rank", "64", "--optimizer.learning_rate", "1e-4",
                   "--data.questions", "a", "b*", "--run.no-tensorboard")  # fmt: skip
    assert config == changed(
        load_config("debug"), adapter={"rank": 64}, optimizer={"learning_rate": 1e-4},
        data={"questions": ("a", "b*")}, run={"tensorboard": False},
    )  # fmt: skip


def test_a_config_is_named_by_preset_or_py_file_or_json_file(tmp_path):
    expected = load_config("debug")
    saved = tmp_path / "config.json"
    saved.write_text(json.dumps(to_dict(dataclasses.replace(expected, name="mine"))))
    own = tmp_path / "own.py"
    own.write_text("from cuma_jax.config import Config\ndef own():\n    return Config(name='own')\n")
    assert parse("--config", "configs/debug.py") == parse("--config=debug") == expected
    assert parse("--config", str(saved)).name == "mine"
    assert parse("--config", str(own)) == Config(name="own")


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "nothing.py", "no such file, nor a preset; presets are afrobarometer"),
        ("{", "bad.json", "not valid JSON"),
        ('{"nome": "x"}', "field.json", "nome is unknown"),
        ("x = 1\n", "empty.py", r"needs a function empty\(\)"),
    ],
)
def test_a_file_that_is_no_config_is_one_message(tmp_path, content, name, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(CumaError, match=message):
        parse("--config", str(tmp_path / name))


def test_a_shipped_preset_is_meant_by_its_name_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "debug").write_text("a file of that name")
    assert parse("--config", "debug") == load_config("debug")
    for path in (str(tmp_path / "debug.py"), "debug.py", "configs/debug.py", "/nonexistent/dir/debug.py"):
        with pytest.raises(
            CumaError, match=r"no such file, nor a preset; did you mean 'debug'\? A preset is given by its name"
        ):
            parse("--config", path)
    (tmp_path / "debug.py").write_text("from cuma_jax.config import Config\ndef debug(): return Config(name='mine')")
    assert parse("--config", "debug.py").name == "mine"
    with pytest.raises(CumaError, match=r"is a folder; give a \.py file"):
        parse("--config", str(tmp_path))


@pytest.mark.parametrize(
    ("code", "line", "said"),
    [
        ("def own():\n    x = 1\n    return 1 / 0", 3, "ZeroDivisionError: division by zero\n  return 1 / 0"),
        ("def own():\n    return (1,", 2, "'(' was never closed\n  return (1,"),
        (
            "from cuma_jax.config import *\ndef own():\n    return Config(name='..')",
            3,
            "config field name is '..'; it m",
        ),
        ("from cuma_jax.config import *\n\nload_config('nowhere')", 3, "--config nowhere: no such file"),
        ("raise SystemExit('no')", 1, "SystemExit: no\n  raise"),
    ],
)
def test_what_goes_wrong_in_a_preset_is_told_with_its_own_line(tmp_path, code, line, said):
    (tmp_path / "own.py").write_text(code)
    with pytest.raises(CumaError) as caught:
        parse("--config", str(tmp_path / "own.py"))
    assert str(caught.value).startswith(f"--config {tmp_path / 'own.py'}, line {line}: {said}")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--adapter.rank", "4", "--adapter.rank=5"), "--adapter.rank is there twice"),
        (("--run.tensorboard", "--run.no-tensorboard"), "--run.no-tensorboard is there beside --run.tensorboard"),
        (("--data.split_seed", "4", "--data.split-seed", "4"), "--data.split-seed is there beside --data.split_seed"),
        (("--config", "debug"), "--config is there twice"),
    ],
)
def test_a_flag_is_given_once(argv, message):
    with pytest.raises(CumaError, match=message):
        parse("--config", "debug", *argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--run.dir", "a_file"), "run.dir 'a_file' is a file; give a folder"),
        (("--run.dir", "a_file/x/y"), "run.dir 'a_file/x/y' lies in a_file, which is a file"),
        (("--run.cache_dir", "a_file"), "run.cache_dir 'a_file' is a file; give a folder"),
        (("--name", "x"), "run.dir 'runs/x' lies in runs, which is a file"),
        (("--adapter.init_from", "nowhere"), "adapter.init_from 'nowhere' is not there"),
        (("--adapter.init_from", "a_file"), "adapter.init_from 'a_file' is a file; give a folder"),
        (("--data.split", "a_folder"), "data.split 'a_folder' is a folder; give a file"),
        (("--data.source", "csv", "--data.path", "nowhere"), "data.path 'nowhere' is not there"),
        (("--data.source", "wvb", "--data.wvb", "a_file"), "data.wvb 'a_file' is a file; give a folder"),
        (("--data.source", "wvs7", "--data.raw", "a_folder"), "data.raw 'a_folder' is a folder; give a file"),
        (("--data.source", "wvs7", "--data.path", "a_file"), "data.path is 'a_file', which .*wvs7 does not read"),
        (("--data.source", "wvs7"), "data.raw is empty; data.source wvs7 needs the raw csv"),
        (("--data.source", "csv"), "data.path is empty; data.source csv needs the YAML file"),
        (("--data.source", "prism", "--data.wvb", "a_folder"), "data.wvb is 'a_folder', which .*prism does not read"),
    ],
)
def test_a_path_of_the_wrong_kind_is_found_before_anything_is_read(tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_folder").mkdir()
    for name in ("a_file", "runs"):
        (tmp_path / name).write_text("x")
    argv = argv if argv[0] in ("--name", "--run.dir") else (*argv, "--run.dir", "new")
    with pytest.raises(CumaError, match=f"config field {message}"):
        parse_runs("train", "", ["--config", "debug", *argv], Options)
    assert parse("--config", "debug", "--data.source", "csv", "--data.path", "nowhere")  # as `plan` does: it reads none


@pytest.mark.parametrize(
    "argv",
    [("--adapter.ranks", "4"), ("--adapter.rank", "four"), ("--router.gate", "hard"), ("--method", "--adapter.rank")],
)
def test_a_flag_that_is_unknown_or_whose_value_is_missing_or_wrong_exits_with_code_two(argv, refused):
    assert argv[0] in refused(parse, "--config", "debug", *argv)


def test_help_explains_every_option_and_field(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help-all", "--config", "debug")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{field.name}" in text for field in dataclasses.fields(Options))
    for section in dataclasses.fields(Config):
        value = getattr(Config(), section.name)
        if dataclasses.is_dataclass(value):
            assert all(f"{section.name}.{f.name}" in text.replace("no-", "") for f in dataclasses.fields(value))
    for method in METHODS:
        assert method in text


def test_every_method_is_a_valid_config_and_overrides_come_after_it():
    methods = {method: apply_method(load_config("debug"), method) for method in METHODS}
    found = parse("--config", "debug", "--method", "mixlora_persona", "--adapter.rank", "3")
    assert found == changed(methods["mixlora_persona"], adapter={"rank": 3})
    with pytest.raises(CumaError, match="must be one of base, persona"):
        parse("--method", "dora2")


def test_methods_are_the_rows_of_the_comparison():
    rows = {
        # method: experts, router's inputs, gate, shared A, balance loss
        "lora": (1, "none", None, False, False),
        "rslora": (1, "none", None, False, False),
        "mixlora": (8, "hidden", "softmax_topk", False, True),
        "hydralora": (8, "hidden", "soft", True, False),
        "cuma": (8, "hidden+profile", "softmax_topk", False, True),
        "cuma_profile": (8, "profile", "softmax_topk", False, True),
        "soft": (8, "hidden+profile", "soft", False, False),
        "reference": (8, "hidden+profile", "double_softmax", True, True),
    }
    for method, (experts, inputs, gate, shared_a, balance) in rows.items():
        config = apply_method(Config(), method)
        assert (config.adapter.experts, config.router.inputs) == (experts, inputs)
        assert gate is None or config.router.gate == gate
        assert config.adapter.shared_a is shared_a
        assert (config.objective.balance > 0) is balance
    assert apply_method(Config(), "rslora").adapter.scaling == "sqrt_rank"
    assert apply_method(Config(), "shuffled").profile.shuffle


def test_ctrl_c_exits_with_code_130(capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        run_main(interrupted)
    assert caught.value.code == 130
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 177900284664 bytes.\n  at x"),
     RuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory")],
)  # fmt: skip
def test_too_little_memory_is_one_message(error, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: there is not enough memory (")
    with pytest.raises(RuntimeError, match="ours"):
        run_main(lambda: (_ for _ in ()).throw(RuntimeError("a bug of ours")))


CHAIN = """
import dataclasses
from cuma_jax.config import Config
from cuma_jax.config.schema import Chain
def steps():
    return Chain("steps", (Config(name="first"), Config(name="second"), Config(name="third")))
"""


def test_the_stages_of_a_chain_start_from_each_other_and_share_flags(tmp_path):
    (tmp_path / "steps.py").write_text(CHAIN)
    stages = parse_runs("train", "", ["--config", str(tmp_path / "steps.py"), "--adapter.rank", "4"], Options)[1]
    assert [stage.run.dir for stage in stages] == ["runs/steps/first", "runs/steps/second", "runs/steps/third"]
    assert [stage.adapter.init_from for stage in stages] == ["", "runs/steps/first", "runs/steps/second"]
    assert {stage.adapter.rank for stage in stages} == {4}
    there = parse_runs("train", "", ["--config", str(tmp_path / "steps.py"), "--run.dir", "out/"], Options)[1]
    assert (there[2].run.dir, there[2].adapter.init_from) == ("out/third", "out/second")


def test_a_chain_is_refused_where_one_run_is_wanted_and_when_its_stages_share_a_name(tmp_path):
    (tmp_path / "steps.py").write_text(CHAIN)
    with pytest.raises(CumaError, match=r"chain of runs \(first, second, third\)"):
        parse("--config", str(tmp_path / "steps.py"))
    (tmp_path / "steps.py").write_text(CHAIN.replace('"second"', '"first"'))
    with pytest.raises(CumaError, match="each of another name"):
        parse("--config", str(tmp_path / "steps.py"))


def test_a_preset_that_imports_from_a_place_of_before_is_told_the_new_one(tmp_path):
    (tmp_path / "old.py").write_text("from cuma_jax.cli import load_config\n")
    with pytest.raises(CumaError, match=r"old.py cannot be imported: cuma_jax.cli has moved: .*cuma_jax.config"):
        load_config(str(tmp_path / "old.py"))
