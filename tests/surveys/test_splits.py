"""Splits are decided by hashes of ids: nothing leaks, and nothing depends on row order or on unrelated rows."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cuma_jax.config import DataConfig
from cuma_jax.errors import CumaError
from cuma_jax.surveys.invented import make_invented
from cuma_jax.surveys.splits import SPLITS, hash_shares, held_out_countries, split_answers
from cuma_jax.surveys.survey import Question, Survey

ALL = DataConfig(unseen_questions=0.2)


def big_survey(countries=40, people=200, only_country_questions=0):
    """Everyone answers 6 questions; the last `only_country_questions` are asked in country 0 alone."""
    size = countries * people
    country_R = np.repeat(np.arange(countries), people)
    respondents = pd.DataFrame({"respondent_id": [f"p{i}" for i in range(size)], "weight": np.ones(size)})
    respondents["country"] = pd.Categorical.from_codes(country_R, [f"Country {i}" for i in range(countries)])
    questions = tuple(Question(f"q{i}", "Well?", ("Yes", "No"), ("1", "2")) for i in range(6 + only_country_questions))
    r, q = np.meshgrid(np.arange(size), np.arange(len(questions)), indexing="ij")
    keep = (q < 6) | (country_R[r] == 0)
    r, q = r[keep].astype(np.int32), q[keep].astype(np.int32)
    return Survey("big", questions, respondents, ("country",), r, q, np.zeros(len(r), np.int32))


def assignments(survey, split_A):
    """{(respondent id, question id): split name}"""
    ids = survey.respondents["respondent_id"].to_numpy()
    names = np.array([q.id for q in survey.questions])
    keys = zip(ids[survey.respondent_A], names[survey.question_A], strict=True)
    return dict(zip(keys, np.array(SPLITS)[split_A], strict=True))


def test_no_unit_that_is_held_out_is_trained_on():
    survey = big_survey()
    split_A = split_answers(survey, ALL)
    country_A = survey.respondents["country"].to_numpy()[survey.respondent_A]
    of = {name: split_A == i for i, name in enumerate(SPLITS)}
    seen = of["train"] | of["validation"]
    assert all(mask.any() for mask in of.values())
    assert not set(country_A[of["unseen_country"]]) & set(country_A[~of["unseen_country"]])
    assert not set(survey.question_A[of["unseen_question"]]) & set(survey.question_A[seen | of["unseen_respondent"]])
    people = {name: set(survey.respondent_A[mask]) for name, mask in of.items()}
    assert not people["unseen_respondent"] & (people["train"] | people["validation"])
    assert not people["validation"] & people["train"]


def test_split_follows_the_priority_one_answer_at_a_time():
    """The slow twin: country, then question, then respondent."""
    survey = big_survey(countries=12, people=40)
    got = assignments(survey, split_answers(survey, ALL))
    held = held_out_countries(survey, ALL)
    hashes = sorted((hash_shares([q.id], 0, "question")[0], q.id) for q in survey.questions)
    held_questions = {name for _, name in hashes[: round(0.2 * 6)]}
    country = survey.respondents.set_index("respondent_id")["country"]
    for (person, name), split in got.items():
        draw = hash_shares([person], 0, "respondent")[0]
        if country[person] in held:
            want = "unseen_country"
        elif name in held_questions:
            want = "unseen_question"
        elif draw < ALL.unseen_respondents:
            want = "unseen_respondent"
        else:
            want = "validation" if draw < ALL.unseen_respondents + ALL.validation_respondents else "train"
        assert split == want


def test_split_is_the_same_in_any_row_order():
    survey = big_survey(countries=12, people=40)
    rng = np.random.default_rng(0)
    people, answers = rng.permutation(len(survey.respondents)), rng.permutation(survey.num_answers)
    questions = rng.permutation(len(survey.questions))
    frame = survey.respondents.iloc[people].reset_index(drop=True)
    frame["country"] = frame["country"].cat.reorder_categories(list(frame["country"].cat.categories)[::-1])
    shuffled = dataclasses.replace(
        survey,
        respondents=frame,
        questions=tuple(survey.questions[q] for q in questions),
        respondent_A=np.argsort(people)[survey.respondent_A][answers].astype(np.int32),
        question_A=np.argsort(questions)[survey.question_A][answers].astype(np.int32),
        option_A=survey.option_A[answers],
    )
    assert assignments(survey, split_answers(survey, ALL)) == assignments(shuffled, split_answers(shuffled, ALL))


def test_split_of_a_person_does_not_depend_on_the_others():
    survey = big_survey(countries=12, people=40)
    fewer = survey.with_answers(survey.respondent_A % 40 < 25)
    all_answers, kept = (assignments(s, split_answers(s, ALL)) for s in (survey, fewer))
    assert kept == {key: all_answers[key] for key in kept}


def test_shares_are_about_right_and_seeds_differ():
    survey = big_survey()
    data = DataConfig(unseen_countries=0.0, unseen_respondents=0.2, validation_respondents=0.1)
    share = np.bincount(split_answers(survey, data), minlength=5) / survey.num_answers
    np.testing.assert_allclose(share, [0.7, 0.1, 0.2, 0, 0], atol=0.02)
    assert len(held_out_countries(survey, DataConfig(unseen_countries=0.25))) == 10
    other = held_out_countries(survey, DataConfig(unseen_countries=0.25, split_seed=1))
    assert set(other) != set(held_out_countries(survey, DataConfig(unseen_countries=0.25)))


def test_a_country_that_alone_answers_a_question_is_never_held_out():
    survey = big_survey(countries=12, people=20, only_country_questions=1)
    for seed in range(30):
        assert "Country 0" not in held_out_countries(survey, DataConfig(unseen_countries=0.5, split_seed=seed))


def test_every_question_keeps_a_country():
    """Two countries that are alone together are never both held out."""
    survey = big_survey(countries=12, people=20)
    country_A = survey.respondents["country"].cat.codes.to_numpy()[survey.respondent_A]
    survey = survey.with_answers((survey.question_A != 5) | (country_A < 2))
    for seed in range(30):
        held = held_out_countries(survey, DataConfig(unseen_countries=0.9, split_seed=seed))
        assert not {"Country 0", "Country 1"} <= set(held)


def test_a_country_with_much_of_the_survey_is_never_held_out():
    survey = big_survey(countries=30, people=20)
    country_A = survey.respondents["country"].cat.codes.to_numpy()[survey.respondent_A]
    survey = survey.with_answers((country_A == 3) | (survey.respondent_A % 20 < 4))
    for seed in range(30):
        assert "Country 3" not in held_out_countries(survey, DataConfig(unseen_countries=0.5, split_seed=seed))


def test_countries_can_be_named_and_a_misspelt_one_is_an_error():
    survey = make_invented()
    data = DataConfig(held_out_countries=("Hestia", "Belmora"))
    split_A = split_answers(survey, data)
    held = survey.respondents["country"].isin(["Hestia", "Belmora"]).to_numpy()[survey.respondent_A]
    np.testing.assert_array_equal(split_A == SPLITS.index("unseen_country"), held)
    with pytest.raises(CumaError, match="no country 'Hestya'; did you mean Hestia"):
        split_answers(survey, DataConfig(held_out_countries=("Hestya",)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig(unseen_respondents=0.6, validation_respondents=0.5), "less than 1"),
        (DataConfig(unseen_questions=0.95), "holds out all 5 questions"),
        (DataConfig(validation_respondents=1e-9), "the validation split .* is empty"),
    ],
)
def test_an_empty_split_that_was_asked_for_is_an_error(data, message):
    with pytest.raises(CumaError, match=message):
        split_answers(make_invented(), data)


def test_no_country_to_hold_out_is_an_error_that_says_what_to_set():
    with pytest.raises(CumaError, match=r"set data\.unseen_countries to 0"):
        split_answers(big_survey(countries=1), DataConfig())
    without = dataclasses.replace(make_invented(), profile_fields=("sex", "age"))
    without = dataclasses.replace(without, respondents=without.respondents.drop(columns="country"))
    with pytest.raises(CumaError, match=r"set data\.unseen_countries to 0"):
        split_answers(without, DataConfig())
    assert (split_answers(without, DataConfig(unseen_countries=0.0)) <= 2).all()


def test_people_without_a_country_are_never_in_unseen_country():
    survey = make_invented()
    frame = survey.respondents.copy()
    frame.loc[:29, "country"] = None
    survey = dataclasses.replace(survey, respondents=frame)
    split_A = split_answers(survey, DataConfig(unseen_countries=0.5))
    assert (split_A[survey.respondent_A < 30] != SPLITS.index("unseen_country")).all()


def test_hashes_are_those_of_blake2b():
    import hashlib

    want = int.from_bytes(hashlib.blake2b(b"7:country:Chile", digest_size=8).digest(), "big") / 2**64
    assert hash_shares(["Chile"], 7, "country")[0] == pytest.approx(want)
    draw = hash_shares([str(i) for i in range(20_000)], 0, "x")
    assert draw.min() >= 0
    assert draw.max() < 1
    assert np.histogram(draw, 10, (0, 1))[0].min() > 1800
