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


def judge(config: Config, shape: DecoderConfig, machine: Hardware, length: int, profiles: int) -> Candidate:
    """A config's own mesh by arithmetic; a `CumaError` where a weight does not divide over it."""
    need = memory(config, shape, config.mesh, length, profiles)
    flops = program_flops(config, shape, length)
    seconds = times(config, shape, config.mesh, machine.chip, length, flops, machine.slices)
    return Candidate(config, need, seconds, need.total <= MARGIN * machine.chip.hbm)


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


def search(
    config: Config, shape: DecoderConfig, machine: Hardware, length: int, profiles: int
) -> list[Candidate]:  # fmt: skip
    """Ways to run `config`, those that fit first, then by predicted time; of equals, the simpler.

    Raises:
        CumaError: no mesh of these devices divides the batch and the model.
    """
    found = []
    for mesh in meshes(config, shape, machine):
        rows = config.train.batch_size // (mesh.data * mesh.fsdp)
        for parts in _divisors(rows):
            for remat in REMATS:
                tried = with_mesh(config, mesh, parts, remat)
                found.append(judge(tried, shape, machine, length, profiles))
    if not found:
        raise CumaError(
            f"no mesh of {machine.devices} devices divides train.batch_size {config.train.batch_size}: rows are split "
            f"over data x fsdp, and tensor can be at most {shape.kv_heads} (key/value heads). Give "
            f"--train.batch_size {next_multiple(config.train.batch_size, machine.devices)}, or fewer devices"
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


def advice(config: Config, shape: DecoderConfig, machine: Hardware, length: int, profiles: int) -> list[str]:
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
    for other in sorted(meshes(config, shape, machine), key=lambda m: (m.tensor, m.fsdp)):
        if other.fsdp > mesh.fsdp and other.tensor == mesh.tensor and rows % own == 0:
            changes.append((_flags(other), with_mesh(config, other, own, remat)))
    if config.model.quantize == "none" and config.adapter.kind != "full":
        changes.append(("--model.quantize int8", _int8(config)))
    kinds: set[str] = set()
    for flags, tried in changes:
        kind = flags.split(" ")[0]
        if kind in kinds:
            continue
        found = judge(tried, shape, machine, length, profiles)
        if found.fits:
            kinds.add(kind)
            lines.append(f"{flags}: about {found.need.total / GIB:.1f} GiB a device")
    best = search(config, shape, machine, length, profiles)[0]
    if best.fits:
        lines.append(f"all together, the fastest by arithmetic: {flags_of(best.config)}")
    else:
        lines += _smaller(config, shape, machine, length, profiles)
    return lines


def _smaller(config: Config, shape: DecoderConfig, machine: Hardware, length: int, profiles: int) -> list[str]:
    """Where no mesh fits: int8, shorter rows, or what is missing."""
    tries = [("shorter rows, --length 256 (data.buckets and data.max_length)", config, 256)]
    if config.adapter.kind != "full":
        eight = _int8(config)
        tries = [("", eight, length), *tries, ("shorter rows, --length 256, too", eight, 256)]
    for more, tried, at in tries:
        best = search(tried, shape, machine, at, profiles)[0]
        if best.fits:
            quantize = " --model.quantize int8" if tried is not config else ""
            return [f"{flags_of(best.config)}{quantize} {more}".rstrip()]
    least = search(config, shape, machine, length, profiles)[0]
    return [
        f"no mesh, micro-batch or remat of these {machine.devices} devices fits, nor int8: the least is "
        f"{least.need.total / GIB:.1f} GiB a device; more devices, or larger ones"
    ]


def _int8(config: Config) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, quantize="int8"))


def flags_of(config: Config) -> str:
    """The command-line flags of what a search chooses."""
    flags = f"{_flags(config.mesh)} --model.remat {config.model.remat} --train.micro_batches"
    return f"{flags} {config.train.micro_batches}"


def _flags(mesh: MeshConfig) -> str:
    return f"--mesh.data {mesh.data} --mesh.fsdp {mesh.fsdp} --mesh.tensor {mesh.tensor}"
