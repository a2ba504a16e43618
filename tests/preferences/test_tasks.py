"""Conversations, pairs and the choice task, against the plain reading of the same turns."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
from preference_files import community_alignment_rows, write_community_alignment, write_prism, write_rows

from cuma_jax.preferences.sources.community_alignment import read_community_alignment
from cuma_jax.preferences.sources.prism import read_prism
from cuma_jax.preferences.tasks import (
    BELOW_MARGIN,
    ONE_OPTION,
    choice_survey,
    conversation_messages,
    pair_messages,
    preference_pairs,
)
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import build_profiles


@pytest.fixture(scope="module")
def prism(tmp_path_factory):
    return read_prism(str(write_prism(tmp_path_factory.mktemp("prism"), 60, 10)))


@pytest.fixture(scope="module")
def alignment(tmp_path_factory):
    return read_community_alignment(str(write_community_alignment(tmp_path_factory.mktemp("ca") / "a.csv", 80, 12)))


@pytest.fixture(params=["prism", "alignment"])
def prefs(request):
    return request.getfixturevalue(request.param)


def test_a_conversation_goes_on_with_the_chosen_responses(prefs):
    turns = prefs.turns.to_pylist()
    for n in range(len(prefs.conversations)):
        expected = []
        for turn in turns:
            if turn["conversation"] == n:
                expected.append({"role": "user", "content": turn["prompt"]})
                expected.append({"role": "assistant", "content": turn["candidates"][turn["chosen"]]})
        assert conversation_messages(prefs, n) == expected


def test_pairs_are_the_chosen_against_every_other_above_the_margin(prefs):
    pairs = preference_pairs(prefs, min_margin=30)
    expected, below = [], 0
    for row, turn in enumerate(prefs.turns.to_pylist()):
        for k in range(len(turn["candidates"])):
            if k == turn["chosen"]:
                continue
            margin = math.nan if turn["scores"] is None else turn["scores"][turn["chosen"]] - turn["scores"][k]
            if margin < 30:
                below += 1
            else:
                expected.append((row, turn["chosen"], k, margin))
    found = zip(pairs.turn_P, pairs.chosen_P, pairs.rejected_P, pairs.margin_P, strict=True)
    np.testing.assert_array_equal(np.array(list(found), float), np.array(expected, float))
    assert pairs.skipped == ({BELOW_MARGIN: below} if below else {})


def test_a_pair_has_the_messages_before_its_responses(prefs):
    pairs = preference_pairs(prefs)
    for n in range(0, len(pairs), 7):
        turn = prefs.turns.slice(int(pairs.turn_P[n]), 1).to_pylist()[0]
        messages, chosen, rejected = pair_messages(prefs, pairs, n)
        whole = conversation_messages(prefs, turn["conversation"])
        assert [*messages, {"role": "assistant", "content": chosen}] == whole[: 2 * turn["turn"] + 2]
        assert chosen != rejected
        assert rejected in turn["candidates"]


def test_ties_are_never_pairs(prism):
    assert np.all(preference_pairs(prism, min_margin=1e-6).margin_P > 0)
    for margin in (0.0, -1.0, math.nan):
        with pytest.raises(CumaError, match="must be positive"):
            preference_pairs(prism, min_margin=margin)


def test_the_choice_survey_asks_each_opening_once_and_answers_what_was_preferred(prefs):
    survey = choice_survey(prefs)
    opening = [turn for turn in prefs.turns.to_pylist() if turn["turn"] == 0]
    distinct = {(turn["prompt"], frozenset(turn["candidates"])) for turn in opening}
    assert {(q.text, frozenset(q.options)) for q in survey.questions} == distinct
    assert survey.num_answers == len(opening)
    person_C = prefs.conversations["person"].to_numpy()
    for a, turn in enumerate(opening):
        question = survey.questions[survey.question_A[a]]
        assert question.text == turn["prompt"]
        assert question.options[survey.option_A[a]] == turn["candidates"][turn["chosen"]]
        assert survey.respondent_A[a] == person_C[turn["conversation"]]
        assert not question.ordered
    assert len(build_profiles(prefs)) == len(build_profiles(survey)) > 1


def test_the_order_in_which_responses_were_shown_does_not_matter(tmp_path):
    first = community_alignment_rows(1, 1)[0]
    other = first | {"conversation_id": "2"}
    letters = [first[f"first_turn_response_{letter}"] for letter in "abcd"]
    for letter, text in zip("abcd", letters[::-1], strict=True):
        other[f"first_turn_response_{letter}"] = text
    survey = choice_survey(read_community_alignment(str(write_rows(tmp_path / "a.csv", [first, other]))))
    assert len(survey.questions) == 1
    alone = choice_survey(read_community_alignment(str(write_rows(tmp_path / "b.csv", [other]))))
    assert alone.questions == survey.questions


def test_a_first_turn_with_one_candidate_is_no_question(tmp_path):
    row = community_alignment_rows(2, 1)
    row[1] |= {f"first_turn_response_{letter}": "same" for letter in "abcd"}
    survey = choice_survey(read_community_alignment(str(write_rows(tmp_path / "a.csv", row))))
    assert survey.num_answers == 1
    assert survey.skipped[ONE_OPTION] == 1


def test_nothing_chosen_gives_no_pair_and_no_answer(alignment):
    """No reader leaves such a turn in, but the type allows it at the end of a conversation."""
    chosen = alignment.turns["chosen"].to_numpy().copy()
    last = np.append(np.diff(alignment.turns["conversation"].to_numpy()) != 0, True)
    chosen[last] = -1
    turns = alignment.turns.set_column(5, alignment.turns.schema.field("chosen"), pa.array(chosen))
    prefs = dataclasses.replace(alignment, turns=turns)
    pairs = preference_pairs(prefs)
    assert not set(pairs.turn_P) & set(np.flatnonzero(last))
    assert choice_survey(prefs).num_answers == (~last & (turns["turn"].to_numpy() == 0)).sum()
    assert conversation_messages(prefs, 0)[-1]["role"] == "user"
