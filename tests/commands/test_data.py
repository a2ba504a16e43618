"""`python -m cuma_jax.data`: flags, pages, exit codes."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys

import invented_exports
import pandas as pd
import pytest
from conftest import ROOT

from cuma_jax.commands.data.command_line import main, parse
from cuma_jax.config import Config, load_config
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.invented import make_invented

INVENTED = ["--source", "invented", "--model", "random:tiny"]
EXAMPLE = ROOT / "examples" / "my_survey" / "survey.yaml"


def run(capsys, *argv):
    main(list(argv))
    return capsys.readouterr()


def test_the_page_is_100_columns_wide(capsys):
    for extra in ([], ["--in_prompt", "--objective", "sft"]):
        out = run(capsys, "show", *INVENTED, *extra).out
        assert max(len(line) for line in out.splitlines()) <= 100 + len("⟦⟧")
        assert all(question.id in out for question in make_invented().questions)


def test_json_says_what_the_page_says(capsys):
    values = json.loads(run(capsys, "show", *INVENTED, "--json", "--examples", "2", "--objective", "sft").out)
    assert values["answers"] == make_invented().num_answers
    assert len(values["examples"]) == 2
    assert all(e["supervised_texts"][0].endswith("<|im_end|>") for e in values["examples"])


def test_without_a_tokenizer_the_text_alone_is_shown(capsys, tmp_path):
    out = run(capsys, "show", "--source", "invented", "--model", str(tmp_path / "nothing"), "--examples", "1").out
    assert "Without chat template and token counts" in out
    assert re.search(r"│ assistant: ⟦[A-E]⟧", out)


def test_build_reads_once_and_says_where_it_is(capsys, tmp_path):
    argv = ["build", str(EXAMPLE), "--cache_dir", str(tmp_path), "--json"]
    first, again = json.loads(run(capsys, *argv).out), json.loads(run(capsys, *argv).out)
    assert (first["was_cached"], again["was_cached"]) == (False, True)
    assert first["cache"] == again["cache"]
    assert first["cache_bytes"] == sum(p.stat().st_size for p in pathlib.Path(first["cache"]).iterdir()) > 0
    same = ("respondents", "questions", "answers", "skipped")
    assert {name: first[name] for name in same} == {name: again[name] for name in same}
    assert sum(row["answers"] for row in first["by_split"]["splits"]) == first["answers"]
    out = run(capsys, "build", "--source", "invented")
    assert out.out.startswith("invented is ready\n  respondents   480\n")
    assert re.search(r"read invented: \d+\.\d s", out.err)


def test_check_of_a_sound_survey_ends_with_what_there_is_and_how_to_train(capsys, tmp_path):
    out = run(capsys, "check", "--source", "invented").out
    assert out == "no problem found: 480 respondents, 5 questions, 2,400 answers\n"
    lines = run(capsys, "check", str(EXAMPLE), "--cache_dir", str(tmp_path)).out.splitlines()
    assert lines[-2] == "no problem found: 300 respondents, 7 questions, 2,025 answers; train with"
    assert lines[-1].endswith(f"--data.path {EXAMPLE} --run.dir runs/my_survey")


def test_check_lists_planted_faults_of_every_file_at_once_and_exits_with_code_two(capsys, tmp_path):
    folder = tmp_path / "survey"
    shutil.copytree(EXAMPLE.parent, folder, ignore=shutil.ignore_patterns("long", "*.py"))
    answers, questions = folder / "answers.csv", folder / "questions.yaml"
    rows = [line.split(",") for line in answers.read_text().splitlines()]
    column = {name: i for i, name in enumerate(rows[0])}
    rows[9][column["weight"]] = "-1"
    rows[12][column["market_day"]] = "7"  # a code that no option has
    answers.write_text("\n".join(",".join(row) for row in rows) + "\n")
    questions.write_text(questions.read_text() + "only_one:\n  text: One option?\n  options: {1: Only}\n")
    with pytest.raises(SystemExit) as caught:
        main(["check", str(folder / "survey.yaml")])
    assert caught.value.code == 2
    out = capsys.readouterr().out
    for place in ("line 10", "line 13", "only_one"):
        assert place in out, place
    assert re.search(r"\d errors, \d warnings?\s*$", out)
    with pytest.raises(SystemExit):
        main(["check", str(folder / "survey.yaml"), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["errors"] >= 3
    assert len(facts["problems"]) == facts["errors"] + facts["warnings"]


def test_flags_start_from_the_preset_and_are_those_of_the_data_section():
    command, config, flags = parse(["show", "--config", "debug", "--unseen_respondents", "0.3", "--seed", "4"])
    debug = load_config("debug")
    assert (command, flags.seed) == ("show", 4)
    assert config.data == dataclasses.replace(debug.data, unseen_respondents=0.3)
    assert config.model == debug.model
    assert parse(["build"])[1].data == Config().data
    for argv in (["check", "my.yaml"], ["check", "--path", "my.yaml"], ["show", "my.yaml", "--examples", "1"]):
        data = parse(argv)[1].data
        assert (data.source, data.path) == ("csv", "my.yaml")
    assert parse(["export", "--source", "prism", "--out", "x"])[1].objective.name == "sft"
    assert parse(["show", "--source", "prism", "--objective", "choice"])[1].objective.name == "choice"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["shew"], "unknown command 'shew'; it must be one of build, show, propose, check, export"),
        (["export", "--source", "invented"], "export needs --out FOLDER"),
        (["show", "--source", "invented", "--unseen_respondents", "2"], "data.unseen_respondents is 2.0"),
        (["check", "--source", "csv"], "check what"),
        (["show", "--source", "invented", "--examples", "-1"], "--examples is -1"),
        (["build", "--seed", "1"], "--seed"),
    ],
)
def test_a_bad_flag_is_one_message_and_exit_code_two(argv, message, refused):
    assert message in refused(main, argv)


@pytest.mark.slow
def test_the_real_command_writes_tables_and_the_second_time_refuses(tmp_path, refused):
    command = [sys.executable, "-m", "cuma_jax.data", "export", "--source", "invented", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "answers.parquet" in done.stdout
    assert len(pd.read_parquet(tmp_path / "out" / "answers.parquet")) == 2400
    error = refused(main, command[3:]).splitlines()
    assert [line for line in error if line.startswith("error: --out ")] == error


def test_propose_writes_the_files_and_check_of_a_table_proposes_and_checks_at_once(capsys, tmp_path):
    path = invented_exports.spss(tmp_path / "a")
    out = run(capsys, "propose", str(path))
    assert out.out == f"python -m cuma_jax.data check {path.parent / 'survey.yaml'}\n"
    assert "6 questions" in out.err
    with pytest.raises(CumaError, match="would be overwritten; say --overwrite"):
        main(["propose", str(path)])
    run(capsys, "propose", str(path), "--overwrite")
    printed = run(capsys, "propose", str(path), "--stdout", "--out", str(path.parent)).out
    assert printed.startswith("# Proposed from the table")
    assert "\n  trust:\n" in printed
    other = invented_exports.spss(tmp_path / "b")
    out = run(capsys, "check", str(other), "--cache_dir", str(tmp_path / "cache"))
    assert (other.parent / "questions.yaml").exists()
    assert "no problem found: 600 respondents, 8 questions" in out.out
    assert out.out.splitlines()[-1].strip().startswith("python -m cuma_jax.train --config my_survey --data.path")
    assert "6 questions" in out.err
    with pytest.raises(CumaError, match="propose needs a table"):
        main(["propose"])


def test_propose_of_what_is_no_table_is_one_message_and_writes_nothing(tmp_path):
    (tmp_path / "a.sav").write_bytes(b"<html><body>Sign in")
    for command in ("propose", "check"):
        with pytest.raises(CumaError, match=r"a\.sav: is a web page \(HTML\)"):
            main([command, str(tmp_path / "a.sav")])
    assert [p.name for p in tmp_path.iterdir()] == ["a.sav"]
