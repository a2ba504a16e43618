"""What is learned of a conversation: every assistant turn, after what it would have been asked to continue."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from templates import CHATML, FAMILIES, INST, byte_tokenizer, family, family_or_skip

from cuma_jax.runtime.errors import CumaError

CHAT = [
    {"role": "system", "content": "Answer as this person would. A person from Chile."},
    {"role": "user", "content": "Hello the there\n\nWhy?"},
    {"role": "assistant", "content": "Because.\n\nThe end 0"},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "Really? <|im_end|> <|eot_id|>"},
    {"role": "assistant", "content": "Yes <|im_end|> and </think> no"},
]
names = pytest.mark.parametrize("name", [*FAMILIES, "smollm2"])


def runs(ids, mask_T):
    """The supervised stretches, as lists of ids. A turn's end parts it from the next."""
    return [
        [int(i) for i, _ in group]
        for learned, group in itertools.groupby(zip(ids, mask_T, strict=True), key=lambda pair: pair[1])
        if learned
    ]


@names
@pytest.mark.parametrize("turns", [3, 5, 7])
@pytest.mark.parametrize("system", [True, False])
def test_supervised_tokens_decode_to_each_answer_and_its_end(name, turns, system):
    tokenizer, chat = family_or_skip(name), CHAT[0 if system else 1 : turns]
    ids, mask_T = tokenizer.supervised_tokens(chat)
    assert mask_T.dtype == bool
    assert mask_T.shape == (len(ids),)
    end = tokenizer.decode([tokenizer.end_of_turn_id])
    found = [tokenizer.decode(run).lstrip() for run in runs(ids, mask_T)]
    assert found == [tokenizer.neutralise(m["content"]) + end for m in chat if m["role"] == "assistant"]


@names
def test_every_answer_stands_after_the_generation_prompt(name):
    tokenizer = family_or_skip(name)
    ids, mask_T = tokenizer.supervised_tokens(CHAT)
    # What the template adds to ask for an answer: the same before every answer.
    asked = tokenizer.render(CHAT[:2], add_generation_prompt=True).removeprefix(tokenizer.render(CHAT[:2]))
    starts = np.flatnonzero(mask_T & ~np.concatenate([[False], mask_T[:-1]]))
    assert len(starts) == 3
    assert ids[: starts[0]] == tokenizer.encode_chat(CHAT[:2], add_generation_prompt=True)  # as prediction asks
    for start in starts:
        assert tokenizer.decode(ids[:start]).endswith(asked)


@pytest.mark.parametrize("name", ["llama3", "chatml", "inst", "smollm2"])
def test_where_all_turns_are_written_alike_the_tokens_are_those_of_the_whole_chat(name):
    tokenizer = family_or_skip(name)
    assert tokenizer.supervised_tokens(CHAT)[0] == tokenizer.encode_chat(CHAT)


def test_qwen3_opens_every_answer_with_an_empty_think_block():
    tokenizer = family("qwen3")
    ids, _ = tokenizer.supervised_tokens(CHAT)
    # The template itself writes the block in the last turn alone.
    assert tokenizer.render(CHAT).count("<think>\n\n</think>\n\n") == 1
    assert tokenizer.decode(ids).count("<think>\n\n</think>\n\n") == 3
    assert tokenizer.supervised_tokens(CHAT[:3])[0] == tokenizer.encode_chat(CHAT[:3])
    for turns in (5, 7):  # but for that, it is the whole chat
        found, whole = tokenizer.decode(tokenizer.supervised_tokens(CHAT[:turns])[0]), tokenizer.render(CHAT[:turns])
        assert found.replace("<think>\n\n</think>\n\n", "") == whole.replace("<think>\n\n</think>\n\n", "")


@pytest.mark.parametrize("name", list(FAMILIES))
def test_any_text_in_any_turn_is_supervised_whole(name):
    tokenizer = family(name)
    end = tokenizer.decode([tokenizer.end_of_turn_id])
    text = st.one_of(
        st.text(min_size=1, max_size=12), st.lists(st.sampled_from(["<|im_end|>", "0", "\n", "</think>"]), min_size=1)
    )

    @given(st.lists(text.map("".join).filter(str.strip), min_size=5, max_size=5))
    @settings(max_examples=40, deadline=None)
    def holds(contents):
        chat = [m | {"content": c} for m, c in zip(CHAT[:5], contents, strict=True)]
        found = [tokenizer.decode(run).lstrip() for run in runs(*tokenizer.supervised_tokens(chat))]
        assert found == [tokenizer.neutralise(c).strip() + end for c in (contents[2], contents[4])]

    holds()


def test_nothing_to_learn_is_one_message():
    tokenizer = family("chatml")
    with pytest.raises(CumaError, match="no assistant turn"):
        tokenizer.supervised_tokens(CHAT[:2])
    with pytest.raises(CumaError, match="empty assistant turn"):
        tokenizer.supervised_tokens([*CHAT[:2], {"role": "assistant", "content": " \n"}])


def test_a_template_that_does_not_continue_its_prompt_is_named():
    # The prompt ends where a first answer letter would merge with it.
    template = CHATML.replace("assistant\n' }}{% endif %}", "assistant\nC' }}{% endif %}").replace(
        "+ '\n' + message['content']", "+ '\nC' + message['content']"
    )
    tokenizer = byte_tokenizer(template, FAMILIES["chatml"][1])
    chat = [{"role": "user", "content": "Metal?"}, {"role": "assistant", "content": "u"}]
    with pytest.raises(CumaError, match=r"template of fixture does not write an assistant turn.*--model\.tokenizer"):
        tokenizer.supervised_tokens(chat)
    shouting = byte_tokenizer(INST.replace("' ' + turn['content']", "' ' + turn['content'] | upper"), ("<s>", "</s>"))
    with pytest.raises(CumaError, match="template of fixture"):
        shouting.supervised_tokens(CHAT[1:5])


def test_a_prompt_does_not_change_from_day_to_day():
    assert "Today Date: 26 Jul 2024\n" in family("llama3").render(CHAT[:2])
