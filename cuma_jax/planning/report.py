"""A plan as lines to read, and as JSON."""

import dataclasses
from collections import defaultdict
from typing import Any

from cuma_jax.config import Config
from cuma_jax.models.families import DecoderConfig, layer_params, num_params
from cuma_jax.planning.arithmetic import Need, Times, useful_flops
from cuma_jax.planning.chips import GIB
from cuma_jax.planning.search import Hardware
from cuma_jax.planning.topology import Compiled
from cuma_jax.runtime.text_table import aligned


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is known of a config on a machine.

    Attributes:
        times: predicted, from the compiled program where there is one.
        compiled: what the compiler says; None for a plan from shapes alone.
        measured: figures from running the step here, by name; empty otherwise.
        settings: where mesh and batch come from, for the reader.
        seconds: spent compiling.
    """

    config: Config
    shape: DecoderConfig
    machine: Hardware
    length: int
    need: Need
    times: Times
    compiled: Compiled | None
    measured: dict[str, float]
    settings: str
    advice: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def peak(self) -> int:
        """Bytes on one device at the peak: the compiler's figure, or the arithmetic's."""
        return self.compiled.peak if self.compiled else self.need.total

    @property
    def fits(self) -> bool:
        """Whether the peak is within the memory."""
        return self.peak <= self.machine.chip.hbm and not (self.compiled and self.compiled.over)

    @property
    def mfu(self) -> float:
        """4 N n over what the machine could do in the predicted time, N all parameters of the base.

        It can be above 1: of a survey row, the unembedding sees two positions, and an embedding is no product at all.
        """
        useful = useful_flops(self.shape, self.config.train.batch_size * self.length)
        return useful / (self.times.step * self.machine.chip.flops * self.machine.devices)

    @property
    def layers_mfu(self) -> float:
        """The same with N the parameters of the layers alone."""
        return self.mfu * layer_params(self.shape) / num_params(self.shape)


def as_json(plan: Plan) -> dict[str, Any]:
    """Plain values; times are predictions."""
    config, compiled = plan.config, plan.compiled
    out: dict[str, Any] = {
        "config": config.name, "model": config.model.source, "machine": plan.machine.name,
        "devices": plan.machine.devices, "slices": plan.machine.slices, "settings": plan.settings,
        "mesh": dataclasses.asdict(config.mesh), "batch_size": config.train.batch_size,
        "micro_batches": config.train.micro_batches, "remat": config.model.remat, "quantize": config.model.quantize,
        "length": plan.length, "fits": plan.fits, "peak_bytes": plan.peak, "memory_bytes": plan.machine.chip.hbm,
        "arithmetic_bytes": {**dataclasses.asdict(plan.need), "total": plan.need.total},
        "predicted_seconds": dataclasses.asdict(plan.times) | {"step": plan.times.step},
        "predicted_mfu": plan.mfu, "predicted_mfu_layers": plan.layers_mfu, "bound": plan.times.bound,
        "advice": list(plan.advice),
        "measured": plan.measured, "compile_seconds": round(plan.seconds, 1),
    }  # fmt: skip
    if compiled:
        out["compiled"] = {
            "argument_bytes": compiled.arguments, "output_bytes": compiled.outputs,
            "temporary_bytes": compiled.temporaries, "peak_bytes": compiled.peak, "over_bytes": compiled.over,
            "flops": compiled.flops, "collectives": _by_kind(compiled),
        }  # fmt: skip
    return out


def _by_kind(compiled: Compiled) -> dict[str, dict[str, float]]:
    """kind -> how many run in a step, the bytes of their arrays, and the bytes that a device receives."""
    table: dict[str, dict[str, float]] = defaultdict(lambda: {"count": 0, "bytes": 0, "received_bytes": 0})
    for item in compiled.collectives:
        row = table[item.kind]
        row["count"] += item.times
        row["bytes"] += item.times * item.bytes
        row["received_bytes"] += item.moved
    return {kind: table[kind] for kind in sorted(table)}


def as_text(plan: Plan) -> str:
    """Lines to read."""
    config, mesh, chip, compiled = plan.config, plan.config.mesh, plan.machine.chip, plan.compiled
    verdict = "fits" if plan.fits else "DOES NOT FIT"
    how = "compiled" if compiled else "by arithmetic, not compiled"
    rows = config.train.batch_size // (mesh.data * mesh.fsdp)
    lines = [
        f"{config.name} on {plan.machine.name}: {verdict} ({_gib(plan.peak)} of {_gib(chip.hbm)} a device; {how})",
        "",
        f"  model           {config.model.source}, {num_params(plan.shape) / 1e9:.2f} billion parameters",
        f"  settings        {plan.settings}",
        f"  mesh            data {mesh.data} x fsdp {mesh.fsdp} x tensor {mesh.tensor}",
        f"  batch           {config.train.batch_size} rows of {plan.length} tokens in {config.train.micro_batches} "
        f"micro-batches: {rows * plan.length:,} tokens a device, times tensor",
        f"  memory          remat {config.model.remat}, frozen weights in "
        f"{'int8' if config.model.quantize == 'int8' else config.model.dtype}",
        "",
        "  bytes a device",
    ]
    if compiled and not compiled.over:
        lines += [
            f"    arguments     {_gib(compiled.arguments)} (arithmetic: "
            f"{_gib(plan.need.base + plan.need.adapters + plan.need.tables)})",
            f"    outputs       {_gib(compiled.outputs)} that do not take an argument's place",
            f"    temporaries   {_gib(compiled.temporaries)} (arithmetic: {_gib(plan.need.saved + plan.need.working)})",
        ]
    elif compiled:
        lines.append(f"    the compiler refused it: {_gib(compiled.over)} too much")
    need = plan.need
    lines += [
        f"    of which      base {_gib(need.base)}, adapters and moments {_gib(need.adapters)}, tables and batch "
        f"{_gib(need.tables)}, saved for backward {_gib(need.saved)}, working {_gib(need.working)}",
        "",
        f"  predicted step  {_milliseconds(plan.times.step)}, bound by {plan.times.bound}; MFU {plan.layers_mfu:.0%} "
        f"(4Nn, N of the layers; {plan.mfu:.0%} with the embedding tables)",
        f"    compute {_milliseconds(plan.times.compute)}, memory {_milliseconds(plan.times.memory)}, "
        f"interconnect {_milliseconds(plan.times.interconnect)} (from the data sheet, not measured)",
    ]
    if compiled and compiled.collectives:
        lines += ["", "  collectives a step             count    arrays      received a device"]
        kinds = [
            [f"    {kind}", f"{row['count']:,.0f}", _gib(row["bytes"]), _gib(row["received_bytes"])]
            for kind, row in _by_kind(compiled).items()
        ]
        lines += aligned(kinds, right=(1, 2, 3), least=(28, 9, 10, 10), gap=" ")
        largest = max(compiled.collectives, key=lambda item: item.bytes)
        where = "/".join(largest.where.split("/")[-3:])  # the end of one of JAX's names says most
        lines.append(f"    largest at once: {largest.kind} of {largest.shape}, {_gib(largest.bytes)} ({where})")
    if plan.measured:
        measured = [[f"    {name}", f"{value:,.4g}"] for name, value in plan.measured.items()]
        lines += ["", "  measured here", *aligned(measured, least=(28,), gap=" ")]
    if plan.advice:
        lines += ["", "  would fit with"] + [f"    {line}" for line in plan.advice]
    return "\n".join(lines)


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB // 100 else f"{size / (1 << 20):.2f} MiB"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms"
