"""Row tokens from pieces equal tokenising the whole chat. Shapes: N rows, S supervised positions."""

import numpy as np
import pytest
from templates import FAMILIES, byte_tokenizer, family_or_skip

from cuma_jax.data.batches import Buckets, Rows, SurveyBatcher
from cuma_jax.data.survey_tokens import build_survey_tokens
from cuma_jax.hub.model_files import resolve
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import build_profiles, profile_text
from cuma_jax.surveys.prompts import LETTERS, question_message, system_message
from cuma_jax.surveys.sources.invented import make_invented
from cuma_jax.tokenization.tokenizer import load_tokenizer

# Not "inst": its answers follow a space, which a survey row leaves out.
TEMPLATES = ["random", "llama3", "qwen3", "chatml", "smollm2"]


@pytest.fixture(params=TEMPLATES, scope="module")
def tokenizer(request):
    """One of each template."""
    return load_tokenizer(resolve("random:tiny")) if request.param == "random" else family_or_skip(request.param)


@pytest.fixture(scope="module")
def survey():
    return make_invented()


@pytest.fixture(scope="module")
def profiles(survey):
    return build_profiles(survey)


def whole_chat(tokenizer, question, profile=None, option=None):
    """The chat, rendered and tokenised in one piece."""
    chat = [
        {"role": "system", "content": system_message(profile)},
        {"role": "user", "content": question_message(question)},
    ]
    if option is None:
        return tokenizer.encode_chat(chat, add_generation_prompt=True)
    return tokenizer.encode_chat([*chat, {"role": "assistant", "content": LETTERS[option]}])


@pytest.mark.parametrize("in_prompt", [False, True])
@pytest.mark.parametrize("objective", ["choice", "sft"])
def test_rows_equal_tokenising_the_whole_chat(survey, profiles, tokenizer, objective, in_prompt):
    tokens = build_survey_tokens(survey.questions, profiles if in_prompt else None, tokenizer, objective)
    rng = np.random.default_rng(0)
    profile_N = rng.integers(0, len(profiles), 40).astype(np.int32)
    question_N = rng.integers(0, len(survey.questions), 40).astype(np.int32)
    sizes = np.array([len(q.options) for q in survey.questions])
    option_N = (rng.random(40) * sizes[question_N]).astype(np.int32)
    template_N = tokens.template_QO[question_N, option_N]
    lengths_N = tokens.lengths(profile_N, template_N)
    filled_NT = tokens.fill(profile_N, template_N, 640)
    assert filled_NT.dtype == np.int32
    for n in range(40):
        text = profile_text(profiles, int(profile_N[n])) if in_prompt else None
        question = survey.questions[question_N[n]]
        prompt = whole_chat(tokenizer, question, text)
        row_T = filled_NT[n, : lengths_N[n]].tolist()
        assert (filled_NT[n, lengths_N[n] :] == tokens.pad_id).all()
        if objective == "choice":
            assert row_T == prompt
        else:
            # The row is the whole chat up to the token before the end of the turn, which is the last label.
            chat = whole_chat(tokenizer, question, text, int(option_N[n]))
            label_S = tokens.labels_MS[template_N[n]].tolist()
            assert [*row_T, label_S[-1]] == chat[: len(row_T) + 1]
            assert row_T[:-1] == prompt


def test_sft_supervises_the_letter_and_the_end_of_turn_where_each_is_predicted(survey, profiles, tokenizer):
    tokens = build_survey_tokens(survey.questions, None, tokenizer, "sft")
    rows = Rows(
        np.zeros(5, np.int32), np.arange(5, dtype=np.int32), np.array([1, 2, 3, 4, 0], np.int32), None, np.ones(5)
    )
    sizes = [len(q.options) for q in survey.questions]
    batcher = SurveyBatcher(rows, tokens, sizes, "sft", Buckets((256,)), 256, None)
    batch = batcher.batch(np.arange(5), 0)
    for n, question in enumerate(survey.questions):
        chat = whole_chat(tokenizer, question, None, int(rows.option_N[n]))
        assert batch["labels"][n].tolist() == [
            tokenizer.encode(LETTERS[rows.option_N[n]])[0],
            tokenizer.end_of_turn_id,
        ]
        for position, label in zip(batch["positions"][n], batch["labels"][n], strict=True):
            # What is read at a position judges the next token of the chat.
            assert batch["tokens"][n, : position + 1].tolist() == chat[: position + 1]
            assert chat[position + 1] == label


def test_choice_reads_the_token_before_the_answer_and_every_options_letter(survey, tokenizer):
    tokens = build_survey_tokens(survey.questions, None, tokenizer, "choice")
    for q, question in enumerate(survey.questions):
        size = len(question.options)
        assert len(set(tokens.template_QO[q])) == 1
        for option in range(size):
            chat = whole_chat(tokenizer, question, None, option)
            template = tokens.templates[tokens.template_QO[q, option]].tolist()
            assert chat[: len(template)] == template
            assert chat[len(template)] == tokens.option_ids_QO[q, option]
        assert (tokens.option_ids_QO[q, size:] == 0).all()


def test_a_template_that_writes_the_profile_after_the_question_is_one_message(survey, profiles):
    template = (
        "{% for m in messages[1:] %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    tokenizer = byte_tokenizer(template, FAMILIES["chatml"][1])
    with pytest.raises(CumaError, match="does not split into a profile piece and a question piece"):
        build_survey_tokens(survey.questions, profiles, tokenizer, "choice")
