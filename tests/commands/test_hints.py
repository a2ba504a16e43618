"""Commands that a message tells a user to run are right, whatever is in the names: each is followed once."""

import shlex
import shutil

import pytest
from conftest import ROOT, changed

from cuma_jax.commands.command_line import parse_runs
from cuma_jax.commands.data import command_line as data_command
from cuma_jax.commands.plan import Options as PlanOptions
from cuma_jax.commands.train import Options as TrainOptions
from cuma_jax.config import Config, load_config
from cuma_jax.config.machines import apply_machine
from cuma_jax.config.presets import load_runs
from cuma_jax.interop.formats.official_fields import flag
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.own.spec import find_spec
from cuma_jax.tables.problems import Problems

ODD = "x; touch 'y' $(z)"


def command_in(text, program):
    """The words after `python -m cuma_jax.PROGRAM` in a message, as a shell reads them."""
    return shlex.split(text.partition(f"python -m cuma_jax.{program} ")[2].rstrip("`.").partition("`")[0])


def test_a_model_without_settings_for_a_machine_is_sent_to_the_planner():
    with pytest.raises(CumaError) as caught:
        apply_machine(Config(), "v5e-16", ODD)
    argv = command_in(str(caught.value), "plan")
    options, (config,) = parse_runs("plan", "", argv, PlanOptions, chains=False)
    assert (config.model.source, options.topology, options.search) == (ODD, "v5e:4x4", True)


def test_a_comparison_is_sent_to_compare(tmp_path):
    own = tmp_path / f"compare_{ODD.replace(' ', '_')}.py"
    own.write_text("x = 1\n")
    with pytest.raises(CumaError) as caught:
        load_runs(str(own))
    assert command_in(str(caught.value), "compare") == ["--config", str(own)]


def test_an_answers_file_is_sent_to_propose(tmp_path):
    table = tmp_path / f"{ODD}.csv"
    table.write_text("a,b\n1,2\n")
    problems = Problems()
    assert find_spec(table, problems) is None
    assert command_in(problems[0].hint, "data") == ["propose", str(table)]


@pytest.mark.parametrize(("name", "folder"), [(ODD, f"runs/{ODD}"), ("../../x", "runs/mine"), ("a", "runs/a")])
def test_check_of_a_survey_ends_with_how_to_train(capsys, tmp_path, monkeypatch, name, folder):
    where = tmp_path / ODD
    shutil.copytree(ROOT / "examples" / "my_survey", where, ignore=shutil.ignore_patterns("long", "*.py"))
    yaml = where / "survey.yaml"
    yaml.write_text(f"name: {name!r}\n".replace("\\'", "''") + yaml.read_text().replace("name:", "# name:", 1))
    monkeypatch.chdir(tmp_path)
    data_command.main(["check", str(yaml), "--cache_dir", str(tmp_path / "cache")])
    argv = command_in(capsys.readouterr().out.splitlines()[-1], "train")
    (config,) = parse_runs("train", "", argv, TrainOptions)[1]
    assert (config.data.path, config.run.dir) == (str(yaml), folder)


def test_a_field_is_given_as_a_shell_takes_it():
    wanted = {
        ("adapter", "alpha"): 16.123456789,
        ("adapter", "targets"): ("q", "up"),
        ("profile", "fields"): ("age group", ODD),
        ("profile", "encoder"): ODD,
        ("router", "shared"): False,
    }
    flags = " ".join(flag(f"{section}.{name}", value) for (section, name), value in wanted.items())
    (config,) = parse_runs("train", "", ["--config", "debug", *shlex.split(flags)], TrainOptions)[1]
    sections = {}
    for (section, name), value in wanted.items():
        sections.setdefault(section, {})[name] = value
    assert config == changed(load_config("debug"), **sections)
