"""Every method trains on the debug preset, starts where it should, and can be saved and restored."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import changed

from cuma_jax.config.methods import METHODS, apply_method
from cuma_jax.evaluation.surveys.prediction import predict
from cuma_jax.run.saved_adapters import tensor_shapes
from cuma_jax.runtime.sharding import put_batch
from cuma_jax.training.checkpoints import Checkpoints
from cuma_jax.training.loop import Trainer, train

UNTRAINED = ("base", "persona", "persona_few_shot")
# Each method compiles a step of its own.
pytestmark = pytest.mark.slow


def method_config(debug_config, method):
    config = apply_method(debug_config, method)
    if config.profile.shots:
        config = changed(config, data={"buckets": (256, 384)})
    return changed(config, train={"steps": 3, "batch_size": 8, "eval_every": 0, "eval_batches": 1})


@pytest.mark.parametrize("method", [method for method in METHODS if method not in UNTRAINED])
def test_a_few_steps_move_every_adapter(method, debug_config, run_on):
    run = run_on(method_config(debug_config, method))
    trainer = Trainer(run)
    state = trainer.fresh()
    before = jax.device_get(state.adapters)
    with jax.set_mesh(run.mesh):
        for step in range(trainer.steps):
            bucket, batch = trainer.batches[step]
            placed = put_batch(batch, run.mesh)
            state, metrics = trainer.train_step(state, run.base, run.training.tables[bucket], placed)
            assert np.isfinite(metrics["total"])
    assert int(state.step) == 3
    assert run.trainable_parameters == sum(leaf.size for leaf in jax.tree.leaves(before)) > 0
    after = jax.device_get(state.adapters)
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):  # fmt: skip
        assert np.isfinite(new).all()
        assert not np.array_equal(old, new), jax.tree_util.keystr(path)


@pytest.mark.parametrize("method", UNTRAINED)
def test_a_method_that_trains_nothing_saves_a_checkpoint_like_any_other(method, debug_config, run_on, tmp_path):
    run = run_on(method_config(debug_config, method))
    assert (run.adapter_shapes, run.trainable_parameters) == ({}, 0)
    trained = train(run, tmp_path)
    assert trained.finished
    assert int(trained.state.step) == 0
    checkpoints = Checkpoints(tmp_path, run, read_only=True)
    assert (checkpoints.latest(), checkpoints.best()) == (0, 0)
    restored = checkpoints.restore(0, Trainer(run).abstract())
    checkpoints.close()
    assert restored.adapters == {}
    assert train(run, tmp_path).finished  # again: the same command does no harm
    assert {path.name for path in tmp_path.iterdir()} >= {"config.json", "split.parquet", "checkpoints"}


@pytest.mark.parametrize("method", ["dora", "full", "prefix"])
def test_a_run_of_another_kind_resumes_bit_for_bit_and_starts_as_the_base(method, debug_config, run_on, tmp_path):
    config = changed(method_config(debug_config, method), train={"save_every": 2, "steps": 3})
    run, base = run_on(config), run_on(method_config(debug_config, "base"))
    pairs = np.arange(6, dtype=np.int32), np.arange(6, dtype=np.int32) % 5
    expected = predict(base, {}, *pairs).probs_NO
    idle = predict(run, run.identity_adapters(0), *pairs).probs_NO
    np.testing.assert_allclose(idle, expected, atol=1e-6)
    trained = train(run, tmp_path).state
    assert np.abs(predict(run, trained.adapters, *pairs).probs_NO - expected).max() > 1e-4
    checkpoints = Checkpoints(tmp_path, run, read_only=True)
    restored = checkpoints.restore(3, Trainer(run).abstract())
    half_way = checkpoints.restore(2, Trainer(run).abstract())
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), jax.device_get(trained))
    trainer = Trainer(run)
    bucket, batch = trainer.batches[2]
    with jax.set_mesh(run.mesh):
        placed = put_batch(batch, run.mesh)
        again, _ = trainer.train_step(half_way, run.base, run.training.tables[bucket], placed)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(trained))
    assert tensor_shapes(trained.adapters) == tensor_shapes(run.adapter_shapes)


@pytest.mark.parametrize("layers", [0, 2])
def test_full_fine_tuning_of_all_layers_trains_the_embedding_and_of_some_does_not(layers, debug_config, run_on):
    config = changed(method_config(debug_config, "full"), adapter={"layers": layers})
    run = run_on(config)
    assert ("embed" in run.adapter_shapes) == ("final_norm" in run.adapter_shapes) == (layers == 0)
    assert run.training.cached == (layers == 2)
    if layers == 0:
        assert run.trainable_parameters == sum(leaf.size for leaf in jax.tree.leaves(run.base))


def test_a_router_that_learns_slowly_moves_less(debug_config, run_on):
    """The rest of the first update is the same, bit for bit; the state has a place on the mesh and is saved."""
    config = method_config(debug_config, "cuma")
    run = run_on(config)
    slow = dataclasses.replace(run, config=changed(config, optimizer={"router_rate": 0.1}))

    def moved(run):
        trainer = Trainer(run)
        state, (bucket, batch) = trainer.fresh(), trainer.batches[0]
        before = jax.device_get(state.adapters)
        with jax.set_mesh(run.mesh):
            placed = put_batch(batch, run.mesh)
            state, _ = trainer.train_step(state, run.base, run.training.tables[bucket], placed)
        return jax.tree.map(lambda a, b: np.asarray(a) - b, state.adapters, before)["adapted_layers"]["q_k_v_experts"]

    plain, slower = moved(run), moved(slow)
    np.testing.assert_array_equal(slower["q_b"], plain["q_b"])
    for name, step in plain["router"].items():
        np.testing.assert_allclose(slower["router"][name], 0.1 * step, atol=2e-6, err_msg=name)
