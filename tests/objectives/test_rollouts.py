"""Replies as they are written, scored and laid out: the update's log-probabilities are the writer's, however rows are
laid out, and the same step writes the same replies."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from conftest import changed

from cuma_jax.objectives.grpo.policy import reply_logps, reply_sums
from cuma_jax.objectives.grpo.rollouts import Rewarded, Rollouts, distinct_texts
from cuma_jax.rewards import Scores
from cuma_jax.run.forward import Model
from cuma_jax.run.rows import rows_of
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import put_batch

pytestmark = pytest.mark.slow
SAMPLES, PROMPTS, MOST, TEMPERATURE = 4, 2, 5, 0.7
close = functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-5)


@pytest.fixture(scope="module")
def run(debug_config, run_on):
    return run_on(
        changed(
            debug_config,
            objective={"name": "grpo"},
            grpo={"samples": SAMPLES},
            sampling={"max_new_tokens": MOST, "temperature": TEMPERATURE},
            reward={"survey": 1.0},
            train={"batch_size": PROMPTS * SAMPLES},
        )
    )


class Lengths:
    """A reward that knows what it was given."""

    failing = ()

    def score(self, samples):
        self.seen = list(samples)
        values = [np.nan if n in self.failing else float(len(s.tokens)) for n, s in enumerate(samples)]
        return Scores(np.array(values), {"x": 3.0}, "no answer")


@pytest.fixture(scope="module")
def rollouts(run):
    return Rollouts(run, Lengths())


@pytest.fixture(scope="module")
def written(run, rollouts, random_adapters):
    prompts = rows_of(run, "train")
    batch = prompts.batch(np.array([7, 7]), 0)  # one prompt twice
    adapters = random_adapters(run)
    with jax.set_mesh(run.mesh), jax.transfer_guard("disallow"):
        return prompts, batch, adapters, rollouts.write(adapters, 0, batch, 3)


def test_a_step_writes_the_same_again_and_another_step_or_place_does_not(rollouts, written):
    _, batch, adapters, first = written
    with jax.set_mesh(rollouts._run.mesh):
        again, other = (rollouts.write(adapters, 0, batch, step) for step in (3, 4))
    np.testing.assert_array_equal(again.tokens_BN, first.tokens_BN)
    np.testing.assert_array_equal(again.logp_BN, first.logp_BN)
    assert not np.array_equal(other.tokens_BN, first.tokens_BN)
    assert len(np.unique(first.tokens_BN, axis=0)) == PROMPTS * SAMPLES
    np.testing.assert_array_equal(first.group_B, np.repeat([0, 1], SAMPLES))


def test_rewards_see_what_was_written(run, rollouts, written):
    prompts, batch, _, first = written
    rewarded = rollouts.score(first, prompts, 3)
    for b, sample in enumerate(rollouts._reward.seen):
        prompt = prompts.prompt(7)
        assert sample.question == prompt.question == prompts.rows.question_N[7]
        assert sample.profile_row == batch["profile"][b // SAMPLES]
        assert sample.tokens == tuple(first.tokens_BN[b, : first.length_B[b]].tolist())
        assert sample.messages[0]["content"].startswith(run.survey.questions[sample.question].text)
        assert run.profiles.values(sample.profile_row)["country"] in sample.profile
        assert sample.option == -1
    assert rewarded.figures == {"reward": np.mean(first.length_B), "x": 3.0}


def test_a_reply_without_a_reward_is_counted_and_one_too_many_stops_training(rollouts, written, monkeypatch):
    prompts, _, _, first = written
    monkeypatch.setattr(rollouts._reward, "failing", (2,))
    with pytest.raises(CumaError, match=r"at step 3 1 of 8 replies have no reward, .*max_failed 0.1 .*\(no answer\)"):
        rollouts.score(first, prompts, 3)
    config = changed(rollouts._run.config, reward={"max_failed": 0.2})
    monkeypatch.setattr(rollouts, "_run", dataclasses.replace(rollouts._run, config=config))
    rewarded = rollouts.score(first, prompts, 3)
    assert np.flatnonzero(np.isnan(rewarded.value_B)).tolist() == [2]
    assert rewarded.figures["reward"] == np.mean(np.delete(first.length_B, 2))


def test_an_option_is_its_letter_and_the_end_of_the_turn_and_nothing_else(run):
    prompts, end = rows_of(run, "train"), run.tokenizer.end_of_turn_id
    row = int(np.flatnonzero(prompts.rows.question_N == 1)[0])  # three options
    letter = {name: run.tokenizer.encode(name)[0] for name in "ABCD"}
    assert [prompts.option(row, [letter[x], end], end) for x in "ABC"] == [0, 1, 2]
    for wrong in (
        [letter["D"], end],
        [letter["A"]],
        [end],
        [letter["A"], letter["A"], end],
        [letter["A"], letter["B"]],
    ):
        assert prompts.option(row, wrong, end) == -1


def test_groups_that_only_fill_a_step_up_are_not_written(rollouts, written, run):
    prompts, _, adapters, _ = written
    batch = prompts.batch(np.array([7, 7]), 0, real=1)
    with jax.set_mesh(run.mesh):
        found = rollouts.write(adapters, 0, batch, 3)
    assert (found.length_B > 0).tolist() == [True] * SAMPLES + [False] * SAMPLES
    assert len(rollouts.samples(found, prompts)) == SAMPLES


def laid_out(rollouts, written, each, monkeypatch):
    """Rows of `each` replies; hidden states that were kept are used where replies share a row."""
    _, batch, _, first = written
    assert first.below is not None
    first = dataclasses.replace(first, below=first.below if each > 1 else None)
    monkeypatch.setattr(rollouts, "replies_per_row", lambda width: each)
    value_B = np.where(np.arange(len(first.length_B)) == 2, np.nan, np.linspace(0, 1, len(first.length_B)))
    rows = rollouts.rows(batch, first, Rewarded(value_B, {}))
    if first.below is not None:
        rows["below"] = np.asarray(first.below)[rows.pop("source")]
    return rows


@pytest.mark.parametrize("each", [1, SAMPLES])
def test_log_probabilities_of_an_update_are_those_of_the_writer(run, rollouts, written, each, monkeypatch):
    """With a cache or without, each reply in a row of its own or all of a group behind one prompt."""
    rows, adapters = laid_out(rollouts, written, each, monkeypatch), written[2]
    step = jax.jit(lambda *parts: reply_logps(TEMPERATURE, Model(run.decoder, *parts[:3]), parts[3]))
    with jax.set_mesh(run.mesh):
        placed = put_batch(rows, run.mesh)
        logp, _ = step(run.base, adapters, run.training.tables[0], placed)
    used = rows["label_weight"].reshape(logp.shape) > 0
    assert used.sum() == written[3].length_B.sum()
    np.testing.assert_allclose(np.asarray(logp)[used], rows["old_logp"][used], atol=2e-4)
    assert rows["valid"].sum() == PROMPTS * SAMPLES - 1


def test_replies_that_share_a_row_have_the_loss_and_gradient_of_rows_of_their_own(run, rollouts, written, monkeypatch):
    found = {}
    for each in (1, SAMPLES):
        rows = laid_out(rollouts, written, each, monkeypatch)
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(PROMPTS * SAMPLES, MOST)).reshape(rows["old_logp"].shape) * 0.3
        advantage = rng.normal(size=PROMPTS * SAMPLES).reshape(rows["valid"].shape)
        rows |= {
            "old_logp": (rows["old_logp"] + noise).astype(np.float32),
            "reference_logp": (rows["old_logp"] - noise).astype(np.float32),
            "advantage": advantage.astype(np.float32),
        }
        config = changed(run.config, grpo={"kl": 0.1})

        def loss(adapters, base, tables, batch, config=config):
            return reply_sums(config, Model(run.decoder, base, adapters, tables), batch, None).objective["loss"].mean()

        with jax.set_mesh(run.mesh):
            placed = put_batch(rows, run.mesh)
            graded = jax.jit(jax.value_and_grad(loss))
            found[each] = jax.device_get(graded(written[2], run.base, run.training.tables[0], placed))
    assert found[1][0] == pytest.approx(found[SAMPLES][0], rel=1e-4)
    jax.tree.map(close, found[1][1], found[SAMPLES][1])
    assert max(float(np.abs(g).max()) for g in jax.tree.leaves(found[1][1])) > 1e-3


def test_texts_that_are_alike_are_one():
    tokens = np.array([[3, 1], [2, 2], [3, 1], [2, 2], [2, 2], [9, 9]])
    text_UT, text_M = distinct_texts(tokens)
    assert len(text_UT) == 4  # three, filled up
    np.testing.assert_array_equal(text_UT[text_M], tokens)
    assert len(distinct_texts(tokens[:3])[0]) == 2
    assert len(distinct_texts(np.arange(6).reshape(3, 2))[0]) == 3
