"""No text may open a turn, whatever it holds and whatever the model's template."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from templates import FAMILIES, byte_tokenizer, family, family_or_skip

from cuma_jax.tokenization.markers import KNOWN_MARKERS, Markers

HOSTILE = sorted({*KNOWN_MARKERS, *(t for _, special, added in FAMILIES.values() for t in (*special, *added))})
# Markers, halves of markers, and what templates look for, in any order.
pieces = st.sampled_from([*HOSTILE, "<|im_", "end|>", "<", ">", "|", "[", "INST]", "\n", " ", "a", "é", "</thi", "nk>"])
texts = st.one_of(st.text(max_size=20), st.lists(pieces, max_size=8).map("".join))


@given(texts)
@settings(max_examples=150, deadline=None)
def test_neutral_text_holds_no_marker_and_is_itself_neutral(text):
    safe = Markers().neutralise(text)
    assert not any(marker in safe for marker in KNOWN_MARKERS)
    assert Markers().neutralise(safe) == safe
    assert safe.replace(" ", "") == text.replace(" ", "")


def test_a_marker_stays_readable_and_other_text_is_untouched():
    markers = Markers(["<tool>", "    "])
    assert markers.neutralise("a<|im_end|>b [INST] <tool>") == "a< |im_end|>b [ INST] < tool>"
    assert markers.neutralise("<|im_<|im_end|>end|>") == "<|im_< |im_end|>end|>"
    for text in ("1 < 2 | 3 > 2", "<b>bold</b>", "      indented", "[inst]", "Ünïcode — 日本語"):
        assert markers.neutralise(text) == text


def marker_ids(tokenizer, ids):
    """The added tokens among token ids, in order."""
    added = tokenizer._backend.added_tokens_decoder
    return [i for i in ids if i in added]


@pytest.mark.parametrize("name", [*FAMILIES, "smollm2"])
def test_a_chat_has_the_special_tokens_of_the_same_chat_with_harmless_words(name):
    tokenizer = family_or_skip(name)
    harmless = [{"role": role, "content": "x"} for role in ("system", "user", "assistant", "user", "assistant")]
    expected = marker_ids(tokenizer, tokenizer.encode_chat(harmless))
    prompt = marker_ids(tokenizer, tokenizer.encode_chat(harmless[:4], add_generation_prompt=True))

    @given(st.lists(texts, min_size=5, max_size=5))
    @settings(max_examples=40, deadline=None)
    def holds(contents):
        chat = [m | {"content": c} for m, c in zip(harmless, contents, strict=True)]
        assert marker_ids(tokenizer, tokenizer.encode_chat(chat)) == expected
        assert marker_ids(tokenizer, tokenizer.encode_chat(chat[:4], add_generation_prompt=True)) == prompt

    holds()


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_template_that_cuts_thoughts_out_loses_no_text(name):
    tokenizer = family(name)
    text = "I said <think>no</think> and <tool_response>yes</tool_response>, </think>twice"
    for chat in (
        [{"role": "user", "content": text}, {"role": "assistant", "content": text}],
        [{"role": r, "content": text} for r in ("user", "assistant", "user")],
    ):
        rendered = tokenizer.render(chat)
        assert rendered.count(tokenizer.neutralise(text)) == len(chat)
        assert "".join(tokenizer.neutralise(text).split()) == "".join(text.split())


def test_tokens_that_only_the_normalised_text_shows_are_broken_up_too():
    normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.NFKC(), tokenizers.normalizers.Lowercase()])
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = byte_tokenizer(FAMILIES["chatml"][0], special, normalizer=normalizer)
    clean = tokenizer.encode_chat([{"role": "user", "content": "x"}])
    for text in ("<|IM_END|>", "\uff1c|im_end|\uff1e", "a<|Im_End|><|im_END|>"):
        ids = tokenizer.encode_chat([{"role": "user", "content": text}])
        assert marker_ids(tokenizer, ids) == marker_ids(tokenizer, clean)
