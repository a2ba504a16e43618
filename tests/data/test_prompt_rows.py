"""Prompts to reply to: those of conversations are what training puts before the reply that was chosen, those of surveys
are rows of the choice task."""

import numpy as np
import pytest
from made_up import write_preferences

from cuma_jax.config import DataConfig
from cuma_jax.data.batches import Buckets
from cuma_jax.data.conversations import build_conversation_tokens, chat
from cuma_jax.data.prompts import ConversationPrompts, SurveyPrompts, check_prompts
from cuma_jax.data.sampling import cell_rows
from cuma_jax.data.survey_tokens import build_survey_tokens
from cuma_jax.preferences.sources.prism import read_prism
from cuma_jax.preferences.tasks import conversation_messages
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.prompts import question_message
from cuma_jax.surveys.sources.invented import make_invented

BUCKETS = Buckets((256, 512, 1024))


@pytest.fixture(scope="module")
def prefs(tmp_path_factory):
    return read_prism(write_preferences(tmp_path_factory.mktemp("prompts"))["prism"])


@pytest.fixture(scope="module")
def prompts_of(prefs, tokenizer):
    """Prompts of some conversations, with a profile in the prompt."""
    names = prefs.conversations["conversation_id"].tolist()
    tokens = build_conversation_tokens(
        lambda c: chat(prefs, c, f"Person {c}."), names, tokenizer, 1024, "error", progress=False
    )
    profile_C, mass_C = np.arange(len(names), dtype=np.int32) + 7, np.arange(len(names)) + 1.0
    return lambda index: ConversationPrompts(prefs, tokens, index, profile_C, mass_C, BUCKETS)


@pytest.fixture(scope="module")
def prompts(prefs, prompts_of):
    return prompts_of(np.arange(0, len(prefs.conversations), 2))


def test_every_reply_that_was_chosen_has_its_prompt(prefs, prompts, tokenizer):
    expected = []
    for c in range(0, len(prefs.conversations), 2):
        turns = conversation_messages(prefs, c)
        expected += [(c, turns[:i], turns[i]["content"]) for i in range(len(turns)) if turns[i]["role"] == "assistant"]
    assert len(prompts) == len(expected)
    assert max(len(before) for _, before, _ in expected) > 1
    for n, (c, before, reply) in enumerate(expected):
        prompt = prompts.prompt(n)
        assert prompt.messages == tuple(before)
        assert (prompt.reference, prompt.profile, prompt.question) == (reply, c + 7, -1)
        batch = prompts.batch(np.array([n]), 2)
        ids = batch["tokens"][0, : batch["lengths"][0]].tolist()
        system = chat(prefs, c, f"Person {c}.")[:1]
        assert ids == tokenizer.encode_chat([*system, *before], add_generation_prompt=True)
        assert (batch["profile"][0], batch["row"][0], batch["weight"][0]) == (c + 7, n, 1.0)
        assert BUCKETS.lengths[prompts.bucket_N[n]] >= len(ids)
        assert prompts.bucket_N[n] == 0 or BUCKETS.lengths[prompts.bucket_N[n] - 1] < len(ids)


def test_a_conversation_is_drawn_by_its_mass_whatever_its_number_of_turns(prompts):
    mass_C = np.bincount(prompts.conversation_N, weights=prompts.mass_N)
    np.testing.assert_allclose(mass_C[::2], np.arange(0, len(mass_C), 2) + 1.0)


def test_survey_prompts_end_before_the_answer(tokenizer):
    survey = make_invented()
    profiles = build_profiles(survey)
    rows = cell_rows(survey, profiles, np.ones(survey.num_answers, bool), DataConfig(question_power=0.5))
    pieces = build_survey_tokens(survey.questions, None, tokenizer, "choice")
    prompts = SurveyPrompts(rows, pieces, survey.questions, BUCKETS, 1024)
    for n in (0, 3, 11):
        question = survey.questions[rows.question_N[n]]
        batch = prompts.batch(np.array([n, n]), 0, real=1)
        text = tokenizer.decode(batch["tokens"][0, : batch["lengths"][0]].tolist())
        assert text.endswith("<|im_start|>assistant\n")
        assert question_message(question) in text
        assert prompts.prompt(n).messages[0]["content"] == question_message(question)
        assert batch["weight"].tolist() == [1.0, 0.0]
    np.testing.assert_array_equal(prompts.mass_N, rows.mass_N)
    with pytest.raises(CumaError, match=r"question invented\.\w+ has a row of \d+ tokens, more than the 20 allowed"):
        SurveyPrompts(rows, pieces, survey.questions, BUCKETS, 20)


def test_no_prompt_is_an_error(prompts_of):
    with pytest.raises(CumaError, match="no prompts to write 8 replies to"):
        check_prompts(prompts_of(np.zeros(0, np.int64)), 8)
