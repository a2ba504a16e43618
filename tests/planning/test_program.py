"""What plan compiles is what train runs, and its arithmetic is the compiler's."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import changed

from cuma_jax.config import Config, MeshConfig
from cuma_jax.config.methods import apply_method
from cuma_jax.models.families import HUB_SHAPES, SHAPES
from cuma_jax.planning.arithmetic import memory, program_flops, useful_flops
from cuma_jax.planning.program import build, matmul_flops
from cuma_jax.planning.run import measure
from cuma_jax.planning.topology import compile_program
from cuma_jax.runtime.sharding import make_mesh
from cuma_jax.training.loop import Trainer

TINY = SHAPES["tiny"]


def tiny(method="cuma", **sections):
    config = Config(name="tiny")
    sections = {"model": {"source": "random:tiny", "dtype": "float32"}, "train": {"batch_size": 16}, **sections}
    return apply_method(changed(config, **sections), method)


def described(tree):
    return jax.tree.map(lambda x: (x.shape, str(x.dtype), x.sharding.spec), tree)


@pytest.mark.parametrize("objective", ["choice", pytest.param("sft", marks=pytest.mark.slow)])
def test_the_planned_arguments_are_those_of_training(objective, debug_config, run_on, train_batches):
    config = changed(debug_config, objective={"name": objective, "aggregate": "respondent"})
    run = run_on(config)
    bucket, batch = train_batches(run)[0]
    tables = run.training.tables[bucket]
    program = build(config, TINY, run.mesh, config.data.buckets[bucket], len(run.profiles))
    state, base, planned_tables, planned = program.arguments
    # The width of a profile vector is the data's; all other shapes, and every place, are the config's alone.
    found, expected = (jax.tree_util.tree_leaves_with_path(s) for s in (state, Trainer(run).abstract()))
    assert [path for path, _ in found] == [path for path, _ in expected]
    for (path, one), (_, other) in zip(found, expected, strict=True):
        assert (one.dtype, one.sharding) == (other.dtype, other.sharding)
        assert one.shape == other.shape or "profile_0" in jax.tree_util.keystr(path)
    assert described(base) == described(run.base)
    assert set(planned) == set(batch)
    options = {"option_ids", "target"}  # how many there are, only the data know
    for name, array in planned.items():
        assert str(array.dtype) == str(batch[name].dtype), name
        assert name in options or array.shape == batch[name].shape, name
    assert (planned_tables.hidden_MTD is None) == (tables.hidden_MTD is None)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(8, 1, 1), (2, 2, 2)])
def test_arguments_of_the_compiled_step_are_what_arithmetic_says(mesh):
    config = tiny(mesh=dict(zip(("data", "fsdp", "tensor"), mesh, strict=True)))
    need = memory(config, TINY, config.mesh, 64, 32)
    program = build(config, TINY, make_mesh(config.mesh), 64, 32)
    compiled = compile_program(program)
    # The rest: lengths, weights, targets of two rows a device, the step and the key.
    assert 0 <= compiled.arguments - (need.base + need.adapters + need.tables) <= 4096
    assert compiled.peak >= compiled.arguments + compiled.temporaries
    whole = sum(x.size * 4 for x in jax.tree.leaves(program.arguments[1]))
    assert (need.base < whole) == (mesh != (8, 1, 1))
    assert any(item.kind in ("all-reduce", "reduce-scatter") for item in compiled.collectives)
    assert any(item.kind == "all-gather" for item in compiled.collectives) or mesh == (8, 1, 1)


@pytest.mark.parametrize(("remat", "passes"), [("none", 4.0), pytest.param("full", 5.48, marks=pytest.mark.slow)])
def test_operations_are_four_times_parameters_times_tokens_and_what_is_run_again(remat, passes):
    """Qwen3-8B, traced only: layers of 6.95 billion parameters, 1,024 tokens; attention and LoRA come on top.

    A layer that is run again leaves out its last product (down, 26% of it): the backward pass does not read it.
    """
    shape = SHAPES["qwen3-8b"]
    config = changed(tiny("lora"), model={"remat": remat, "dtype": "bfloat16"}, train={"batch_size": 8},
                     objective={"name": "sft", "aggregate": "respondent"})  # fmt: skip
    program = build(config, shape, make_mesh(MeshConfig(8, 1, 1)), 128, 32)
    layers = useful_flops(shape, 8 * 128) / 4 * passes * (1 - 2 * shape.vocab * shape.width / 8190735360)
    found = matmul_flops(program.trace().jaxpr.jaxpr)
    assert layers < found < 1.06 * layers
    assert program_flops(config, shape, 128) == pytest.approx(found, rel=0.03)


def test_products_are_counted_with_scans_and_branches():
    def f(x):
        y, _ = jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=7)
        return jax.lax.cond(y.sum() > 0, lambda y: y @ y, lambda y: y, y)

    assert matmul_flops(jax.make_jaxpr(f)(np.ones((4, 4), np.float32)).jaxpr) == 8 * 2 * 4**3


@pytest.mark.slow
def test_a_step_on_zeros_is_timed_on_what_is_here():
    config = tiny(mesh={"data": 1})
    found = measure(build(config, TINY, make_mesh(config.mesh, jax.devices()[:1]), 32, 8), 32, steps=1)
    assert 0 < found["step_seconds"] < found["first_step_seconds"]


def test_every_shipped_model_has_a_shape_without_a_network():
    assert set(HUB_SHAPES.values()) <= set(SHAPES)
    smaller = dataclasses.replace(SHAPES["llama-3.3-70b"], layers=32, width=4096, heads=32, ffn=14336)
    assert smaller == SHAPES["llama-3.1-8b"]
