"""Shots are training answers of the most similar people, and never to the question that is asked."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from made_up import survey_of

from cuma_jax.data.shots import build_shots
from cuma_jax.data.survey_tokens import build_survey_tokens
from cuma_jax.surveys.profiles import build_profiles, profile_text
from cuma_jax.surveys.prompts import question_message, system_message


def sparse_survey(seed=0, people=600, questions=7):
    """People of five countries who were asked two questions each; country 4, of many profiles, was asked one only."""
    rng = np.random.default_rng(seed)
    country_R = rng.integers(0, 5, people)
    columns = {
        "age": pd.Categorical.from_codes(rng.integers(-1, 9, people), [f"age {i}" for i in range(9)]),
        "country": pd.Categorical.from_codes(country_R, [f"land {c}" for c in range(5)]),
        "town": pd.Categorical.from_codes(rng.integers(-1, 12, people), [f"town {i}" for i in range(12)]),
    }
    pairs = [(r, q) for r in range(people) for q in rng.permutation(questions)[:2]]
    pairs = sorted({(r, 0 if country_R[r] == 4 else int(q)) for r, q in pairs})
    answers = [(*pair, option) for pair, option in zip(pairs, rng.integers(0, 3, len(pairs)), strict=True)]
    return survey_of(columns, answers, questions, ("Yes", "No", "Maybe"))


@pytest.fixture(scope="module")
def made():
    """Survey, profiles, training answers (nobody of land 3), and shots."""
    survey = sparse_survey()
    profiles = build_profiles(survey)
    country_A = survey.respondents["country"].cat.codes.to_numpy()[survey.respondent_A]
    train_A = (survey.respondent_A % 4 != 0) & (country_A != 3)
    return survey, profiles, train_A, build_shots(survey, profiles, train_A, 3)


def likeness(profiles, p, other):
    """The slow definition: the profile itself, then the country, then equal fields."""
    one, two = profiles.values(p), profiles.values(other)
    same = [field for field in one if one[field] == two.get(field)]
    return p == other, "country" in same, len(same)


def test_shots_are_training_answers_of_the_most_similar_people(made):
    survey, profiles, train_A, shots = made
    profile_A = profiles.profile_R[survey.respondent_A]
    for p in range(0, len(profiles), 9):
        answers, questions = shots.answer_PJ[p], shots.question_PJ[p].tolist()
        assert train_A[answers].all()  # and so of nobody who is held out
        assert survey.question_A[answers].tolist() == questions
        assert len(set(questions)) == 4
        got = [likeness(profiles, p, profile_A[a]) for a in answers]
        best = {
            q: max(likeness(profiles, p, profile_A[a]) for a in np.flatnonzero(train_A & (survey.question_A == q)))
            for q in range(len(survey.questions))
        }
        # Each shot is by the most similar people who were asked its question, and no question has better ones.
        assert got == [best[q] for q in questions] == sorted(best.values(), reverse=True)[:4]


def test_one_persons_answer_is_shown_not_the_most_frequent(made):
    survey, _, train_A, _ = made
    narrow = build_profiles(survey, ("country",))
    drawn = [build_shots(survey, narrow, train_A, 3, seed) for seed in range(40)]
    options = {
        (int(q), int(survey.option_A[a])) for s in drawn for q, a in zip(s.question_PJ[0], s.answer_PJ[0], strict=True)
    }
    assert len(options) > 2 * len({q for q, _ in options})


def test_the_question_that_is_asked_is_not_shown_and_others_make_up_for_it(made):
    survey, profiles, _, shots = made
    for p in range(0, len(profiles), 5):
        for q in range(len(survey.questions)):
            text = shots.text(p, int(shots.variant(np.array([p]), np.array([q]))[0]))
            assert f'"Question {q}?"' not in text
            assert text.startswith(" People like this answered: ")
            assert text.count('?" - "') == 3
            assert text.endswith('".')


def test_shots_do_not_depend_on_the_order_of_rows(made):
    survey, profiles, train_A, shots = made
    rng = np.random.default_rng(3)
    people, answers = rng.permutation(len(survey.respondents)), rng.permutation(survey.num_answers)
    moved = dataclasses.replace(
        survey,
        respondents=survey.respondents.iloc[people].reset_index(drop=True),
        respondent_A=np.argsort(people)[survey.respondent_A][answers].astype(np.int32),
        question_A=survey.question_A[answers],
        option_A=survey.option_A[answers],
    )
    other = build_shots(moved, build_profiles(moved), train_A[answers], 3)
    assert [shots.text(p, v) for p in range(len(profiles)) for v in range(4)] == [
        other.text(p, v) for p in range(len(profiles)) for v in range(4)
    ]


def test_fewer_questions_are_fewer_shots(made):
    survey, profiles, train_A, _ = made
    few_A = train_A & (survey.question_A < 2)
    shots = build_shots(survey, profiles, few_A, 3)
    assert {shots.text(0, v).count(" - ") for v in (2, 3)} == {2}
    assert shots.text(0, 0).count(" - ") == shots.text(0, 1).count(" - ") == 1
    nothing = build_shots(survey, profiles, np.zeros_like(train_A), 3)
    assert {nothing.text(p, v) for p in range(len(profiles)) for v in range(4)} == {""}


@pytest.mark.parametrize("objective", ["choice", "sft"])
def test_rows_with_shots_equal_tokenising_the_whole_chat(made, objective, tokenizer):
    survey, profiles, _, shots = made
    tokens = build_survey_tokens(survey.questions, profiles, tokenizer, objective, shots)
    for p in range(0, len(profiles), 60):
        for q, question in enumerate(survey.questions):
            who = np.array([p])
            template = tokens.template_QO[[q], [1]]
            text = profile_text(profiles, p) + shots.text(p, int(shots.variant(who, np.array([q]))[0]))
            chat = [
                {"role": "system", "content": system_message(text)},
                {"role": "user", "content": question_message(question)},
            ]
            whole = list(tokenizer.encode_chat(chat, add_generation_prompt=True))
            if objective == "sft":
                whole.append(int(tokens.option_ids_QO[q, 1]))
            assert int(tokens.lengths(who, template)[0]) == len(whole)
            assert tokens.fill(who, template, len(whole))[0].tolist() == whole
