"""The training stream: a function of (seed, step), whoever reads it and from where. Shapes: N rows, B batch."""

import dataclasses

import numpy as np
import pytest

from cuma_jax.data.batches import Buckets, Rows, SurveyBatcher, fitting_rows, plan_hidden_cache
from cuma_jax.data.pipeline import TrainBatches, epoch_steps, in_order, stream
from cuma_jax.data.survey_tokens import SurveyTokens
from cuma_jax.runtime.errors import CumaError

SIZES = (2, 3, 4)
LENGTHS = (5, 9, 14)
BUCKETS = Buckets((6, 10, 16))
GOLDEN_ROWS = [(2, [39, 14, 31, 15, 45, 52, 52, 55]), (2, [24, 52, 56, 14, 17, 39, 4, 45])]
"""The first two batches of `make_batcher()`, 8 rows by mass, seed 5."""


def make_tokens(objective="choice"):
    """Three questions of three lengths; tokens are the question's number and the place."""
    templates = [np.arange(n, dtype=np.int32) + 100 * q for q, n in enumerate(LENGTHS)]
    return SurveyTokens(
        templates=tuple(templates),
        template_QO=np.repeat(np.arange(3, dtype=np.int32)[:, None], 4, axis=1),
        labels_MS=np.array([[1], [2], [3]], np.int32),
        option_ids_QO=np.arange(12, dtype=np.int32).reshape(3, 4),
        system=(),
        pad_id=-7,
    )


def make_batcher(seed=0, count=60, cached=False):
    rng = np.random.default_rng(seed)
    rows = Rows(
        profile_N=rng.integers(0, 11, count).astype(np.int32),
        question_N=rng.integers(0, 3, count).astype(np.int32),
        option_N=np.zeros(count, np.int32),
        target_NO=None,
        mass_N=rng.uniform(0.1, 3, count),
    )
    tokens, none = make_tokens(), np.zeros(0, np.int32)
    kept = plan_hidden_cache(tokens, BUCKETS, 1024, none, none) if cached else None
    return SurveyBatcher(rows, tokens, SIZES, "choice", BUCKETS, 1024, kept)


def source(steps=20, seed=5, local=slice(0, 8), batcher=None, order="weighted"):
    if order == "few questions":
        return TrainBatches(question_batcher(), 8, steps, seed, local, "weighted", 3)
    return TrainBatches(make_batcher() if batcher is None else batcher, 8, steps, seed, local, order)


orders = pytest.mark.parametrize("order", ["weighted", "few questions", "epochs"])


def equal(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


@orders
def test_a_batch_is_a_function_of_seed_and_step(order):
    one, two = source(order=order), source(steps=500, order=order)
    for step in (0, 7, 19, 3):  # any order, back into an earlier epoch as well
        (a, batch_a), (b, batch_b) = one[step], two[step]
        assert a == b
        equal(batch_a, batch_b)
    assert any((one[s][1]["profile"] != source(seed=6, order=order)[s][1]["profile"]).any() for s in range(5))
    assert any((one[s][1]["profile"] != one[s + 1][1]["profile"]).any() for s in range(5))


@orders
@pytest.mark.parametrize(
    "places",
    [
        [slice(0, 4), slice(4, 8)],
        [slice(i, i + 2) for i in range(0, 8, 2)],
        [np.array([0, 1, 4, 5]), np.array([2, 3, 6, 7])],
    ],
    ids=["two", "four", "not side by side"],  # the last as on a TPU slice
)
def test_every_process_reads_its_rows_of_the_same_global_batch(places, order):
    whole, parts = source(order=order), [source(local=rows, order=order) for rows in places]
    for step in range(17):
        bucket, batch = whole[step]
        for part, rows in zip(parts, places, strict=True):
            same, own = part[step]
            assert same == bucket
            equal(own, {name: values[rows] for name, values in batch.items()})


@orders
def test_the_stream_resumes_at_any_step_with_the_same_batches(order):
    whole = list(stream(source(order=order), 0))
    assert len(whole) == 20
    for start in (0, 1, 13, 19):
        rest = list(stream(source(order=order), start))
        assert len(rest) == 20 - start
        for (a, batch_a), (b, batch_b) in zip(whole[start:], rest, strict=True):
            assert a == b
            equal(batch_a, batch_b)


def test_a_row_takes_the_shortest_bucket_that_holds_it():
    for step in range(20):
        bucket, batch = source()[step]
        width = BUCKETS.lengths[bucket]
        assert batch["tokens"].shape == (8, width)
        assert (batch["lengths"] <= width).all()
        assert bucket == 0 or (batch["lengths"] > BUCKETS.lengths[bucket - 1]).all()
        for tokens_T, length in zip(batch["tokens"], batch["lengths"], strict=True):
            assert (tokens_T[length:] == -7).all()
            assert (tokens_T[:length] >= 0).all()
        np.testing.assert_array_equal(batch["positions"][:, 0], batch["lengths"] - 1)


@pytest.mark.parametrize("limits", [{"max_length": 12}, {"max_length": 1024, "buckets": Buckets((6, 10))}])
def test_a_row_that_is_too_long_is_one_message(limits):
    batcher = make_batcher()
    with pytest.raises(
        CumaError, match=r"number 2 .* 14 tokens, more than the 1[02] allowed; set data\.max_length to 64 "
    ):
        SurveyBatcher(
            batcher.rows, make_tokens(), SIZES, "choice", limits.get("buckets", BUCKETS), limits["max_length"], None
        )


def test_rows_that_are_too_long_may_be_left_out_and_are_counted():
    rows = make_batcher().rows
    tokens = dataclasses.replace(make_tokens(), question_ids=("a", "b", "c"))
    index = rows.profile_N, rows.question_N, rows.option_N
    fits_N, left_out = fitting_rows(tokens, *index, 12, "skip")
    np.testing.assert_array_equal(fits_N, rows.question_N != 2)
    assert left_out == {"question c: longer than 12 tokens": int((~fits_N).sum())}
    fits_N, left_out = fitting_rows(tokens, *index, 14, "error")
    assert fits_N.all()
    assert not left_out


def test_a_text_with_a_profile_is_kept_once_and_found_again():
    system = tuple(np.full(n, 7, np.int32) for n in (1, 2, 3, 1))
    tokens = dataclasses.replace(make_tokens(), system=system)
    profile_N, template_N = np.array([3, 0, 3, 1, 0, 3]), np.array([1, 0, 1, 1, 2, 0])
    kept = plan_hidden_cache(tokens, BUCKETS, 1024, profile_N, template_N)
    pairs = sorted(set(zip(profile_N.tolist(), template_N.tolist(), strict=True)))
    assert list(zip(kept.profile_K.tolist(), kept.template_K.tolist(), strict=True)) == pairs
    places = {}
    for k, (profile, template) in enumerate(pairs):
        bucket = BUCKETS.of(tokens.lengths(np.array([profile]), np.array([template])), 1024)[0]
        assert kept.bucket_K[k] == bucket
        assert (bucket, kept.slot_K[k]) not in places
        places[bucket, int(kept.slot_K[k])] = k
        assert kept.slots(np.array([profile]), np.array([template]))[0] == kept.slot_K[k]
    with pytest.raises(ValueError, match="not cached"):
        kept.slots(np.array([2]), np.array([0]))
    short = plan_hidden_cache(make_tokens(), BUCKETS, 12, np.zeros(0, np.int32), np.zeros(0, np.int32))
    np.testing.assert_array_equal(short.bucket_K, [0, 1, -1])  # what is too long is in no table


def test_in_the_long_run_a_row_is_drawn_as_often_as_its_mass_says():
    batcher, drawn = make_batcher(), np.zeros(60)
    batches = source(batcher=batcher)
    steps = 6000
    for step in range(steps):
        np.add.at(drawn, batches.draw(step)[1], 1)
    expected = batcher.rows.mass_N / batcher.rows.mass_N.sum()
    # Rows of a batch share a bucket: its number is drawn once a batch, which is what widens the error.
    np.testing.assert_allclose(drawn / drawn.sum(), expected, atol=4 * np.sqrt(expected.max() / steps))
    assert np.corrcoef(drawn, expected)[0, 1] > 0.98


def of_epoch(batches, epoch, steps):
    """(bucket, rows) of every batch of an epoch."""
    return [batches.draw(step) for step in range(epoch * steps, (epoch + 1) * steps)]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("count", [5, 60, 64, 61])
def test_an_epoch_holds_every_row_once_and_epochs_differ(count, cached):
    batcher = make_batcher(count=count, cached=cached)
    batches, steps = source(batcher=batcher, order="epochs"), epoch_steps(batcher, 8)
    epochs = [of_epoch(batches, epoch, steps) for epoch in range(3)]
    for epoch in epochs:
        rows = np.concatenate([rows for _, rows in epoch])
        np.testing.assert_array_equal(np.sort(rows), np.arange(count))
        for bucket, rows in epoch:
            if cached:  # the tables of hidden states are by bucket
                assert (batcher.bucket_N[rows] == bucket).all()
            else:
                assert batcher.bucket_N[rows].max() == bucket
        short = [i for i, (_, rows) in enumerate(epoch) if len(rows) < 8]
        assert short == list(range(steps - len(short), steps))
        assert len(short) <= (len(set(batcher.bucket_N)) if cached else 1)
    if not cached:
        assert steps == -(-count // 8)
    orders_ = [np.concatenate([rows for _, rows in epoch]).tolist() for epoch in epochs]
    assert orders_[0] != orders_[1] != orders_[2]
    if count > 5:  # not bucket after bucket
        assert [bucket for bucket, _ in epochs[0]] != sorted(bucket for bucket, _ in epochs[0])


def test_only_the_last_batch_of_an_epoch_has_rows_of_no_weight():
    batcher = make_batcher(count=61)
    batches = source(batcher=batcher, order="epochs")
    for step in range(16):
        weight_B, rows = batches[step][1]["weight"], batches.draw(step)[1]
        np.testing.assert_array_equal(weight_B, np.arange(8) < (5 if step % 8 == 7 else 8))
        np.testing.assert_array_equal(batches[step][1]["profile"][: len(rows)], batcher.rows.profile_N[rows])


def question_batcher(questions=9, count=120):
    """Nine questions in two buckets, of unlike masses; question 0 is more than a quarter of its bucket."""
    rng = np.random.default_rng(3)
    lengths = [5, 5, 9, 5, 9, 5, 5, 9, 5]
    tokens = dataclasses.replace(
        make_tokens(),
        templates=tuple(np.full(n, 100 * q, np.int32) for q, n in enumerate(lengths)),
        template_QO=np.repeat(np.arange(questions, dtype=np.int32)[:, None], 4, axis=1),
        labels_MS=np.ones((questions, 1), np.int32),
        option_ids_QO=np.ones((questions, 4), np.int32),
    )
    question_N = rng.integers(0, questions, count).astype(np.int32)
    mass_N = rng.uniform(0, 1, count) * np.where(question_N == 0, 6.0, 1.0)
    mass_N[::17] = 0.0
    rows = Rows(np.arange(count, dtype=np.int32), question_N, np.zeros(count, np.int32), None, mass_N)
    return SurveyBatcher(rows, tokens, (4,) * questions, "choice", BUCKETS, 1024, None)


@pytest.mark.parametrize("batch_size", [8, 9])
def test_few_questions_share_a_batch_and_rows_are_drawn_by_their_masses(batch_size):
    batcher, steps = question_batcher(), 3_000
    batches = TrainBatches(batcher, batch_size, steps, 5, slice(0, batch_size), "weighted", 4)
    drawn_N, many = np.zeros(len(batcher)), []
    for step in range(steps):
        bucket, index = batches.draw(step)
        assert (batcher.bucket_N[index] == bucket).all()
        np.add.at(drawn_N, index, 1)
        many.append(len(set(batcher.question_N[index].tolist())))
    share_N = batcher.mass_N / batcher.mass_N.sum()
    assert not drawn_N[share_N == 0].any()
    # Questions come in lots, so a row's count varies more than a draw of its own would: up to twice as much here.
    sigma_N = 2 * np.sqrt(share_N / (steps * batch_size))
    assert (np.abs(drawn_N / drawn_N.sum() - share_N) < 4.5 * sigma_N + 1e-9).all()
    assert set(many) <= {2, 3, 4}
    assert np.mean(many) > 2.5  # one bucket has three questions, and the other one that may take two places
    if batch_size == 8:  # each of the four places is two rows: a question's places are its share of four, rounded
        bucket, index = batches.draw(0)
        in_bucket_N = batcher.bucket_N == bucket
        for q in np.unique(batcher.question_N[in_bucket_N]):
            share = 4 * share_N[in_bucket_N & (batcher.question_N == q)].sum() / share_N[in_bucket_N].sum()
            assert (batcher.question_N[index] == q).sum() / 2 in (np.floor(share), np.ceil(share))
    plain = TrainBatches(batcher, batch_size, 200, 5, slice(0, batch_size))
    assert np.mean([len(set(batcher.question_N[plain.draw(s)[1]].tolist())) for s in range(200)]) > np.mean(many)
    assert [plain.draw(s)[0] for s in range(200)] == [batches.draw(s)[0] for s in range(200)]


def test_no_questions_per_batch_is_the_stream_as_it_was():
    """Rows of the first steps, as they were drawn before there was this setting."""
    batches = TrainBatches(make_batcher(), 8, 5, 5, slice(0, 8), "weighted", 0)
    assert [(bucket, rows.tolist()) for bucket, rows in map(batches.draw, range(2))] == GOLDEN_ROWS


def test_nothing_to_draw_is_one_message():
    batcher = make_batcher()
    batcher.rows.mass_N[:] = 0
    with pytest.raises(CumaError, match="all masses are zero"):
        source(batcher=batcher)
    with pytest.raises(CumaError, match="no training rows"):
        source(batcher=make_batcher(count=0))


@pytest.mark.parametrize("processes", [1, 2])
def test_in_order_visits_every_row_once(processes):
    batcher, rows = make_batcher(count=61), 8 // processes
    visited = [0] * 61
    locals_ = [slice(p * rows, (p + 1) * rows) for p in range(processes)]
    for parts in zip(*(in_order(batcher, 8, local) for local in locals_), strict=True):
        index, bucket = parts[0][0], parts[0][1]
        batch = {k: np.concatenate([part[2][k] for part in parts]) for k in parts[0][2]}
        for row in index:
            visited[row] += 1
            assert batcher.bucket_N[row] == bucket
        np.testing.assert_array_equal(batch["profile"][: len(index)], batcher.rows.profile_N[index])
        np.testing.assert_array_equal(batch["weight"], np.arange(8) < len(index))
    assert visited == [1] * 61


def test_cached_batches_name_the_place_of_their_question_in_the_buckets_table():
    plain, cached = source(), source(batcher=make_batcher(cached=True))
    for step in range(6):
        (bucket, batch), (same, named) = plain[step], cached[step]
        assert bucket == same
        assert "tokens" not in named
        # One question a bucket here, so every place is 0.
        assert (named["template"] == 0).all()
        equal({k: v for k, v in batch.items() if k != "tokens"}, {k: v for k, v in named.items() if k != "template"})
