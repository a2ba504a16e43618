"""From flags to a plan: what is chosen, what is said, what is refused."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT, changed

from cuma_jax.commands.command_line import parse_runs
from cuma_jax.commands.train import Options
from cuma_jax.config import MeshConfig, load_config
from cuma_jax.config.machines import MACHINES, SETTINGS, SIZES, apply_machine, mesh_of
from cuma_jax.models.families import HUB_SHAPES, SHAPES
from cuma_jax.planning import topology
from cuma_jax.planning.arithmetic import memory
from cuma_jax.planning.chips import GIB, GPUS, gpu_of, tpu_of
from cuma_jax.planning.report import as_json, as_text
from cuma_jax.planning.run import Target, plan_run
from cuma_jax.planning.search import Case, Hardware, meshes, search
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import make_mesh

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="no libtpu: cuma_jax[plan]")
QWEN = SHAPES["qwen3-8b"]
SHAPE_OF = {name.rpartition("/")[2]: SHAPES[shape] for name, shape in HUB_SHAPES.items()}


@pytest.fixture
def qwen():
    return changed(load_config("qwen3_8b_wvb"), model={"dtype": "bfloat16"})


def plan(config, **target):
    return plan_run(config, Target(**target), lambda text: None)


@pytest.mark.parametrize(("machine", "size"), SETTINGS)
def test_every_row_of_the_table_divides_and_fits_by_arithmetic(machine, size, qwen):
    for model in (name for name, of in SIZES.items() if of == size):
        config, shape = apply_machine(qwen, machine, model), SHAPE_OF[model]
        kind = MACHINES[machine]
        chip = tpu_of(kind.topology) if kind.topology else gpu_of(kind.gpu)
        assert config.mesh in set(meshes(config, shape, Hardware(chip, kind.devices, kind.slices, machine)))
        assert config.evaluation.batch_size % (config.mesh.data * config.mesh.fsdp) == 0
        assert memory(config, shape, config.mesh, 1024, 65536).total <= chip.hbm
        assert SETTINGS[machine, size].reason


def test_preference_objectives_are_not_planned(qwen):
    paired = changed(qwen, objective={"name": "dpo", "aggregate": "respondent"})
    with pytest.raises(CumaError, match="plans choice and sft only"):
        plan(paired, gpu="h100", gpus=8)


def test_a_machine_sees_as_many_answers_and_later_flags_win(qwen):
    pod = apply_machine(qwen, "v5e-256")
    assert pod.train.batch_size * pod.train.steps == pytest.approx(16 * 9375, rel=0.01)
    assert pod.mesh == mesh_of("v5e-256", SETTINGS["v5e-256", "8b"])
    assert pod.optimizer == qwen.optimizer
    given = ["--config", "qwen3_8b_wvb", "--machine", "v5e-256", "--train.batch_size", "256"]
    parsed = parse_runs("train", "Trains.", given, Options, chains=False)[1][0]
    assert parsed.train == dataclasses.replace(pod.train, batch_size=256)
    bigger = parse_runs("train", "", [*given[:4], "--model.source", "/models/Qwen3-32B/"], Options, chains=False)[1][0]
    assert bigger.mesh == mesh_of("v5e-256", SETTINGS["v5e-256", "32b"])


def test_one_card_is_planned_from_shapes_and_told_what_would_fit(qwen):
    found = plan(qwen, gpu="l4", gpus=1, length=256)
    assert not found.fits
    assert any(line.startswith("--model.remat full") for line in found.advice)
    text = as_text(found)
    assert "DOES NOT FIT" in text
    assert "would fit with" in text
    assert json.loads(json.dumps(as_json(found)))["fits"] is False
    eight = changed(qwen, model={"quantize": "int8", "remat": "full"})
    assert plan(eight, gpu="l4", gpus=1, length=256).fits
    # 70 billion parameters never fit one card: no flag is promised.
    lines = plan(changed(qwen, model={"source": "meta-llama/Llama-3.3-70B-Instruct"}), gpu="l4").advice
    assert "more devices" in lines[-1]


def test_a_search_takes_what_fits_and_is_fastest(qwen):
    machine = Hardware(GPUS["h100"], 8, 1, "8 x H100")
    found = search(changed(qwen, train={"batch_size": 16}), Case(QWEN, machine, 1024, 65536))
    fitting = [c for c in found if c.fits]
    assert found[: len(fitting)] == fitting
    assert fitting[0].times.step == min(c.times.step for c in fitting)
    assert all(c.need.total <= machine.chip.hbm for c in fitting)
    assert {c.config.mesh.tensor for c in found} == {1, 2, 4, 8}
    assert all(c.config.mesh.data * c.config.mesh.fsdp <= 16 for c in found)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "what to plan for"),
        ({"topology": "v9:4x4"}, "no facts about a chip 'v9'; there are v4, v5e"),
        ({"topology": "v5e"}, "give the chip and the sizes"),
        ({"topology": "v5e:16x16", "gpu": "h100"}, "give one of"),
        ({"machine": "v5e-256", "gpu": "h100"}, "leave --gpu out"),
        ({"gpu": "h1000"}, "there are h100, h200"),
        pytest.param({"topology": "v5e:3x5"}, "no such slice .*16x16", marks=needs_libtpu),
    ],
)
def test_a_target_that_is_not_there_is_one_message(target, message, qwen):
    with pytest.raises(CumaError, match=message):
        plan(qwen, **target)


@pytest.mark.parametrize(
    ("sections", "gpus", "message"),
    [
        ({"mesh": {"tensor": 16, "data": 1}}, 8, "tensor=16 does not use exactly the 8 devices"),
        ({"train": {"batch_size": 12}}, 8, r"train\.batch_size .*is 12, .*not divisible by 8"),
        ({"mesh": {"tensor": 16}, "train": {"batch_size": 32}}, 16, "key/value heads is 8"),
    ],
)
def test_a_mesh_that_does_not_divide_is_one_message(sections, gpus, message, qwen):
    with pytest.raises(CumaError, match=message):
        plan(changed(qwen, **sections), fixed=True, gpu="h100", gpus=gpus)


def test_a_batch_that_no_mesh_divides_is_raised_unless_it_was_given(qwen):
    assert plan(qwen, gpu="h100", gpus=24).config.train.batch_size in (16, 24)
    with pytest.raises(CumaError, match="not divisible"):
        plan(qwen, gpu="h100", gpus=24, fixed=True)


def test_an_unknown_machine_or_a_model_it_has_no_settings_for_is_one_message(qwen):
    with pytest.raises(CumaError, match="must be one of v5e-16, v5e-256"):
        apply_machine(qwen, "v7-1")
    with pytest.raises(CumaError, match=r"no settings for the model 'org/other'.*--search"):
        apply_machine(qwen, "v5e-256", "org/other")


def test_without_libtpu_the_command_that_installs_it_is_named(qwen, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CumaError, match=r"pip install 'cuma_jax\[plan\]'"):
        plan(qwen, topology="v5e:4x4")


def test_a_refusal_of_the_compiler_says_how_much_is_missing():
    error = RuntimeError("RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Used 20.25G of 15.75G hbm. Exceeded ...")
    found = topology._too_large(error, 1.0)
    assert found.peak == int(20.25 * GIB)
    assert found.over == pytest.approx(4.5 * GIB, abs=2)
    with pytest.raises(RuntimeError, match="other"):
        topology._too_large(RuntimeError("other"), 1.0)


@needs_libtpu
def test_only_the_data_axis_crosses_slices():
    devices = topology.devices_of("v5e:2x2", slices=2)
    grid = make_mesh(MeshConfig(2, 2, 2), devices).devices
    assert all(len({d.slice_index for d in grid[i].flat}) == 1 for i in range(2))
    assert grid[0, 0, 0].slice_index != grid[1, 0, 0].slice_index
    with pytest.raises(CumaError, match=r"mesh\.data is 1, which is not divisible by the 2 slices"):
        make_mesh(MeshConfig(1, 8, 1), devices)


@needs_libtpu
@pytest.mark.slow
def test_a_small_model_compiles_for_a_slice_that_is_not_here():
    config = changed(load_config("debug"), mesh={"fsdp": 2})
    found = as_json(plan(config, topology="v5e:2x2", fixed=True, length=64, profiles=64))
    assert found["fits"]
    assert found["mesh"] == {"data": 2, "fsdp": 2, "tensor": 1}
    assert found["peak_bytes"] >= found["compiled"]["argument_bytes"] > 0
    assert found["compiled"]["collectives"]["all-gather"]["count"] > 0  # of the weights that are split


# Two of them; all with CUMA_JAX_PLAN_ALL=1 (docs/plan.md has what came of it).
ROWS = [row for row in SETTINGS if MACHINES[row[0]].topology]
COMPILED = ROWS if os.environ.get("CUMA_JAX_PLAN_ALL") else [("v5e-256", "8b"), ("2xv5e-256", "8b")]


@needs_libtpu
@pytest.mark.nightly
@pytest.mark.parametrize(("machine", "size"), COMPILED)
def test_the_table_compiles_and_fits(machine, size, tmp_path):
    source = {"8b": "Qwen/Qwen3-8B", "32b": "Qwen/Qwen3-32B", "70b": "meta-llama/Llama-3.3-70B-Instruct"}[size]
    out = tmp_path / "plan.json"
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    command = [sys.executable, "-m", "cuma_jax.plan", "--config", "qwen3_8b_wvb", "--model.source", source,
               "--machine", machine, "--json", str(out)]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["fits"]
    assert found["batch_size"] >= found["devices"]
    resident = sum(found["arithmetic_bytes"][name] for name in ("base", "adapters", "tables"))
    assert found["compiled"]["argument_bytes"] == pytest.approx(resident, rel=0.02)
    assert found["peak_bytes"] == pytest.approx(found["arithmetic_bytes"]["total"], rel=0.25)
    # Frozen weights are gathered twice a step, in bfloat16, and never all at once.
    if found["mesh"]["fsdp"] > 1 and size == "8b":
        assert found["compiled"]["collectives"]["all-gather"]["bytes"] == pytest.approx(2 * 2 * 6.95e9, rel=0.15)
