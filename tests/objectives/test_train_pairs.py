"""DPO: log-probabilities and losses of pairs against slow twins, and the reference they are held to.

Shapes: B pairs, 2 replies: chosen, rejected; S supervised positions, X replies.
"""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import changed, devices_of
from preference_files import of_conversations, write_community_alignment
from same import same_step
from saved_runs import save_run

from cuma_jax.config import MeshConfig
from cuma_jax.data.batches import Buckets
from cuma_jax.data.reply_tokens import ReplyBatcher
from cuma_jax.losses.dpo import dpo_sums
from cuma_jax.objectives import reference
from cuma_jax.objectives.pair_rows import pair_logps
from cuma_jax.objectives.reference import REFERENCE_FILE, complete_pairs, reference_of, seen_pairs, with_reference_logps
from cuma_jax.run.folder import read_metrics
from cuma_jax.run.forward import Model, hidden
from cuma_jax.run.objective import objective_of
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import put_batch
from cuma_jax.training.loop import Trainer, train

close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=3e-6)
SIZE = 4


@pytest.fixture(scope="module")
def config(debug_config, tmp_path_factory):
    """Pairs of invented conversations, on the debug model; routers see the profile."""
    path = write_community_alignment(tmp_path_factory.mktemp("dpo") / "ca.jsonl", 40, 12)
    data = {"buckets": (96,), "too_long": "skip", "validation_respondents": 0.15}
    return changed(
        of_conversations(debug_config, path, "dpo", **data),
        adapter={"layers": 1},
        dpo={"nll": 0.5},
        train={"steps": 3, "batch_size": SIZE, "eval_batches": 1, "log_every": 1},
    )


@pytest.fixture(scope="module")
def run(config, run_on):
    return run_on(config)


@pytest.fixture(scope="module")
def batch(run):
    """Four pairs, the last of weight 0, with made-up log-probabilities of the reference."""
    layout = run.training
    rng = np.random.default_rng(0)
    reference_X = -rng.uniform(150, 250, len(layout.pairs.replies.profile_X)).astype(np.float32)
    given = dataclasses.replace(layout, reference_X=reference_X)
    return given.training_rows(run.mask("train")).batch(np.arange(5, 5 + SIZE), 0, real=SIZE - 1)


@pytest.fixture(scope="module")
def begun_from(run, random_adapters, tmp_path_factory):
    """A run of the same data and settings that has adapters to start from."""
    return save_run(tmp_path_factory.mktemp("sft") / "run", run, random_adapters(run, 7))


def started(run, folder, **dpo):
    config = changed(run.config, adapter={"init_from": str(folder)}, dpo=dpo)
    layout = dataclasses.replace(run.training, config=config)
    return dataclasses.replace(run, config=config, training=layout)


def slow_logps(run, adapters, batch):
    """One reply at a time: all logits of its supervised positions, their log-softmax, picked and added up.

    Returns logp_B2 and, in the same nesting, the gradients of each by the adapters.
    """

    def one(adapters, row):
        variables = {"params": run.base, "adapters": adapters}
        unembed_VD = run.decoder.apply(variables, method="unembedding")
        h_BSD, _ = hidden(Model(run.decoder, run.base, adapters, run.training.tables[0]), row, None)
        logp_SV = jax.nn.log_softmax(jnp.einsum("sd,vd->sv", h_BSD[0], unembed_VD), axis=-1)
        picked_S = jnp.take_along_axis(logp_SV, row["labels"][0][:, None], axis=1)[:, 0]
        return jnp.sum(picked_S * row["label_weight"][0])

    graded = jax.jit(jax.value_and_grad(one))
    logp_B2, grads = np.zeros((SIZE, 2)), {}
    for b, side in np.ndindex(SIZE, 2):
        row = {k: batch[k][b : b + 1, side] for k in ("tokens", "lengths", "positions", "labels", "label_weight")}
        logp_B2[b, side], grads[b, side] = graded(adapters, row | {"profile": batch["profile"][b : b + 1]})
    return logp_B2, grads


@pytest.mark.slow
def test_loss_and_gradients_of_a_batch_equal_the_slow_twin(run, random_adapters, batch):
    """Values and every gradient, in float32; without the balance loss, which is compared below."""
    adapters, config = random_adapters(run), run.config
    given = {name: jnp.asarray(value) for name, value in batch.items()}

    def fast(adapters):
        model = Model(run.decoder, run.base, adapters, run.training.tables[0])
        sums = run.objective.sums(config, model, given, None).objective
        return sums["loss"].mean(), {name: s.mean() for name, s in sums.items()}

    (value, metrics), grads = jax.jit(jax.value_and_grad(fast, has_aux=True))(adapters)
    logp_B2, grads_of = slow_logps(run, adapters, given)
    count_B2, beta, nll = batch["label_weight"].sum(axis=2), config.dpo.beta, config.dpo.nll
    expected, expected_grads = 0.0, jax.tree.map(np.zeros_like, jax.device_get(adapters))
    for b in range(SIZE - 1):
        difference = logp_B2[b] - batch["reference_logp"][b]
        margin = beta * (difference[0] - difference[1])
        expected += (np.log(1 + np.exp(-margin)) - nll * logp_B2[b, 0] / count_B2[b, 0]) / (SIZE - 1)
        wrong = 1 / (1 + np.exp(margin))
        slopes = (-beta * wrong - nll / count_B2[b, 0], beta * wrong)
        for side, slope in enumerate(slopes):
            expected_grads = jax.tree.map(
                lambda total, g, s=slope: total + s * np.asarray(g) / (SIZE - 1), expected_grads, grads_of[b, side]
            )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(close, grads, expected_grads)
    assert max(float(np.abs(g).max()) for g in jax.tree.leaves(grads)) > 1e-3
    weights = (jnp.asarray(logp_B2, jnp.float32), given["reference_logp"], jnp.asarray(count_B2), given["weight"])
    for name, s in dpo_sums(*weights, config.dpo).items():
        np.testing.assert_allclose(metrics[name], s.mean(), rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_routers_are_balanced_over_both_sides_as_over_single_rows(run, random_adapters, batch):
    pairs, adapters = run.training.pairs, random_adapters(run)
    index_N = run.training.training_rows(run.mask("train")).index_N[np.arange(5, 5 + SIZE)]
    singles = ReplyBatcher(pairs.replies, pairs.reply_P2[index_N].ravel(), Buckets((96,)))
    rows = singles.batch(np.arange(2 * SIZE), 0)
    as_sft = changed(run.config, objective={"name": "sft"})
    model = Model(run.decoder, run.base, adapters, run.training.tables[0])
    found = [
        jax.jit(lambda b, config=config: objective_of(config).sums(config, model, b, None))(
            {k: jnp.asarray(v) for k, v in b.items()}
        )
        for config, b in ((run.config, batch), (as_sft, rows))
    ]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found[0].routers, found[1].routers)
    assert int(found[0].tokens) == int(found[1].tokens) == int(batch["lengths"].sum())


@pytest.mark.slow
def test_micro_batches_and_devices_change_nothing(run, config, run_on, random_adapters, batch, loss_and_gradients):
    """Pairs stay whole in micro-batches and on devices."""
    one = loss_and_gradients(run, random_adapters(run), batch, 0)
    parts = loss_and_gradients(run, random_adapters(run), batch, 0, micro_batches=2)
    spread = run_on(dataclasses.replace(config, mesh=MeshConfig(data=2, fsdp=2, tensor=1)))
    devices = loss_and_gradients(spread, random_adapters(spread), batch, 0)
    for other in (parts, devices):
        same_step(other, one, close, rtol=2e-5)


@pytest.mark.slow
def test_survey_pairs_are_the_same_whether_hidden_states_are_kept_or_not(
    debug_config, run_on, random_adapters, loss_and_gradients
):
    config = changed(
        debug_config, objective={"name": "dpo", "aggregate": "respondent"}, train={"batch_size": SIZE}
    )  # fmt: skip
    kept = run_on(config)
    plain = run_on(changed(config, train={"question_cache": "off"}))
    assert kept.training.cached
    assert not plain.training.cached
    found = []
    for a in (kept, plain):
        reference_X = -np.linspace(5, 20, len(a.training.pairs.replies.profile_X), dtype=np.float32)
        layout = dataclasses.replace(a.training, reference_X=reference_X)
        rows = layout.training_rows(a.mask("train"))
        batch = rows.batch(np.flatnonzero(rows.bucket_N == rows.bucket_N[0])[:SIZE], int(rows.bucket_N[0]))
        assert ("template" in batch) == (a is kept)
        found.append(loss_and_gradients(a, random_adapters(a), batch, int(rows.bucket_N[0])))
    same_step(*found, close, rtol=2e-5)


@pytest.mark.slow
def test_pairs_are_drawn_by_the_weights_and_groups_of_their_people(run):
    """Alike, unless the config says otherwise; with group_power 0 every country's pairs have the same share."""
    train_N = run.mask("train")
    assert len(set(run.training.training_rows(train_N).mass_N)) == 1
    config = changed(run.config, data={"group_by": "country", "group_power": 0.0})
    rows = dataclasses.replace(run.training, config=config).training_rows(train_N)
    person_N = run.training.pairs.person_P[rows.index_N]
    countries = run.source.respondents["country"].astype(str).to_numpy()[person_N]
    shares = [rows.mass_N[countries == name].sum() / rows.mass_N.sum() for name in np.unique(countries)]
    np.testing.assert_allclose(shares, 1 / len(shares))
    assert len(shares) > 1
    assert train_N[run.training.pairs.row_P[rows.index_N]].all()


@pytest.mark.slow
def test_cached_and_in_step_references_are_the_same_numbers(run, begun_from, random_adapters, monkeypatch):
    """Of the run that training starts from, and of the base; kept in the cache, and made again if it is damaged."""
    calls = []
    ask = reference.ask_rows
    monkeypatch.setattr(reference, "ask_rows", lambda *args: calls.append(args) or ask(*args))
    found = {}
    for which in ("start", "base"):
        a = started(run, begun_from, reference=which)
        cached = with_reference_logps(a, reference_of(a), seen_pairs(a))
        bucket, batch = Trainer(cached).batches[0]
        with jax.set_mesh(a.mesh):
            placed = put_batch({k: v for k, v in batch.items() if k != "reference_logp"}, a.mesh)
            for parts in (1, 2):
                split = dataclasses.replace(a, config=changed(a.config, train={"micro_batches": parts}))
                in_step = complete_pairs(split, reference_of(split))(a.training.tables[bucket], placed)[
                    "reference_logp"
                ]
                np.testing.assert_allclose(batch["reference_logp"], in_step, rtol=1e-5)
        found[which] = batch["reference_logp"]
        adapters = random_adapters(run, 7) if which == "start" else run.identity_adapters(0)
        with jax.set_mesh(a.mesh):
            model = Model(a.decoder, a.base, adapters, a.training.tables[bucket])
            expected, _ = jax.jit(functools.partial(pair_logps, model))(placed)
        np.testing.assert_allclose(batch["reference_logp"], expected, rtol=1e-5)
        again = with_reference_logps(a, reference_of(a), seen_pairs(a))
        np.testing.assert_array_equal(again.training.reference_X, cached.training.reference_X)
        assert np.isnan(cached.training.reference_X).any()  # replies that no batch holds are not scored
    assert np.abs(found["start"] - found["base"]).min() > 0.01
    assert len(calls) == 2
    for path in (reference.cache_dir(run.config.run.cache_dir) / "reference_logps").glob("*.npy"):
        path.write_bytes(b"damaged")
    a = started(run, begun_from, reference="start")
    _, batch = Trainer(with_reference_logps(a, reference_of(a), seen_pairs(a))).batches[0]
    np.testing.assert_allclose(batch["reference_logp"], found["start"], rtol=1e-6)
    assert len(calls) == 3


@pytest.mark.slow
def test_training_is_the_same_whichever_way_the_reference_is_computed(run, begun_from, tmp_path, capsys):
    """Three steps through `train`: losses, figures, validation; the log has them all; one program a bucket."""
    lines = {}
    for mode in ("cached", "in_step"):
        begun = started(run, begun_from, reference_logps=mode)
        folder = tmp_path / mode
        with devices_of(begun.config.mesh):
            train(begun, folder)
        lines[mode] = read_metrics(folder)
        assert json.loads((folder / REFERENCE_FILE).read_text())["base"] is False
    figures = {"loss", "margin", "accuracy", "chosen_reward", "rejected_reward", "kl", "nll"}
    assert [line["step"] for line in lines["cached"]] == [1, 2, 3, 3]
    for one, other in zip(lines["cached"], lines["in_step"], strict=True):
        assert figures <= one.keys()
        for name in figures:
            np.testing.assert_allclose(other[name], one[name], rtol=1e-3, atol=2e-5, err_msg=name)
    # At the first step the policy is its reference.
    assert abs(lines["cached"][0]["margin"]) < 1e-4
    assert lines["cached"][2]["kl"] > 1e-4


@pytest.mark.slow
def test_a_run_that_goes_on_needs_the_same_reference(run, begun_from, tmp_path):
    begun = started(run, begun_from)
    held_to = reference_of(begun)
    held_to.check(tmp_path)  # a new run
    held_to.save(tmp_path)
    held_to.check(tmp_path)
    with pytest.raises(CumaError, match="begun with another reference"):
        reference_of(started(run, begun_from, reference="base")).check(tmp_path)
