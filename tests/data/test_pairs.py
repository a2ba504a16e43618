"""Pairs of replies as rows: their tokens are those of the whole chats, only the last turn is supervised.

Shapes: P pairs, B pairs of a batch, K tokens, S supervised positions, X replies.
"""

import collections
import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from made_up import odd_survey
from preference_files import write_community_alignment

from cuma_jax.config.data import DataConfig
from cuma_jax.data.batches import Buckets
from cuma_jax.data.pairs import PairBatcher, build_survey_pairs
from cuma_jax.data.preference_pairs import EQUAL, TOO_LONG, PairRules, build_preference_pairs
from cuma_jax.data.reply_tokens import ReplyBatcher, TextReplyTokens
from cuma_jax.data.survey_tokens import build_survey_tokens
from cuma_jax.preferences.load import load_preferences
from cuma_jax.preferences.tasks import pair_messages, preference_pairs
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import build_profiles, profile_text
from cuma_jax.surveys.prompts import conversation_system_message

BUCKETS = Buckets((512, 1024))
RULES = PairRules(in_prompt=True, min_margin=1.0, max_length=1024, too_long="error", bad_rows="error")


@pytest.fixture(scope="module")
def source(tmp_path_factory, cache_folder):
    path = write_community_alignment(tmp_path_factory.mktemp("pairs") / "ca.jsonl", 12, 5)
    return load_preferences(DataConfig(source="community_alignment", path=str(path)), cache_folder)


@pytest.fixture(scope="module")
def profiles(source):
    return build_profiles(source)


@pytest.fixture(scope="module")
def build(profiles, tokenizer):
    """`build(source, **rules)`: its pairs by `RULES` with some changed."""
    return lambda source, **rules: build_preference_pairs(
        source, profiles, tokenizer, dataclasses.replace(RULES, **rules), progress=False
    )


@pytest.fixture(scope="module")
def pairs(source, build):
    return build(source)


@pytest.fixture(scope="module")
def survey():
    return odd_survey()


@pytest.fixture(scope="module")
def answered(survey, tokenizer):
    profiles = build_profiles(survey)
    return profiles, build_survey_tokens(survey.questions, profiles, tokenizer, "dpo")


def whole_chat(tokenizer, messages, reply):
    """Tokens up to the end of the reply, and where it starts: by the text before it."""
    ids, mask = tokenizer.supervised_tokens([*messages, {"role": "assistant", "content": reply}])
    end = int(np.flatnonzero(mask)[-1]) + 1
    first = end
    while first and mask[first - 1]:
        first -= 1
    return ids[:end], first


def test_a_batch_holds_the_chats_of_its_pairs_and_supervises_their_last_turn_only(source, profiles, tokenizer, pairs):
    made = preference_pairs(source)
    assert len(pairs) == len(made) > 40
    batcher = PairBatcher(pairs, np.arange(len(pairs)), np.ones(len(pairs)), BUCKETS)
    rng = np.random.default_rng(0)
    later = 0
    for p in rng.choice(len(made), 12, replace=False):
        batch = batcher.batch(np.array([p]), int(batcher.bucket_N[p]))
        messages, *replies = pair_messages(source, made, p)
        later += len(messages) > 1
        person = source.conversations["person"].iloc[pairs.row_P[p]]
        text = conversation_system_message(profile_text(profiles, profiles.profile_R[person]))
        assert batch["profile"] == [profiles.profile_R[person]]
        for side, reply in enumerate(replies):
            ids, first = whole_chat(tokenizer, [{"role": "system", "content": text}, *messages], reply)
            length, count = int(batch["lengths"][0, side]), len(ids) - first
            assert length == len(ids) - 1
            assert batch["tokens"][0, side, :length].tolist() == ids[:-1]
            assert (batch["tokens"][0, side, length:] == tokenizer.pad_id).all()
            weight_S = batch["label_weight"][0, side]
            assert weight_S.tolist() == [1.0] * count + [0.0] * (len(weight_S) - count)
            assert batch["labels"][0, side, :count].tolist() == ids[first:]
            assert batch["positions"][0, side, :count].tolist() == list(range(first - 1, len(ids) - 1))
            assert tokenizer.decode(ids[first:]) == f"{reply}<|im_end|>"
    assert later
    assert len(pairs.replies.profile_X) < 2 * len(pairs)  # a reply of several pairs is tokenised once


def test_rows_of_a_batch_do_not_depend_on_each_other_and_padding_weighs_nothing(pairs):
    batcher = PairBatcher(pairs, np.arange(len(pairs)), np.ones(len(pairs)), BUCKETS, np.arange(999, dtype=np.float32))
    one, two = batcher.batch(np.array([3, 8, 8]), 1, real=2), batcher.batch(np.array([8, 1]), 1)
    for name in one.keys() - {"weight"}:
        np.testing.assert_array_equal(one[name][1], two[name][0])
    assert one["weight"].tolist() == [1, 1, 0]
    np.testing.assert_array_equal(one["reference_logp"], pairs.reply_P2[[3, 8, 8]])
    single = ReplyBatcher(pairs.replies, pairs.reply_P2[8], BUCKETS).batch(np.array([0, 1]), 1)
    for name in single.keys() - {"weight", "profile"}:
        width = min(single[name].shape[-1], two[name].shape[-1])
        np.testing.assert_array_equal(single[name][..., :width], two[name][0][..., :width])


def test_tokens_are_kept_in_a_file(source, profiles, tokenizer, pairs, tmp_path):
    path = tmp_path / "pairs.npz"
    build_preference_pairs(source, profiles, tokenizer, RULES, False, path)
    again = build_preference_pairs(source, profiles, None, RULES, False, path)  # nothing is tokenised
    for field in dataclasses.fields(TextReplyTokens):
        np.testing.assert_array_equal(getattr(again.replies, field.name), getattr(pairs.replies, field.name))
    np.testing.assert_array_equal(again.reply_P2, pairs.reply_P2)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CumaError, match="delete it"):
        build_preference_pairs(source, profiles, tokenizer, RULES, False, path)


def test_pairs_that_are_too_long_are_an_error_or_left_out_and_counted(source, build, pairs):
    limit = int(np.sort(pairs.fed_P)[len(pairs) // 2])
    with pytest.raises(CumaError, match=r"conversation .* tokens, more than data.max_length"):
        build(source, max_length=limit)
    some = build(source, max_length=limit, too_long="skip")
    assert some.fed_P.max() <= limit
    assert len(some) == (pairs.fed_P <= limit).sum()
    assert some.notes == {TOO_LONG: len(pairs) - len(some)}
    with pytest.raises(CumaError, match=f"no pair is left: {TOO_LONG}"):
        build(source, max_length=3, too_long="skip")


def test_pairs_with_equal_sides_are_an_error_or_left_out_and_none_at_all_are_one(source, build, pairs):
    rows = source.turns.to_pylist()
    alone = [row | {"candidates": row["candidates"][:1], "chosen": 0} for row in rows]
    with pytest.raises(CumaError, match="no pairs for the objective dpo"):
        build(dataclasses.replace(source, turns=pa.Table.from_pylist(alone, source.turns.schema)))
    rows[0]["candidates"][0] = " " + rows[0]["candidates"][1] + "\n"  # equal once white space at the ends is gone
    rows[0]["chosen"] = 0
    broken = dataclasses.replace(source, turns=pa.Table.from_pylist(rows, source.turns.schema))
    with pytest.raises(CumaError, match="sides are equal"):
        build(broken)
    some = build(broken, bad_rows="skip")
    assert some.notes == {EQUAL: 1}
    assert len(some) == len(pairs) - 1


def test_an_answer_is_compared_with_another_option_of_its_question(survey, tokenizer, answered):
    profiles, pieces = answered
    pairs = build_survey_pairs(survey, profiles, pieces, seed=1)
    template_P2 = pairs.replies.template_X[pairs.reply_P2]
    question_A, option_A = survey.question_A, survey.option_A
    np.testing.assert_array_equal(pairs.row_P, np.arange(survey.num_answers))
    np.testing.assert_array_equal(template_P2[:, 0], pieces.template_QO[question_A, option_A])
    assert (template_P2[:, 0] != template_P2[:, 1]).all()
    sizes = np.array([len(q.options) for q in survey.questions])
    drawn = collections.Counter()
    for p in range(len(pairs)):
        options = pieces.template_QO[question_A[p], : sizes[question_A[p]]].tolist()
        distance = (options.index(template_P2[p, 1]) - option_A[p]) % len(options)
        drawn[len(options), distance] += 1
    for size in set(sizes):
        counts = [drawn[size, distance] for distance in range(1, size)]
        assert sum(counts) == (sizes[question_A] == size).sum()
        assert max(counts) < 1.3 * min(counts) + 20  # every other option is drawn alike
    batch = PairBatcher(pairs, np.array([7]), np.ones(1), Buckets((1024,))).batch(np.array([0]), 0)
    length = int(batch["lengths"][0, 1])
    letter = tokenizer.decode([int(batch["labels"][0, 1, 0])])
    assert letter in "ABCDEFGHIJ"
    assert letter != tokenizer.decode([int(batch["labels"][0, 0, 0])])
    assert batch["tokens"][0, 1, length - 1] == batch["labels"][0, 1, 0]
    assert batch["labels"][0, 1, 1] == tokenizer.end_of_turn_id
    assert batch["positions"][0, 1].tolist() == [length - 2, length - 1]


def test_which_option_is_drawn_depends_on_the_ids_and_the_seed_alone(survey, answered):
    profiles, pieces = answered
    whole = build_survey_pairs(survey, profiles, pieces, seed=1)
    some_A = np.random.default_rng(0).random(survey.num_answers) < 0.3
    part = build_survey_pairs(survey.with_answers(some_A), profiles, pieces, seed=1)
    other = build_survey_pairs(survey, profiles, pieces, seed=2)

    def templates(pairs):
        return pairs.replies.template_X[pairs.reply_P2]

    np.testing.assert_array_equal(templates(part), templates(whole)[some_A])
    assert 0.3 < (templates(other)[:, 1] != templates(whole)[:, 1]).mean() < 0.95
