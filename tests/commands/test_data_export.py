"""Exported tables read back equal what was read, and are written whole or not at all."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from made_up import odd_survey, write_preferences

from cuma_jax.commands.data import export as exporting
from cuma_jax.commands.data.export import answer_chunks, export, option_codes, respondent_splits
from cuma_jax.config.checks import SPLITS
from cuma_jax.config.data import DataConfig
from cuma_jax.data.sources import load_source
from cuma_jax.preferences.tasks import conversation_messages, pair_messages, preference_pairs
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.sources.invented import make_invented
from cuma_jax.surveys.splits import split_answers
from cuma_jax.surveys.survey import Question

DATA = DataConfig(source="invented")


@pytest.fixture(scope="module")
def survey():
    return odd_survey()


def slow_answers(survey):
    """(respondent, question, code) of every answer, by a loop."""
    ids = survey.respondents["respondent_id"].tolist()
    rows = []
    for r, q, o in zip(survey.respondent_A, survey.question_A, survey.option_A, strict=True):
        question = survey.questions[q]
        rows.append((ids[r], question.id, question.codes[o]))
    return rows


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


# Conversations


@pytest.fixture(scope="module")
def preferences(tmp_path_factory):
    paths = write_preferences(tmp_path_factory.mktemp("files"))
    data = DataConfig(source="prism", path=paths["prism"], validation_respondents=0.2)
    return load_source(data, False, str(tmp_path_factory.mktemp("cache"))), data


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_exported_turns_give_the_conversations_and_the_pairs_back(preferences, tmp_path, form):
    source, data = preferences
    rows = export(source, data, tmp_path / "out", form)
    read = pd.read_parquet if form == "parquet" else lambda path: pd.read_json(path, lines=True, dtype=False)
    tables = {name: read(tmp_path / "out" / name) for name in rows}
    assert {name: len(table) for name, table in tables.items()} == rows
    turns, talks = tables[f"turns.{form}"], tables[f"conversations.{form}"]
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
    for n, pair in enumerate(tables[f"pairs.{form}"].itertuples()):
        candidates = texts[pair.conversation, pair.turn]
        assert (candidates[pair.chosen], candidates[pair.rejected]) == pair_messages(source, pairs, n)[1:]
        assert pair.margin == pairs.margin_P[n]
