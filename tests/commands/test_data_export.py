"""Exported tables read back equal what was read, and are written whole or not at all."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from made_up import odd_survey
from preference_files import write_prism

from cuma_jax.commands.data import export as exporting
from cuma_jax.commands.data.export import answer_chunks, export, option_codes, respondent_splits
from cuma_jax.config.checks import SPLITS
from cuma_jax.config.data import DataConfig
from cuma_jax.data.load import load_source
from cuma_jax.preferences.tasks import conversation_messages, pair_messages, preference_pairs
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.invented import make_invented
from cuma_jax.surveys.splits import split_answers
from cuma_jax.surveys.survey import Question

DATA = DataConfig(source="invented")


@pytest.fixture(scope="module")
def survey():
    return odd_survey()


@pytest.fixture(params=["parquet", "jsonl"])
def exported(request, tmp_path):
    """`exported(source, data)`: what was written, as tables by name, and the numbers of rows that `export` says."""

    def read(path):
        return pd.read_parquet(path) if request.param == "parquet" else pd.read_json(path, lines=True, dtype=False)

    def call(source, data):
        rows = export(source, data, tmp_path / "out", request.param)
        tables = {path.name.removesuffix(f".{request.param}"): read(path) for path in (tmp_path / "out").iterdir()}
        assert rows == {f"{name}.{request.param}": len(table) for name, table in tables.items()}
        return tables

    return call


def test_exported_answers_read_back_equal_the_survey(survey, exported, monkeypatch):
    monkeypatch.setattr(exporting, "CHUNK", 500)  # several row groups
    tables = exported(survey, DATA)
    answers = tables["answers"]
    assert list(answers.columns) == ["respondent", "question", "answer"]
    assert answers["answer"].dtype.kind == "i"
    ids, slow = survey.respondents["respondent_id"].tolist(), []
    for r, q, o in zip(survey.respondent_A, survey.question_A, survey.option_A, strict=True):
        slow.append((ids[r], survey.questions[q].id, survey.questions[q].codes[o]))
    assert [(r, q, str(a)) for r, q, a in answers.itertuples(index=False)] == slow

    people = tables["respondents"]
    assert list(people.columns) == ["respondent", "split", "weight", "psu", "country", "sex", "age"]
    np.testing.assert_allclose(people["weight"], survey.respondents["weight"], rtol=1e-9)
    for field in ("country", "sex", "age"):
        expected = survey.respondents[field].astype(object).where(survey.respondents[field].notna(), None).tolist()
        assert people[field].astype(object).where(people[field].notna(), None).tolist() == expected
    for row, question in zip(tables["questions"].to_dict("records"), survey.questions, strict=True):
        assert (row["question"], row["text"], row["ordered"]) == (question.id, question.text, question.ordered)
        assert (tuple(row["options"]), tuple(row["codes"])) == (question.options, question.codes)
    assert set(tables["split"].columns) == {"kind", "id", "split"}


def test_the_quick_json_lines_are_the_slow_ones(survey, tmp_path):
    exporting.write_jsonl(tmp_path / "quick.jsonl", answer_chunks(survey, 700))
    slow = [json.dumps(row, ensure_ascii=False) for chunk in answer_chunks(survey) for row in chunk.to_pylist()]
    assert (tmp_path / "quick.jsonl").read_text(encoding="utf-8").splitlines() == slow


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
        assert split == SPLITS[min(mine)] if len(mine) else pd.isna(split)
    words = pd.Categorical(np.where(np.arange(len(survey.respondents)) % 3 == 0, "valid", "train"))
    shipped = dataclasses.replace(survey, respondents=survey.respondents.assign(split=words))
    assert list(respondent_splits(shipped, DATA)) == list(words)


def test_the_exported_split_is_the_split_of_training(tmp_path):
    survey = make_invented()
    export(survey, DATA, tmp_path / "out")
    again = dataclasses.replace(DATA, split=str(tmp_path / "out" / "split.parquet"))
    np.testing.assert_array_equal(split_answers(survey, again), split_answers(survey, DATA))


def test_a_field_may_have_the_name_of_a_column(survey):
    people = survey.respondents.assign(respondent=survey.respondents["sex"], answer=survey.respondents["age"])
    renamed = dataclasses.replace(survey, respondents=people)
    table = exporting.respondents_table(renamed)
    assert table["respondent"].to_pylist() == people["respondent_id"].tolist()
    assert table["respondent_"].to_pylist() == people["sex"].tolist()


def test_nothing_is_written_when_refused(survey, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("answers.parquet", "notes.txt"):
        (out / name).write_text("mine")
    with pytest.raises(CumaError, match=r"already holds answers\.parquet; give another folder, or add --overwrite"):
        export(survey, DATA, out)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"answers.parquet": "mine", "notes.txt": "mine"}
    export(survey, DATA, out, overwrite=True)
    assert len(pd.read_parquet(out / "answers.parquet")) == survey.num_answers
    assert (out / "notes.txt").read_text() == "mine"
    with pytest.raises(CumaError, match="is a file"):
        export(survey, DATA, out / "notes.txt")


def test_an_export_that_fails_leaves_nothing_behind(survey, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(exporting, "write_parquet", fails)
    with pytest.raises(OSError, match="disk full"):
        export(survey, DATA, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_exported_turns_give_the_conversations_and_the_pairs_back(exported, tmp_path):
    data = DataConfig(source="prism", path=str(write_prism(tmp_path / "prism")), validation_respondents=0.2)
    source = load_source(data, False, str(tmp_path / "cache"))
    tables = exported(source, data)
    turns, talks = tables["turns"], tables["conversations"]
    people = source.respondents["respondent_id"]
    assert list(talks["respondent"]) == [people[i] for i in source.conversations["person"]]
    assert list(talks["prompt"]) == [source.prompt_ids[i] for i in source.conversations["prompt"]]
    by_talk = dict(list(turns.groupby("conversation")))
    for n, name in enumerate(talks["conversation"]):
        messages = []
        for turn in by_talk[name].itertuples():
            messages.append({"role": "user", "content": turn.prompt})
            if turn.chosen >= 0:
                messages.append({"role": "assistant", "content": turn.candidates[turn.chosen]})
        assert messages == conversation_messages(source, n)
    texts = {(turn.conversation, turn.turn): turn.candidates for turn in turns.itertuples()}
    pairs = preference_pairs(source)
    for n, pair in enumerate(tables["pairs"].itertuples()):
        candidates = texts[pair.conversation, pair.turn]
        assert (candidates[pair.chosen], candidates[pair.rejected]) == pair_messages(source, pairs, n)[1:]
        assert pair.margin == pairs.margin_P[n]
