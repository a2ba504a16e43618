"""Splits are decided by hashes of ids: nothing leaks, and nothing depends on row order or on unrelated rows."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from made_up import survey_of

from cuma_jax.config import DataConfig
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.held_out import held_out_values
from cuma_jax.surveys.sources.invented import make_invented
from cuma_jax.surveys.splits import SPLITS, hash_shares, held_out_countries, split_answers, split_rows, split_table
from cuma_jax.surveys.units import Units, survey_units

ALL = DataConfig(unseen_questions=0.2)


def big_survey(countries=40, people=200):
    """Everyone answers 6 questions."""
    return survey_of({"country": [f"Country {i // people}" for i in range(countries * people)]}, questions=6)


def assignments(survey, split_A):
    """{(respondent id, question id): split name}"""
    ids = survey.respondents["respondent_id"].to_numpy()
    names = np.array([q.id for q in survey.questions])
    keys = zip(ids[survey.respondent_A], names[survey.question_A], strict=True)
    return dict(zip(keys, np.array(SPLITS)[split_A], strict=True))


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
    split_A = split_answers(survey, data)
    for name, share in (("train", 0.7), ("validation", 0.1), ("unseen_respondent", 0.2)):
        assert abs((split_A == SPLITS.index(name)).mean() - share) < 0.02
    assert len(held_out_countries(survey, DataConfig(unseen_countries=0.25))) == 10
    other = held_out_countries(survey, DataConfig(unseen_countries=0.25, split_seed=1))
    assert set(other) != set(held_out_countries(survey, DataConfig(unseen_countries=0.25)))


@pytest.mark.parametrize("alone", [1, 2])
def test_every_question_keeps_a_country(alone):
    """Countries that alone answer a question are never all held out, whichever of the two splits they would go to."""
    survey = big_survey(countries=12, people=20)
    survey = survey.with_answers((survey.question_A != 5) | (survey.respondent_A < 20 * alone))
    units, only = survey_units(survey), {f"Country {i}" for i in range(alone)}
    for seed in range(30):
        assert not only <= set(held_out_countries(survey, DataConfig(unseen_countries=0.9, split_seed=seed)))
        data = DataConfig(unseen_countries=0.4, validation_countries=0.5, split_seed=seed)
        assert not only <= set().union(*held_out_values(units, data))
        named = DataConfig(held_out_countries=("Country 0",), validation_countries=0.9, split_seed=seed)
        assert alone == 1 or "Country 1" not in held_out_values(units, named)[1]


def test_a_country_with_much_of_the_survey_is_never_held_out():
    survey = big_survey(countries=30, people=20)
    survey = survey.with_answers((survey.respondent_A // 20 == 3) | (survey.respondent_A % 20 < 4))
    for seed in range(30):
        assert "Country 3" not in held_out_countries(survey, DataConfig(unseen_countries=0.5, split_seed=seed))


@pytest.mark.parametrize(("field", "names"), [("country", ("Hestia", "Belmora")), ("sex", ("male",))])
def test_values_of_any_field_can_be_named_and_a_misspelt_one_is_an_error(field, names):
    survey = make_invented()
    split_A = split_answers(survey, DataConfig(held_out_field=field, held_out_countries=names))
    held = survey.respondents[field].isin(names).to_numpy()[survey.respondent_A]
    np.testing.assert_array_equal(split_A == SPLITS.index("unseen_country"), held)
    with pytest.raises(CumaError, match="no country 'Hestya'; did you mean 'Hestia'"):
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
    with pytest.raises(CumaError, match=r"data.validation_countries is 0.3, but no country .*set data.validation_c"):
        split_answers(big_survey(countries=1), DataConfig(unseen_countries=0.0, validation_countries=0.3))
    without = dataclasses.replace(make_invented(), profile_fields=("sex", "age"))
    without = dataclasses.replace(without, respondents=without.respondents.drop(columns="country"))
    with pytest.raises(CumaError, match=r"set data\.unseen_countries to 0"):
        split_answers(without, DataConfig())
    split_A = split_answers(without, DataConfig(unseen_countries=0.0))
    assert not (split_A == SPLITS.index("unseen_country")).any()


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


def conversations(rows=400, people=60, prompts=120, seed=0):
    """Conversations: annotators of 8 countries, prompts that several of them opened with."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"respondent_id": [f"a{i}" for i in range(people)], "weight": 1.0})
    frame["country"] = pd.Categorical.from_codes(np.arange(people) % 8, [f"Country {i}" for i in range(8)])
    return Units(
        name="chats",
        respondents=frame,
        person_ids=frame["respondent_id"].tolist(),
        person_N=rng.integers(0, people, rows).astype(np.int32),
        item_ids=[f"p{i}" for i in range(prompts)],
        item_N=rng.integers(0, prompts, rows).astype(np.int32),
        person="annotator",
        item="prompt",
        conversation_ids=[f"c{i}" for i in range(rows)],
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("validation_countries", [0.0, 0.2])
@pytest.mark.parametrize("make", [lambda: conversations(rows=2000), lambda: survey_units(big_survey(20, 30))])
def test_the_split_follows_the_priority_one_row_at_a_time(make, validation_countries, seed):
    """The slow twin: unseen country, unseen question, validation country, person, conversation."""
    units = make()
    data = DataConfig(unseen_questions=0.2, unseen_conversations=0.1, unseen_countries=0.1,
                      validation_countries=validation_countries, split_seed=seed)  # fmt: skip
    split_N, (unseen, validation) = split_rows(units, data), held_out_values(units, data)
    assert bool(validation) == (validation_countries > 0)
    assert not set(unseen) & set(validation)
    assert unseen == held_out_values(units, dataclasses.replace(data, validation_countries=0.0))[0]
    draws = sorted((hash_shares([name], seed, units.item)[0], name) for name in units.item_ids)
    items = {name for _, name in draws[: round(0.2 * len(draws))]}
    in_validation = data.unseen_respondents + (0 if validation else data.validation_respondents)
    country = units.respondents["country"].tolist()
    for row in range(0, len(units), 3):
        person = units.person_N[row]
        draw = hash_shares([units.person_ids[person]], seed, units.person)[0]
        if country[person] in unseen:
            want = "unseen_country"
        elif units.item_ids[units.item_N[row]] in items:
            want = f"unseen_{units.item}"
        elif country[person] in validation:
            want = "validation"
        elif draw < data.unseen_respondents:
            want = f"unseen_{units.person}"
        elif draw < in_validation:
            want = "validation"
        else:
            ids = units.conversation_ids
            held = ids is not None and hash_shares([ids[row]], seed, "conversation")[0] < 0.1
            want = "unseen_conversation" if held else "train"
        assert SPLITS[split_N[row]] == want


def test_the_official_split_is_taken_as_it_is_and_its_lack_is_an_error():
    survey = make_invented()
    with pytest.raises(CumaError, match="ships no split of its own"):
        split_answers(survey, DataConfig(split="official"))
    official_A = np.where(survey.respondent_A % 4 == 0, SPLITS.index("test"), 0).astype(np.int8)
    shipped = dataclasses.replace(survey, official_A=official_A)
    np.testing.assert_array_equal(split_answers(shipped, DataConfig(split="official")), official_A)
    leaking = dataclasses.replace(survey, official_A=(np.arange(survey.num_answers) % 2 * 2).astype(np.int8))
    with pytest.raises(AssertionError, match="leaks"):
        split_answers(leaking, DataConfig(split="official"))


@pytest.mark.parametrize(("suffix", "validation_countries"), [("parquet", 0.2), ("csv", 0.0)])
@pytest.mark.parametrize("make", [lambda: conversations(rows=2000), lambda: survey_units(big_survey(12, 40))])
def test_a_split_that_was_written_by_ids_reads_back_as_the_same_split(tmp_path, make, suffix, validation_countries):
    units = make()
    data = DataConfig(unseen_questions=0.2, unseen_conversations=0.1, unseen_countries=0.2,
                      validation_countries=validation_countries)  # fmt: skip
    table, path = split_table(units, data), tmp_path / f"split.{suffix}"
    if suffix == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    np.testing.assert_array_equal(split_rows(units, DataConfig(split=str(path))), split_rows(units, data))


def test_a_split_file_of_other_people_is_refused_by_name(tmp_path):
    units, path = conversations(), tmp_path / "split.csv"
    table = split_table(units, DataConfig())
    table[table["id"] != "a3"].to_csv(path, index=False)
    with pytest.raises(CumaError, match=r"1 of 60 annotators of 'chats' are not in it, e\.g\. 'a3'"):
        split_rows(units, DataConfig(split=str(path)))
    table.replace("train", "trian").to_csv(path, index=False)
    with pytest.raises(CumaError, match="unknown split 'trian'"):
        split_rows(units, DataConfig(split=str(path)))
    with pytest.raises(CumaError, match="cannot be read"):
        split_rows(units, DataConfig(split=str(tmp_path / "none.csv")))


def test_ids_in_a_split_file_are_texts_and_each_is_in_one_split(tmp_path):
    """`NA` is an id, not a missing value, and 1 is the text "1"."""
    units, path = conversations(), tmp_path / "split.csv"
    units = dataclasses.replace(units, person_ids=["NA", "007", *units.person_ids[2:]])
    table = split_table(units, DataConfig())
    table.to_csv(path, index=False)
    np.testing.assert_array_equal(split_rows(units, DataConfig(split=str(path))), split_rows(units, DataConfig()))
    other = table[table["id"] == "NA"].assign(split="unseen_prompt")
    pd.concat([table, other]).to_csv(path, index=False)
    with pytest.raises(CumaError, match="annotator 'NA' is in two splits; keep one of the rows"):
        split_rows(units, DataConfig(split=str(path)))
