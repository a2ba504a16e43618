"""From a config and a machine to a plan: which mesh, compiled or by arithmetic, and what it says."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cuma_jax.config import Config
from cuma_jax.config.machines import MACHINES, Machine, apply_machine, named, setting_of
from cuma_jax.hub.model_files import resolve
from cuma_jax.models.families import HUB_SHAPES, SHAPES, DecoderConfig, decoder_config
from cuma_jax.planning import topology
from cuma_jax.planning.arithmetic import Times, abstract_mesh, interconnect_seconds
from cuma_jax.planning.chips import gpu_of, tpu_of
from cuma_jax.planning.program import Program, build
from cuma_jax.planning.report import Plan
from cuma_jax.planning.search import Candidate, Case, Hardware, advice, judge, next_multiple, search
from cuma_jax.run.decoders import check_mesh
from cuma_jax.run.objective import objective_of
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import cache_dir
from cuma_jax.runtime.sharding import data_ways, make_mesh

MOST_COMPILED = 3
"""Candidates of a search that are compiled, at most; the best by arithmetic fits nearly always."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What the command line asks for, see `plan --help`; `fixed`: mesh or batch were given by hand."""

    topology: str = ""
    slices: int = 1
    gpu: str = ""
    gpus: int = 0
    machine: str = ""
    fixed: bool = False
    search: bool = False
    compiles: bool = True
    full: bool = False
    length: int = 0
    profiles: int = 65536


def resolved(target: Target) -> Target:
    """A target with what its machine says; a `CumaError` where there is no target, or two that differ."""
    kinds = [flag for flag, there in (("--topology", target.topology), ("--gpu", target.gpu)) if there]
    if target.machine:
        machine = MACHINES[target.machine]
        if kinds:
            raise CumaError(f"--machine {target.machine} names the machine already; leave {kinds[0]} out")
        if machine.gpu:
            return dataclasses.replace(target, gpu=machine.gpu, gpus=machine.devices)
        return dataclasses.replace(target, topology=machine.topology, slices=machine.slices)
    if len(kinds) != 1:
        raise CumaError("what to plan for? give one of --topology v5e:16x16, --machine v5e-256, --gpu h100 --gpus 8")
    if target.gpu:
        return dataclasses.replace(target, gpus=target.gpus or 1)
    return target


def shape_of(config: Config) -> DecoderConfig:
    """The shape of the base: by its name, or from its config.json; weights are not looked for."""
    model = config.model
    if model.source in HUB_SHAPES:
        return SHAPES[HUB_SHAPES[model.source]]
    return decoder_config(resolve(model.source, model.revision, str(cache_dir(config.run.cache_dir)), weights=False))


def plan_run(config: Config, target: Target, say: Callable[[str], None]) -> Plan:
    """Plans a config; a `CumaError` for an unknown machine, or a mesh that does not divide what it splits."""
    objective = objective_of(config)
    if objective.batch_shapes(config, 1, 1) is None:
        raise CumaError(
            f"the objective is {objective}; plan plans choice and sft only. A step of dpo "
            "takes twice the rows of one of sft (plan that, with train.batch_size doubled); grpo writes replies, too"
        )
    target = resolved(target)
    chip = gpu_of(target.gpu) if target.gpu else tpu_of(target.topology)
    # Also where nothing is compiled: how many devices a topology has is libtpu's to say.
    devices = topology.devices_of(target.topology, target.slices) if target.topology else []
    count, name = len(devices) or target.gpus, target.topology or f"{target.gpus} x {chip.name}"
    name = f"{target.slices} x {name}" if target.slices > 1 else name
    machine = Hardware(chip, count, target.slices, f"{name} ({count} x {chip.name})" if devices else name)
    shape, length = shape_of(config), target.length or min(config.data.buckets[-1], config.data.max_length)
    if config.model.dtype == "auto":
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="bfloat16"))
    case = Case(shape, machine, length, target.profiles)
    tries, settings = _tries(config, case, target, say)
    if target.gpu and target.compiles and jax.default_backend() == "gpu" and jax.device_count() == count:
        return _here(tries[0], case, settings, say)
    if not devices or not target.compiles:
        return _with_advice(_plan(tries[0], case, settings), case)
    for number, tried in enumerate(tries[:MOST_COMPILED]):
        mesh = tried.config.mesh
        where = f"data {mesh.data} x fsdp {mesh.fsdp} x tensor {mesh.tensor}, remat {tried.config.model.remat}"
        say(f"compiling for {machine.name}: {where}; a minute or two")
        began = time.perf_counter()
        program = build(tried.config, shape, make_mesh(mesh, devices), length, target.profiles)
        compiled = topology.compile_program(program, not target.full)
        plan = _plan(tried, case, settings, compiled, time.perf_counter() - began)
        if plan.fits or number + 1 == min(len(tries), MOST_COMPILED):
            break
        say("  does not fit; the next one")
    return _with_advice(plan, case)


def _tries(config: Config, case: Case, target: Target, say: Callable[[str], None]) -> tuple[list[Candidate], str]:
    """What to plan, best first, and where it comes from."""
    shape, machine = case.shape, case.machine
    own = None if target.search else _filled(config, machine)
    if own is not None and (target.machine or target.fixed or _divides(own, shape)):
        check_mesh(own, abstract_mesh(own.mesh), shape)  # type: ignore[arg-type]
        where = f"machine {target.machine}, cuma_jax/config/machines.py" if target.machine else "as given"
        return [judge(own, case)], where
    known = named(Machine(machine.devices, target.topology, target.slices, target.gpu))
    if not target.search and known and setting_of(known, config.model.source):
        say(f"batch {config.train.batch_size} and the preset's mesh do not fill {machine.devices} devices: "
            f"planning --machine {known}")  # fmt: skip
        config = apply_machine(config, known)
        return [judge(config, case)], f"machine {known}, cuma_jax/config/machines.py"
    rows, settings = config.train.batch_size, "the best by arithmetic of all that divide"
    say(f"searching meshes of {machine.devices} devices")
    try:
        found = search(config, case)
    except CumaError:
        if target.search:
            raise
        rows = next_multiple(rows, machine.devices)
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=rows))
        settings += f"; train.batch_size raised to {rows}, which the devices divide"
        found = search(config, case)
    say(f"  {len(found)} ways, {sum(c.fits for c in found)} of them fit by arithmetic")
    return found, settings


def _filled(config: Config, machine: Hardware) -> Config:
    """`config` with data where it is 0, and an evaluation batch that divides: scoring is not what is planned."""
    mesh = dataclasses.replace(config.mesh, data=data_ways(config.mesh, machine.devices, f"of {machine.name}"))
    ways = mesh.data * mesh.fsdp
    evaluation = dataclasses.replace(config.evaluation, batch_size=next_multiple(config.evaluation.batch_size, ways))
    return dataclasses.replace(config, mesh=mesh, evaluation=evaluation)


def _divides(config: Config, shape: DecoderConfig) -> bool:
    try:
        check_mesh(config, abstract_mesh(config.mesh), shape)  # type: ignore[arg-type]
    except CumaError:
        return False
    return True


def _plan(
    tried: Candidate, case: Case, settings: str, compiled: topology.Compiled | None = None, seconds: float = 0.0
) -> Plan:
    times, machine = tried.times, case.machine
    if compiled and not compiled.over:
        wires = interconnect_seconds(compiled.collectives, tried.config.mesh, machine.chip, machine.slices)
        times = Times(compiled.flops / machine.chip.flops, tried.times.memory, wires)
    known = (tried.config, case.shape, machine, case.length, tried.need, times)
    return Plan(*known, compiled, {}, settings, (), seconds)


def _here(tried: Candidate, case: Case, settings: str, say: Callable[[str], None]) -> Plan:
    """A plan for the devices that are here: compiled for them, and run on zeros if it fits."""
    say(f"compiling for what is here: {jax.device_count()} x {jax.devices()[0].device_kind}")
    mesh = make_mesh(tried.config.mesh, jax.devices())
    program = build(tried.config, case.shape, mesh, case.length, case.profiles)
    began = time.perf_counter()
    compiled = topology.compile_program(program)
    plan = _plan(tried, case, settings, compiled, time.perf_counter() - began)
    if plan.fits:
        say("running it on zeros")
        plan = dataclasses.replace(plan, measured=measure(program, case.length))
    return _with_advice(plan, case)


def _with_advice(plan: Plan, case: Case) -> Plan:
    return plan if plan.fits else dataclasses.replace(plan, advice=tuple(advice(plan.config, case)))


def measure(program: Program, length: int, steps: int = 3) -> dict[str, float]:
    """Runs the step on zeros on the devices that are here; seconds of the fastest of `steps`, and the peak's bytes."""
    arguments, places = program.arguments, jax.tree.map(lambda s: s.sharding, program.arguments)

    def zeros() -> Any:
        made = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), arguments)
        made[3]["lengths"] = jnp.full_like(made[3]["lengths"], length)
        return made

    with jax.set_mesh(program.mesh):
        state, *rest = jax.jit(zeros, out_shardings=places)()
        taken = []
        for _ in range(steps + 1):
            began = time.perf_counter()
            state, metrics = program.step(state, *rest)
            jax.block_until_ready(metrics)
            taken.append(time.perf_counter() - began)
    stats = program.mesh.devices.flat[0].memory_stats() or {}
    return {"step_seconds": min(taken[1:]), "first_step_seconds": taken[0]} | (
        {"peak_bytes": float(stats["peak_bytes_in_use"])} if "peak_bytes_in_use" in stats else {}
    )
