"""Descriptions of TPU slices that are not here, and the compiler for them (libtpu runs on any x86-64 Linux machine)."""

import dataclasses
import importlib.util
import os
import re
from typing import Any

import jax

from cuma_jax.planning.chips import GIB, tpu_of
from cuma_jax.planning.hlo import Collective, collectives
from cuma_jax.planning.program import Program, matmul_flops
from cuma_jax.runtime.errors import CumaError

FAST = {"exec_time_optimization_effort": -1.0}
"""Compiler options that leave out the search for the fastest schedule: a quarter of the time. On the one mesh compared,
temporaries came out 1.1% lower than the full compilation's, bytes received 0.5% higher (docs/plan.md)."""
_ENVIRONMENT = {
    # Without these libtpu looks for the TPU that it runs on, which is not there, and locks it for other processes.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of a program, for one device.

    Attributes:
        arguments, outputs, temporaries, peak: bytes; outputs in the arguments' place are not counted.
        flops: of all matrix products of the program, this device's share.
        over: bytes by which it does not fit, where the compiler refused; then peak alone is known.
    """

    arguments: int
    outputs: int
    temporaries: int
    peak: int
    flops: float
    collectives: tuple[Collective, ...]
    over: int = 0


def devices_of(topology: str, slices: int = 1) -> list[Any]:
    """The devices of slices such as `v5e:16x16`; a `CumaError` where libtpu is missing, or there is no such slice."""
    tpu_of(topology)
    if importlib.util.find_spec("libtpu") is None:
        raise CumaError(
            "--topology needs libtpu, the TPU's compiler (Linux on x86-64, no TPU needed): pip install "
            f"'cuma_jax[plan]', or pip install 'jax[tpu]=={jax.__version__}'. --gpu plans from shapes alone"
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    more = {"num_slices": slices} if slices > 1 else {}
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology, **more).devices)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CumaError(
            f"--topology {topology}: no such slice ({reason}). Slices are whole hosts: v5e and v6e 2x2, 2x4, 4x4, 4x8, "
            "8x8, 8x16, 16x16; v4 and v5p in three numbers, 2x2x1, 2x2x2, 2x2x4, 2x4x4, 4x4x4, 4x4x8 and so on"
        ) from None


def compile_program(program: Program, fast: bool = True) -> Compiled:
    """Compiles a step for the devices of its mesh (`fast`: see FAST; TPU only), and reads what the compiler says."""
    traced = program.trace()
    devices = program.mesh.size
    flops = matmul_flops(traced.jaxpr.jaxpr) / devices
    options = FAST if fast and program.mesh.devices.flat[0].platform == "tpu" else None
    try:
        with jax.set_mesh(program.mesh):
            compiled = traced.lower().compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        return _too_large(error, flops)
    stats = compiled.memory_analysis()
    found = tuple(collectives(compiled.as_text(), devices))
    arguments, temporaries = stats.argument_size_in_bytes, stats.temp_size_in_bytes
    outputs = stats.output_size_in_bytes - stats.alias_size_in_bytes
    # The CPU's backend reports no peak.
    peak = max(stats.peak_memory_in_bytes, arguments + temporaries + outputs)
    return Compiled(arguments, outputs, temporaries, peak, flops, found)


def _too_large(error: Exception, flops: float) -> Compiled:
    """What a refusal says: `Used 21.9G of 15.75G hbm`, or that of HLO temporaries alone."""
    text = str(error)
    if "RESOURCE_EXHAUSTED" not in text:
        raise error
    used = re.search(r"Used ([\d.]+)([GM]) of ([\d.]+)([GM]) hbm", text) or re.search(
        r"required[^(]*\(([\d.]+)([GM])\) exceeds available HBM \(([\d.]+)([GM])", text
    )
    if used is None:
        raise error
    unit = {"G": GIB, "M": GIB >> 10}
    need, there = (int(float(used[i]) * unit[used[i + 1]]) for i in (1, 3))
    return Compiled(0, 0, 0, need, flops, (), need - there)
