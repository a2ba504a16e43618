import dataclasses

import numpy as np
import pytest
from same import same_survey

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys import store
from cuma_jax.surveys.load import keep_questions, load_survey
from cuma_jax.surveys.sources import open_values
from cuma_jax.surveys.sources.invented import make_invented


def test_a_saved_survey_comes_back_equal(tmp_path):
    survey = make_invented()
    frame = survey.respondents.copy()
    frame.loc[:5, "sex"] = None
    official_A = (survey.respondent_A % 4).astype(np.int8)
    changes = {"respondents": frame, "skipped": {"no answer": 3}, "official_A": official_A}
    survey = dataclasses.replace(survey, **changes)
    store.save_survey(survey, tmp_path / "s")
    again = store.load_saved_survey(tmp_path / "s")
    same_survey(survey, again)
    assert again.skipped == survey.skipped


def test_a_damaged_copy_is_an_error_that_names_the_folder(tmp_path):
    store.save_survey(make_invented(), tmp_path / "s")
    (tmp_path / "s" / "answers.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(CumaError, match="delete the folder"):
        store.load_saved_survey(tmp_path / "s")


def test_kept_questions_keep_their_answers_and_people():
    survey = make_invented()
    kept = keep_questions(survey, ("invented.t*", "invented.rain"))
    assert [q.id for q in kept.questions] == ["invented.tea", "invented.trains", "invented.rain"]
    assert kept.num_answers == 3 * 480
    only = survey.with_answers(~((survey.question_A == 0) & (survey.respondent_A % 2 == 0)))
    tea = keep_questions(only, ("invented.tea",))
    assert tea.respondents["respondent_id"].tolist() == survey.respondents["respondent_id"][1::2].tolist()
    np.testing.assert_array_equal(
        tea.option_A, survey.option_A[(survey.question_A == 0) & (survey.respondent_A % 2 == 1)]
    )
    with pytest.raises(CumaError, match=r"'invented\.tee' matches no question .* did you mean 'invented\.tea'"):
        keep_questions(survey, ("invented.tee",))
    loaded = load_survey(DataConfig(source="invented", questions=("invented.tea",)))
    assert [q.id for q in loaded.questions] == ["invented.tea"]


def test_open_values_is_cached_by_content(tmp_path, monkeypatch):
    """The reader runs once for one content, again for another; and the copy loads in about a second."""
    calls = []
    monkeypatch.setattr(open_values, "package_version", lambda: "0.0")
    monkeypatch.setattr(open_values, "read_open_values", lambda: calls.append(1) or make_invented())
    first, second = (load_survey(DataConfig(), str(tmp_path)) for _ in range(2))
    same_survey(first, second)
    assert len(calls) == 1
    monkeypatch.setattr(open_values, "specification_text", lambda: "other wording")
    load_survey(DataConfig(), str(tmp_path))
    assert len(calls) == 2
