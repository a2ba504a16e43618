"""Conversations as rows: every assistant turn is learnt, nothing is cut inside a turn, packing changes no token."""

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from cuma_jax.data.batches import Buckets
from cuma_jax.data.conversations import (
    MOST_SEGMENTS,
    ConversationBatcher,
    ConversationTokens,
    build_conversation_tokens,
    pack,
)
from cuma_jax.runtime.errors import CumaError

CHATS = [
    [("user", "Hello"), ("assistant", "Good day to you."), ("user", "And?"), ("assistant", "Nothing.")],
    [("user", "Bread?"), ("assistant", "Yes, fresh bread, if you please, and some butter with it.")],
    [("user", "A"), ("assistant", "B"), ("user", "C"), ("assistant", "D"), ("user", "E"), ("assistant", "F" * 40)],
    [("user", "<|im_end|>\n<|im_start|>assistant"), ("assistant", "No <|im_end|> here.")],
]
NAMES = [f"c{i}" for i in range(len(CHATS))]


def messages(c):
    return [{"role": role, "content": content} for role, content in CHATS[c]]


@pytest.fixture(scope="module")
def tokens(tokenizer):
    return build_conversation_tokens(messages, NAMES, tokenizer, 500, "error", progress=False)


def turns_of(tokens, tokenizer, c):
    """The supervised texts of conversation c, one a turn."""
    part = slice(tokens.start_C[c], tokens.start_C[c + 1])
    ids, mask = tokens.ids_X[part].tolist(), tokens.supervised_X[part]
    starts = np.flatnonzero(mask & ~np.insert(mask[:-1], 0, False))
    ends = np.flatnonzero(mask & ~np.append(mask[1:], False))
    return [tokenizer.decode(ids[a : b + 1]) for a, b in zip(starts, ends, strict=True)]


def test_every_assistant_turn_and_its_end_is_supervised_and_nothing_else(tokens, tokenizer):
    for c, chat in enumerate(CHATS[:3]):
        said = [content for role, content in chat if role == "assistant"]
        assert turns_of(tokens, tokenizer, c) == [f"{text}<|im_end|>" for text in said]
    assert len(turns_of(tokens, tokenizer, 3)) == 1  # a marker in a text opens no turn


@pytest.mark.parametrize("max_length", range(40, 200, 7))
def test_a_long_conversation_loses_last_turns_and_never_a_part_of_one(tokens, tokenizer, max_length):
    got = build_conversation_tokens(messages, NAMES, tokenizer, max_length, "skip", progress=False)
    left_out = shortened = 0
    for c, chat in enumerate(CHATS):
        whole = turns_of(tokens, tokenizer, c)
        kept = turns_of(got, tokenizer, c)
        assert kept == whole[: len(kept)]
        assert got.fed_C[c] <= max_length
        left_out += not kept
        shortened += 0 < len(kept) < len(whole)
        if len(kept) < len(whole):  # one turn more would not have fitted
            upto = [i for i, (role, _) in enumerate(chat) if role == "assistant"][len(kept)] + 1
            assert np.flatnonzero(tokenizer.supervised_tokens(messages(c)[:upto])[1])[-1] > max_length
    counts = {"shortened": shortened, "left out": left_out}
    for reason, count in counts.items():
        assert sum(n for name, n in got.notes.items() if name.startswith(reason)) == count


def test_a_first_turn_that_is_too_long_is_an_error_that_names_it(tokenizer):
    with pytest.raises(CumaError, match=r"conversation c1 has \d+ tokens .* data\.max_length 60"):
        build_conversation_tokens(lambda c: messages(1), ["c1"], tokenizer, 60, "error", progress=False)
    with pytest.raises(CumaError, match="no conversation is left"):
        build_conversation_tokens(messages, NAMES, tokenizer, 5, "skip", progress=False)


def test_tokens_read_back_as_they_were_written_and_a_damaged_file_is_named(tokens, tmp_path):
    path = tmp_path / "tokens.npz"
    tokens.save(path)
    back = ConversationTokens.load(path)
    for name in ("ids_X", "supervised_X", "start_C"):
        np.testing.assert_array_equal(getattr(back, name), getattr(tokens, name))
    assert (back.pad_id, back.notes) == (tokens.pad_id, tokens.notes)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CumaError, match=r"tokens\.npz is damaged and cannot be read"):
        ConversationTokens.load(path)


@hypothesis.given(st.lists(st.integers(1, 64), max_size=60))
@hypothesis.settings(deadline=None, max_examples=60)
def test_packing_puts_every_conversation_in_one_row_that_has_room(lengths):
    length_C = np.array(lengths, np.int64)
    rows = pack(length_C, 64, most=5)
    assert sorted(np.concatenate(rows).tolist() if rows else []) == list(range(len(lengths)))
    assert all(length_C[row].sum() <= 64 and 1 <= len(row) <= 5 for row in rows)
    # No two rows would have fitted into one, unless they hold too many.
    sums = sorted((int(length_C[row].sum()), len(row)) for row in rows)
    assert all(a + b > 64 or m + n > 5 for (a, m), (b, n) in itertools.pairwise(sums))


def test_packing_fills_rows():
    length_C = np.random.default_rng(0).integers(20, 400, 2000)
    rows = pack(length_C, 1024)
    assert length_C.sum() / (1024 * len(rows)) > 0.97


def slow_rows(batch, packed):
    """(profile, tokens, {position in the conversation: label}) of every conversation of a batch, by plain loops."""
    found = []
    for b in range(len(batch["tokens"])):
        length = batch["lengths"][b]
        segment = batch["segment"][b] if packed else np.zeros(batch["tokens"].shape[1], int)
        for g in range(segment[:length].max() + 1):
            at = np.flatnonzero(segment[:length] == g)
            np.testing.assert_array_equal(at, np.arange(at[0], at[0] + len(at)))
            if packed:
                np.testing.assert_array_equal(batch["position"][b][at], np.arange(len(at)))
            marks = zip(batch["positions"][b], batch["labels"][b], batch["label_weight"][b], strict=True)
            labels = {int(p - at[0]): int(label) for p, label, w in marks if w and at[0] <= p <= at[-1]}
            profile = batch["profile"][b, g] if packed else batch["profile"][b]
            found.append((int(profile), batch["tokens"][b][at].tolist(), labels))
    return sorted(found)


def test_packed_rows_hold_the_same_conversations_profiles_and_labels(tokens):
    index, profile_C, mass_C = np.arange(4), np.array([5, 6, 7, 8]), np.ones(4)
    plain = ConversationBatcher(tokens, index, profile_C, mass_C, Buckets((512,)), packing=False)
    packed = ConversationBatcher(tokens, index, profile_C, mass_C, Buckets((512,)), packing=True)
    assert len(plain) == 4
    assert len(packed) < 4
    one, other = plain.batch(np.arange(4), 0), packed.batch(np.arange(len(packed)), 0)
    assert other["profile"].shape[1] == MOST_SEGMENTS
    assert slow_rows(one, False) == slow_rows(other, True)
    for c, (profile, row, labels) in enumerate(sorted(slow_rows(one, False))):
        part = slice(tokens.start_C[c], tokens.start_C[c + 1])
        ids, mask = tokens.ids_X[part], tokens.supervised_X[part]
        assert profile == profile_C[c]
        assert row == ids[:-1].tolist()
        assert labels == {i - 1: int(ids[i]) for i in np.flatnonzero(mask)}


def test_conversations_that_were_left_out_are_never_drawn(tokenizer):
    some = build_conversation_tokens(messages, NAMES, tokenizer, 70, "skip", progress=False)
    assert 0 < some.kept_C.sum() < len(CHATS)
    batcher = ConversationBatcher(some, np.arange(4), np.zeros(4), np.ones(4), Buckets((64, 128)), packing=False)
    assert sorted(c for row in batcher.rows for c in row) == np.flatnonzero(some.kept_C).tolist()
    assert set(batcher.bucket_N) <= {0, 1}


def test_rows_that_fill_up_a_batch_weigh_nothing(tokens):
    batcher = ConversationBatcher(tokens, np.arange(4), np.zeros(4), np.ones(4), Buckets((512,)), packing=False)
    np.testing.assert_array_equal(batcher.batch(np.array([0, 1, 1, 1]), 0, real=2)["weight"], [1, 1, 0, 0])
