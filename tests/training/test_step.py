"""The gradient of a batch is one thing, however it is cut up and wherever its lower layers are computed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import changed
from same import same_step

from cuma_jax.run.forward import Model
from cuma_jax.run.layouts import hidden_cache

close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-6)


@pytest.fixture(scope="module")
def batch(debug_run, train_batches):
    """One batch whose rows weigh differently, so that a mean of means would be wrong."""
    bucket, batch = train_batches(debug_run)[0]
    weight_B = np.random.default_rng(0).choice([0.0, 1.0, 2.0], 16).astype(np.float32)
    return bucket, batch | {"weight": weight_B}


@pytest.fixture(scope="module")
def whole(debug_run, random_adapters, loss_and_gradients, batch):
    return loss_and_gradients(debug_run, random_adapters(debug_run), batch[1], batch[0])


@pytest.mark.slow
def test_micro_batches_match_full_batch(debug_run, random_adapters, loss_and_gradients, batch, whole):
    """Every metric and every gradient; the lengths differ, so the balance loss of a part is not that of the whole."""
    adapters = random_adapters(debug_run)
    assert len(set(batch[1]["lengths"])) > 1
    found = loss_and_gradients(debug_run, adapters, batch[1], batch[0], micro_batches=4)
    assert found[0].keys() == whole[0].keys() >= {"loss", "balance", "accuracy", "total"}
    same_step(found, whole, close, rtol=1e-5)


def test_the_total_is_the_loss_plus_its_share_of_balance(debug_run, whole):
    metrics, share = whole[0], debug_run.config.objective.balance
    assert share > 0
    np.testing.assert_allclose(metrics["total"], metrics["loss"] + share * metrics["balance"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("sections", [{}, {"profile": {"in_prompt": True}, "train": {"steps": 200}}])
def test_question_cache_equals_the_full_computation(
    sections, debug_config, run_on, random_adapters, loss_and_gradients, train_batches
):
    """In values and gradients, for the same rows, also of texts with profiles; no table is larger than its rows."""
    config = changed(debug_config, **sections)
    kept, full = run_on(config), run_on(changed(config, train={"question_cache": "off"}))
    assert kept.training.cached
    assert full.training.tables[0].hidden_MTD is None
    (bucket, batch), (same_bucket, same) = train_batches(kept)[0], train_batches(full)[0]
    assert bucket == same_bucket
    assert "template" in batch
    assert "tokens" in same
    np.testing.assert_array_equal(batch["profile"], same["profile"])
    one, other = (loss_and_gradients(a, random_adapters(a), rows, bucket) for a, rows in ((kept, batch), (full, same)))
    same_step(other, one, close, rtol=1e-5)
    few = changed(config, train={"steps": 1})
    in_few = hidden_cache(few, kept.decoder, kept.training.tokens, kept.survey, kept.profiles)
    assert (in_few is None) == bool(sections)


def test_question_cache_is_used_exactly_where_it_is_exact(debug_run, debug_config):
    a = debug_run

    def used(config, decoder=a.decoder):
        return hidden_cache(config, decoder, a.training.tokens, a.survey, a.profiles) is not None

    assert used(debug_config)
    assert debug_run.training.cached
    assert debug_run.training.tables[0].hidden_MTD.shape[0] == len(debug_run.training.tokens.templates)
    assert not used(changed(debug_config, train={"question_cache": "off"}))
    everywhere = debug_run.decoder.clone(adapter=changed(debug_config, adapter={"layers": 0}).adapter)
    assert not used(debug_config, everywhere)


@pytest.mark.slow
def test_dropout_is_drawn_anew_for_each_step_and_micro_batch_and_is_off_in_evaluation(
    debug_config, run_on, random_adapters, train_batches
):
    config = changed(debug_config, adapter={"dropout": 0.3}, router={"dropout": 0.2}, profile={"dropout": 0.2})
    run = run_on(config)
    assert not run.train_decoder.deterministic
    assert run.decoder.deterministic
    adapters, (bucket, batch) = random_adapters(run), train_batches(run)[0]
    tables = run.training.tables[bucket]

    @functools.partial(jax.jit, static_argnums=0)
    def summed(decoder, key):
        return run.objective.sums(config, Model(decoder, run.base, adapters, tables), batch, key)

    def loss(decoder, key):
        return float(summed(decoder, key).objective["loss"].mean())

    key = jax.random.key(0)
    dropped = {loss(run.train_decoder, jax.random.fold_in(key, i)) for i in (0, 0, 1, 2)}
    assert len(dropped) == 3
    assert loss(run.decoder, None) == loss(run.decoder, key) not in dropped


@pytest.mark.slow
def test_padding_rows_weigh_nothing(debug_run, random_adapters, batch):
    bucket, rows = batch
    light = rows | {"weight": np.where(np.arange(16) < 10, 1.0, 0.0).astype(np.float32)}
    other = light | {"target": np.concatenate([rows["target"][:10], rows["target"][:6]])}
    adapters, tables = random_adapters(debug_run), debug_run.training.tables[bucket]
    config = debug_run.config
    summed = jax.jit(
        lambda b: debug_run.objective.sums(config, Model(debug_run.decoder, debug_run.base, adapters, tables), b, None)
    )
    one, two = (summed({k: jnp.asarray(v) for k, v in b.items()}) for b in (light, other))
    assert float(one.objective["loss"].count) == 10
    np.testing.assert_array_equal(one.objective["loss"].total, two.objective["loss"].total)
