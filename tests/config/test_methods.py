"""Every method trains on the debug preset, starts where it should, and can be saved and restored."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import changed

from cuma_jax.config.methods import METHODS, apply_method
from cuma_jax.evaluation.surveys.prediction import predict
from cuma_jax.run.saved_adapters import find_step, tensor_shapes
from cuma_jax.training.checkpoints import Checkpoints
from cuma_jax.training.loop import Trainer, train

UNTRAINED = ("base", "persona", "persona_few_shot")
NO_EXPERTS = ("dora", "full", "prefix")
# Those that differ from another in a number or in the prompt alone.
VARIANTS = ("rslora", "lora_persona", "mixlora_persona", "cuma_persona", "shuffled", "soft", "no_balance")
# Each method compiles a step of its own.
pytestmark = pytest.mark.slow


def method_config(debug_config, method):
    config = apply_method(debug_config, method)
    if config.profile.shots:
        config = changed(config, data={"buckets": (256, 384)})
    return changed(config, train={"steps": 3, "batch_size": 4, "eval_every": 0, "eval_batches": 1, "save_every": 2})


def step(trainer, state, number):
    """The state after update `number`, and its metrics."""
    with jax.set_mesh(trainer.run.mesh):
        return trainer.steps.step(state, *trainer.batches[number])


def assert_moved(before, after):
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        assert np.isfinite(new).all()
        assert not np.array_equal(old, new), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=pytest.mark.nightly if method in VARIANTS else ())
        for method in METHODS
        if method not in UNTRAINED + NO_EXPERTS
    ],
)
def test_a_few_steps_move_every_adapter(method, debug_config, run_on):
    run = run_on(method_config(debug_config, method))
    trainer = Trainer(run)
    state = trainer.fresh()
    before = jax.device_get(state.adapters)
    for number in range(trainer.total):
        state, metrics = step(trainer, state, number)
        assert np.isfinite(metrics["total"])
    assert int(state.step) == 3
    assert run.trainable_parameters == sum(leaf.size for leaf in jax.tree.leaves(before)) > 0
    assert_moved(before, jax.device_get(state.adapters))


@pytest.mark.parametrize("method", ["base", "persona_few_shot"])  # persona is few-shot without shots
def test_a_method_that_trains_nothing_saves_a_checkpoint_like_any_other(method, debug_config, run_on, tmp_path):
    run = run_on(method_config(debug_config, method))
    assert (run.adapter_shapes, run.trainable_parameters) == ({}, 0)
    trained = train(run, tmp_path)
    assert trained.finished
    assert int(trained.state.step) == 0
    assert find_step(tmp_path, "last")[0] == find_step(tmp_path, "best")[0] == 0
    checkpoints = Checkpoints(tmp_path, run)
    assert checkpoints.latest() == 0
    restored = checkpoints.restore(0, Trainer(run).abstract())
    checkpoints.close()
    assert restored.adapters == {}
    assert train(run, tmp_path).finished  # again: the same command does no harm
    assert {path.name for path in tmp_path.iterdir()} >= {"config.json", "split.parquet", "checkpoints"}


@pytest.mark.parametrize("method", NO_EXPERTS)
def test_a_run_without_experts_starts_as_the_base_moves_and_resumes_bit_for_bit(method, debug_config, run_on, tmp_path):
    run, base = run_on(method_config(debug_config, method)), run_on(method_config(debug_config, "base"))
    pairs = np.arange(6, dtype=np.int32), np.arange(6, dtype=np.int32) % 5
    expected, untrained = predict(base, {}, *pairs).probs_NO, run.identity_adapters(0)
    np.testing.assert_allclose(predict(run, untrained, *pairs).probs_NO, expected, atol=1e-6)
    trained = train(run, tmp_path).state
    assert_moved(jax.device_get(untrained), jax.device_get(trained.adapters))
    assert np.abs(predict(run, trained.adapters, *pairs).probs_NO - expected).max() > 1e-4
    checkpoints, trainer = Checkpoints(tmp_path, run), Trainer(run)
    last, half_way = (checkpoints.restore(number, trainer.abstract()) for number in (3, 2))
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(last), jax.device_get(trained))
    again, _ = step(trainer, half_way, 2)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(trained))
    assert tensor_shapes(trained.adapters) == tensor_shapes(run.adapter_shapes)


@pytest.mark.parametrize("layers", [0, 2])
def test_full_fine_tuning_of_all_layers_trains_the_embedding_and_of_some_does_not(layers, debug_config, run_on):
    run = run_on(changed(method_config(debug_config, "full"), adapter={"layers": layers}))
    assert ("embed" in run.adapter_shapes) == ("final_norm" in run.adapter_shapes) == (layers == 0)
    assert run.training.cached == (layers == 2)
    if layers == 0:
        assert run.trainable_parameters == sum(leaf.size for leaf in jax.tree.leaves(run.base))


def test_a_router_that_learns_slowly_moves_less(debug_config, run_on):
    """The rest of the first update is the same, bit for bit; the state has a place on the mesh and is saved."""
    run = run_on(method_config(debug_config, "cuma"))
    slow = dataclasses.replace(run, config=changed(run.config, optimizer={"router_rate": 0.1}))

    def moved(run):
        trainer = Trainer(run)
        state = trainer.fresh()
        before = jax.device_get(state.adapters)
        state, _ = step(trainer, state, 0)
        return jax.tree.map(lambda a, b: np.asarray(a) - b, state.adapters, before)["adapted_layers"]["q_k_v_experts"]

    plain, slower = moved(run), moved(slow)
    np.testing.assert_array_equal(slower["q_b"], plain["q_b"])
    for name, change in plain["router"].items():
        np.testing.assert_allclose(slower["router"][name], 0.1 * change, atol=2e-6, err_msg=name)
