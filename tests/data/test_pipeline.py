"""The training stream: a function of (seed, step), whoever reads it and from where. Shapes: N rows, B batch."""

import itertools

import numpy as np
import pytest

from cuma_jax.data.batches import Batcher, Buckets, Rows
from cuma_jax.data.pipeline import TrainBatches, answer_rows, cell_rows, in_order, stream, validation_batches
from cuma_jax.data.tokens import RowTokens
from cuma_jax.errors import CumaError
from cuma_jax.surveys.cells import build_cells
from cuma_jax.surveys.invented import make_invented
from cuma_jax.surveys.profiles import build_profiles

SIZES = (2, 3, 4)
LENGTHS = (5, 9, 14)
BUCKETS = Buckets((6, 10, 16))


def make_tokens(objective="choice"):
    """Three questions of three lengths; tokens are the question's number and the place."""
    templates = [np.arange(n, dtype=np.int32) + 100 * q for q, n in enumerate(LENGTHS)]
    return RowTokens(
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
    return Batcher(rows, make_tokens(), SIZES, "choice", BUCKETS, 1024, cached)


def source(steps=20, seed=5, local=slice(0, 8), batcher=None):
    return TrainBatches(make_batcher() if batcher is None else batcher, 8, steps, seed, local)


def equal(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_a_batch_is_a_function_of_seed_and_step():
    one, two = source(), source(steps=500)
    for step in (0, 7, 3, 19):  # any order
        (a, batch_a), (b, batch_b) = one[step], two[step]
        assert a == b
        equal(batch_a, batch_b)
    assert any((one[s][1]["profile"] != source(seed=6)[s][1]["profile"]).any() for s in range(5))
    assert any((one[s][1]["profile"] != one[s + 1][1]["profile"]).any() for s in range(5))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_together_read_the_same_global_batch(processes):
    whole, rows = source(), 8 // processes
    parts = [source(local=slice(p * rows, (p + 1) * rows)) for p in range(processes)]
    for step in range(6):
        bucket, batch = whole[step]
        found = [part[step] for part in parts]
        assert {b for b, _ in found} == {bucket}
        equal({k: np.concatenate([f[k] for _, f in found]) for k in batch}, batch)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_the_stream_resumes_at_any_step_with_the_same_batches(prefetch):
    whole = list(stream(source(), 0, prefetch))
    assert len(whole) == 20
    for start in (0, 1, 13, 19):
        rest = list(stream(source(), start, prefetch))
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
    with pytest.raises(CumaError, match=r"14 tokens, more than the 1[02] allowed; raise data\.max_length"):
        Batcher(
            batcher.rows, make_tokens(), SIZES, "choice", limits.get("buckets", BUCKETS), limits["max_length"], False
        )


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


def test_validation_batches_are_fixed():
    one, two = (validation_batches(make_batcher(), 8, 3, 1, slice(0, 8)) for _ in range(2))
    for (a, batch_a), (b, batch_b) in zip(one, two, strict=True):
        assert a == b
        equal(batch_a, batch_b)


def test_no_training_rows_is_one_message():
    batcher = make_batcher(count=0)
    with pytest.raises(CumaError, match="no training rows"):
        source(batcher=batcher)


@pytest.fixture(scope="module")
def survey():
    survey = make_invented()
    return survey, build_profiles(survey)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("build", [cell_rows, answer_rows])
def test_a_question_weighs_its_number_of_answers_to_the_power(survey, build, power):
    survey, profiles = survey
    rng = np.random.default_rng(0)
    # Questions with different numbers of answers.
    mask_A = rng.random(len(survey.question_A)) < np.array([0.9, 0.2, 0.5, 0.7, 0.1])[survey.question_A]
    rows = build(survey, profiles, mask_A, power)
    for q in range(5):
        answers = (survey.question_A[mask_A] == q).sum()
        np.testing.assert_allclose(rows.mass_N[rows.question_N == q].sum(), answers**power)


def test_cells_weigh_the_root_of_their_n_within_a_question(survey):
    survey, profiles = survey
    mask_A = np.ones(len(survey.question_A), bool)
    rows, cells = cell_rows(survey, profiles, mask_A, 0.5), build_cells(survey, profiles, mask_A)
    for q in range(5):
        of_q = cells.question_N == q
        ratio = rows.mass_N[of_q] / np.sqrt(cells.count_N[of_q])
        np.testing.assert_allclose(ratio, ratio[0])


def test_answer_rows_are_the_answers(survey):
    survey, profiles = survey
    mask_A = np.random.default_rng(1).random(len(survey.question_A)) < 0.3
    rows = answer_rows(survey, profiles, mask_A, 0.5)
    assert len(rows) == mask_A.sum()
    for n, a in itertools.islice(enumerate(np.flatnonzero(mask_A)), 50):
        assert rows.profile_N[n] == profiles.profile_R[survey.respondent_A[a]]
        assert (rows.question_N[n], rows.option_N[n]) == (survey.question_A[a], survey.option_A[a])
