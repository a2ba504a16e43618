"""Every mesh that divides the batch and the model, ranked by arithmetic; and what would make a plan fit."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from cuma_jax.config import Config, MeshConfig
from cuma_jax.models.families import DecoderConfig
from cuma_jax.planning.arithmetic import Need, Times, memory, program_flops, times
from cuma_jax.planning.chips import GIB, Chip
from cuma_jax.runtime.errors import CumaError

MARGIN = 0.95
"""Share of a chip's memory that the arithmetic may fill: it is a model, and XLA keeps a little for itself."""
REMATS = ("none", "dots", "full")


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What is planned for: so many devices, over all slices that a network joins."""

    chip: Chip
    devices: int
    slices: int
    name: str


@dataclasses.dataclass(frozen=True)
class Case:
    """What does not change in a search: the base, the machine, tokens a row, and rows of the table of profiles."""

    shape: DecoderConfig
    machine: Hardware
    length: int
    profiles: int


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to run a config on a machine, by arithmetic; whether it fits, with the margin."""

    config: Config
    need: Need
    times: Times
    fits: bool


def with_mesh(config: Config, mesh: MeshConfig, micro_batches: int, remat: str) -> Config:
    """`config` run another way; losses are the same."""
    train = dataclasses.replace(config.train, micro_batches=micro_batches)
    model = dataclasses.replace(config.model, remat=remat)  # type: ignore[arg-type]
    return dataclasses.replace(config, mesh=mesh, train=train, model=model)


def judge(config: Config, case: Case) -> Candidate:
    """A config's own mesh by arithmetic; a `CumaError` where a weight does not divide over it."""
    shape, length, chip = case.shape, case.length, case.machine.chip
    need = memory(config, shape, config.mesh, length, case.profiles)
    flops = program_flops(config, shape, length)
    seconds = times(config, shape, config.mesh, chip, length, flops, case.machine.slices)
    return Candidate(config, need, seconds, need.total <= MARGIN * chip.hbm)


def meshes(config: Config, shape: DecoderConfig, machine: Hardware) -> Iterator[MeshConfig]:
    """All (data, fsdp, tensor) that use every device and divide batch, heads and widths."""
    inside = machine.devices // machine.slices
    for tensor in _divisors(inside):
        if shape.heads % tensor or shape.kv_heads % tensor or shape.ffn % tensor or shape.vocab % tensor:
            continue
        for fsdp in _divisors(inside // tensor):
            data = machine.devices // tensor // fsdp
            if shape.width % fsdp == 0 and config.train.batch_size % (data * fsdp) == 0:
                yield MeshConfig(data, fsdp, tensor)


def search(config: Config, case: Case) -> list[Candidate]:
    """Ways to run `config`, those that fit first, then by predicted time and simplicity; a `CumaError` for none."""
    devices = case.machine.devices
    found = [
        judge(with_mesh(config, mesh, parts, remat), case)
        for mesh in meshes(config, case.shape, case.machine)
        for parts in _divisors(config.train.batch_size // (mesh.data * mesh.fsdp))
        for remat in REMATS
    ]
    if not found:
        raise CumaError(
            f"no mesh of {devices} devices divides train.batch_size {config.train.batch_size}: rows are split "
            f"over data x fsdp, and tensor can be at most {case.shape.kv_heads} (key/value heads). Give "
            f"--train.batch_size {next_multiple(config.train.batch_size, devices)}, or fewer devices"
        )

    def rank(c: Candidate) -> tuple[Any, ...]:
        mesh, remat = c.config.mesh, REMATS.index(c.config.model.remat)
        complexity = mesh.tensor, c.config.train.micro_batches, remat, mesh.fsdp
        return not c.fits, c.times.step if c.fits else c.need.total, complexity

    return sorted(found, key=rank)


def next_multiple(size: int, of: int) -> int:
    """The smallest multiple of `of` that is at least `size`."""
    return -(-size // of) * of


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def advice(config: Config, case: Case) -> list[str]:
    """Flags that would make a config fit, each alone, then the best of all; empty where nothing helps."""
    lines, mesh, own, remat = [], config.mesh, config.train.micro_batches, config.model.remat
    rows = config.train.batch_size // (mesh.data * mesh.fsdp)
    changes = [
        (f"--train.micro_batches {parts}", with_mesh(config, mesh, parts, remat))
        for parts in _divisors(rows)
        if parts > own
    ]
    for more in REMATS[REMATS.index(remat) + 1 :]:
        changes.append((f"--model.remat {more}", with_mesh(config, mesh, own, more)))
    for other in sorted(meshes(config, case.shape, case.machine), key=lambda m: (m.tensor, m.fsdp)):
        if other.fsdp > mesh.fsdp and other.tensor == mesh.tensor and rows % own == 0:
            changes.append((_flags(other), with_mesh(config, other, own, remat)))
    if config.model.quantize == "none" and config.adapter.kind != "full":
        changes.append(("--model.quantize int8", _int8(config)))
    kinds: set[str] = set()
    for flags, tried in changes:
        kind = flags.split(" ")[0]
        if kind in kinds:
            continue
        found = judge(tried, case)
        if found.fits:
            kinds.add(kind)
            lines.append(f"{flags}: about {found.need.total / GIB:.1f} GiB a device")
    best = search(config, case)[0]
    if best.fits:
        return [*lines, f"all together, the fastest by arithmetic: {_flags_of(best.config)}"]
    return [*lines, _smaller(config, case, best)]


def _smaller(config: Config, case: Case, least: Candidate) -> str:
    """Where no mesh fits: int8, shorter rows, or what is missing."""
    short = dataclasses.replace(case, length=256)
    tries = [("shorter rows, --length 256 (data.buckets and data.max_length)", config, short)]
    if config.adapter.kind != "full":
        eight = _int8(config)
        tries = [("", eight, case), *tries, ("shorter rows, --length 256, too", eight, short)]
    for more, tried, at in tries:
        best = search(tried, at)[0]
        if best.fits:
            quantize = " --model.quantize int8" if tried is not config else ""
            return f"{_flags_of(best.config)}{quantize} {more}".rstrip()
    return (
        f"no mesh, micro-batch or remat of these {case.machine.devices} devices fits, nor int8: the least is "
        f"{least.need.total / GIB:.1f} GiB a device; more devices, or larger ones"
    )


def _int8(config: Config) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, quantize="int8"))


def _flags_of(config: Config) -> str:
    parts = config.train.micro_batches
    return f"{_flags(config.mesh)} --model.remat {config.model.remat} --train.micro_batches {parts}"


def _flags(mesh: MeshConfig) -> str:
    return f"--mesh.data {mesh.data} --mesh.fsdp {mesh.fsdp} --mesh.tensor {mesh.tensor}"
