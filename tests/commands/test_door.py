"""All commands under one name, their help in short and in full, and what a shell completes."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from test_docs import help_of
from test_imports import MAINS

import cuma_jax
from cuma_jax.commands import door
from cuma_jax.commands.command_line import short_help
from cuma_jax.commands.door import completion
from cuma_jax.config import METHOD_NAMES
from cuma_jax.config.machines import MACHINES
from cuma_jax.config.presets import comparisons, presets
from cuma_jax.runtime.errors import CumaError

PROGRAMS = sorted({*MAINS, *(f"data {command}" for command in completion.DATA)})
LIGHT = """
import sys
from cuma_jax.commands.door import console
sys.argv = ["cuma", *sys.argv[1:]]
try:
    console()
finally:
    assert not {"jax", "numpy", "pandas", "transformers"} & set(sys.modules)
"""


def words(*line):
    """What the last word of a line may become."""
    return completion.words(line, list(door.COMMANDS), door.flag_lines)


def run(*argv):
    """A process of `argv`, at the repository's root."""
    return subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True, check=False)


def told(done):
    """What one sees of a process: exit code, output, errors."""
    return done.returncode, done.stdout, done.stderr


def test_every_main_is_a_command_and_every_command_has_a_line(monkeypatch, capsys):
    assert set(door.COMMANDS) == MAINS | {"data", "completion"}
    for argv in ([], ["--help"], ["-h"], ["help"]):
        monkeypatch.setattr(sys, "argv", ["cuma", *argv])
        door.main()
        listed = re.findall(r"^  (\w+) +\S", capsys.readouterr().out, re.MULTILINE)
        assert listed == list(door.COMMANDS)
    monkeypatch.setattr(sys, "argv", ["cuma", "--version"])
    door.main()
    assert capsys.readouterr().out.split()[-1] == cuma_jax.__version__


@pytest.mark.parametrize("word", ["trian", "", "--trian", "a\x1b[31mb", "\udcff", "x" * 10**5])
def test_an_unknown_command_is_one_message_with_what_is_near(monkeypatch, word):
    monkeypatch.setattr(sys, "argv", ["cuma", word])
    with pytest.raises(CumaError, match=r"unknown command .* must be one of train, ") as error:
        door.main()
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        ["train", "--adapter.ranks", "4"],
        ["data", "nothing"],
        ["predict", "--run", ""],
        ["evaluate", "--run", "nowhere"],
    ],
)
def test_a_command_behind_the_door_is_the_command_itself(line):
    command, *rest = line
    behind = told(run("-m", "cuma_jax", *line))
    assert behind[0] == 2
    assert behind == told(run("-m", f"cuma_jax.{command}", *rest))


def test_a_command_sees_the_line_that_python_m_would_give_it(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "argv", ["/bin/cuma", "train", "--config", "debug"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "/bin/cuma", "train", "--config", "debug"])
    monkeypatch.setattr("cuma_jax.commands.train.main", lambda: seen.append((sys.argv[1:], sys.orig_argv[1:])))
    door.main()
    assert seen == [(["--config", "debug"], ["-m", "cuma_jax.train", "--config", "debug"])]
    assert sys.argv[1:] == ["train", "--config", "debug"]


@pytest.mark.slow
@pytest.mark.parametrize("line", [[], ["--version"], ["train", "--help"], ["completion", "words", "--", "plan", "--"]])
def test_the_script_answers_at_once(line):
    done = run("-c", LIGHT, *line)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_completion_knows_the_flags_that_the_parser_has(program):
    listed = {row.split("\t")[0] for row in door.flag_lines(program.split()).splitlines()}
    taken = re.findall(r"^(?:│ |  )(?:-h, )?(--[a-z]\S*?)(?:, (--\S+))?(?: .*)?$", help_of(program), re.MULTILINE)
    assert listed == {flag for pair in taken for flag in pair if flag} - {"--help"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_short_help_has_what_people_use_and_says_how_to_see_all(program):
    short, whole = help_of(program, "--help"), help_of(program)
    if program not in short_help.SHORT:
        assert short == whole
        return
    for name in set(short_help.SHORT[program]) - {"file"}:
        assert f"--{name}" in short, name
    count = len(
        [row for row in door.flag_lines(program.split()).splitlines() if not re.match(r"--(?:[\w.]*\.)?no_", row)]
    )
    assert short.endswith(f"\nall {count} flags: --help-all\n")
    assert len(short.splitlines()) < 80
    assert short.partition("-h, --help")[0].split()[-1] == whole.partition("-h, --help")[0].split()[-1]


def test_the_short_help_has_the_preset_s_defaults():
    plain, debug = help_of("train", "--help"), help_of("train", "--help", "--config", "debug")
    assert "480" in plain.partition("--train.steps")[2].partition("--train.batch_size")[0]
    assert "480" not in debug.partition("--train.steps")[2].partition("--train.batch_size")[0]


def test_words_are_completed_by_where_they_stand(capsys):
    assert words() == words("") == [*door.COMMANDS, "--help", "--version"]
    assert words("pre") == ["predict"]
    assert words("completion", "") == ["bash", "zsh", "fish"]
    assert words("data", "s") == ["show"]
    assert words("nothing", "--") == words("nothing", "") == words("completion", "bash", "") == []
    assert words("train", "--mesh.") == ["--mesh.data", "--mesh.fsdp", "--mesh.tensor"]
    assert words("train", "--mesh.data", "1", "--mesh.") == ["--mesh.fsdp", "--mesh.tensor"]
    assert words("compare", "--table-") == ["--table-only"]
    assert words("export", "--format", "") == ["bundle", "reference", "peft"]
    assert words("export", "--format=b") == ["--format=bundle"]
    assert words("export", "--format", "=") == words("export", "--format", "=", "") == words("export", "--format", "")
    assert words("data", "show", "--objective", "s") == ["sft"]
    assert words("train", "--run.dir", "") == words("train", "--run.dir", "x", "") == []  # files, says the shell
    for flag, known in (("--config", presets()), ("--method", METHOD_NAMES), ("--machine", MACHINES)):
        assert set(words("train", flag, "")) == set(known)
    assert words("compare", "--config", "") == list(comparisons())
    assert not capsys.readouterr().out


def test_a_tab_is_never_answered_with_an_error(monkeypatch, capsys):
    for line in (["data", "nothing", "--"], ["train", "--config", "\udcff", "--"], ["data", "--", ""]):
        monkeypatch.setattr(sys, "argv", ["cuma", "completion", "words", "--", *line])
        door.main()
    assert not capsys.readouterr().err


def test_completion_takes_a_shell(monkeypatch):
    for argv in ([], ["powershell"], ["bash", "zsh"]):
        monkeypatch.setattr(sys, "argv", ["cuma", "completion", *argv])
        with pytest.raises(CumaError, match="one shell: bash, zsh, fish"):
            door.main()


@pytest.fixture
def on_path(tmp_path):
    """An environment where `cuma` is on the path."""
    script = tmp_path / "cuma"
    script.write_text(f"#!{sys.executable}\nfrom cuma_jax.commands.door import console\nconsole()\n")
    script.chmod(0o755)
    where = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    return os.environ | {"PATH": where, "PYTHONPATH": str(ROOT)}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_flags_and_values(on_path):
    script = """
    eval "$(cuma completion bash)"
    complete -p cuma
    try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _cuma "$1"; echo "${COMPREPLY[*]}"; }
    try cuma pre
    try cuma train --mesh.
    try cuma train --method = hyd
    try cuma train --run.dir ""
    """
    done = subprocess.run(["bash", "-c", script], env=on_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "complete -o default -F _cuma cuma", "predict", "--mesh.data --mesh.fsdp --mesh.tensor", "hydralora", "",
    ]  # fmt: skip
    assert not done.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_commands_flags_and_values(on_path):
    tries = "; ".join(f"complete -C 'cuma {line}'" for line in ("pre", "train --mesh.", "train --method=hyd"))
    script = f"cuma completion fish | source; {tries}"
    done = subprocess.run(["fish", "-c", script], env=on_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["predict", "--mesh.data", "--mesh.fsdp", "--mesh.tensor", "--method=hydralora"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_reads_its_script(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = pathlib.Path(tmp_path / "script")
    script.write_text(completion.SCRIPTS[shell])
    subprocess.run([shell, "-n", str(script)], check=True)
