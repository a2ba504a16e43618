"""Whether a run fits a machine that is not here: `python -m cuma_jax.plan --config C --topology v5e:16x16`."""

import json
import pathlib
import sys

import jax

from cuma_jax.commands.command_line import given, parse_config, take_option
from cuma_jax.planning.report import Plan, as_json, as_text
from cuma_jax.planning.run import Target, plan_run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import write_text

_HELP = """Plans a run without running it: does it fit, which mesh, what travels between chips, how fast could it be.
A TPU slice needs no TPU: the real train step is compiled for it (pip install 'cuma_jax[plan]'; a minute or two). GPUs
are planned from shapes, and measured where one is there. Nothing is downloaded for the models of the shipped presets.

What for, one of:
--topology T        a TPU slice: v5e:4x4, v5e:16x16, v6e:16x16, v5p:2x4x4, v4:2x2x4 ...; --slices N for several of them
--machine M         a machine of the table: its topology, mesh and batch
--gpu G --gpus N    h100, h200, a100, rtx4090, rtx3090 or l4

With --topology alone, the table's settings for that slice are taken if the preset's mesh and batch cannot fill it, or
else a mesh is searched; --mesh.* or --train.batch_size plan what they say.

--search            try every mesh, number of micro-batches and remat that divides; compile the best until one fits
--length T          tokens a row (default: the longest bucket, or data.max_length)
--profiles P        rows of the table of profile vectors (default: 65536)
--full              compile with the compiler's whole effort, as training does (four times as long)
--no-compile        shapes and arithmetic only, in seconds
--json FILE         also write everything as JSON"""


def main() -> None:
    """Parses, plans, prints."""
    args = sys.argv[1:]
    flags = {name: _take_flag(args, name) for name in ("--search", "--full", "--no-compile")}
    named = {
        name: take_option(args, name)
        for name in ("--topology", "--slices", "--gpu", "--gpus", "--length", "--profiles", "--json")
    }
    machine, fixed = given(args, "--machine"), _fixes_mesh(args)
    config = parse_config("cuma_jax.plan", _HELP, args)
    target = Target(
        topology=named["--topology"],
        slices=_number(named, "--slices", 1),
        gpu=named["--gpu"],
        gpus=_number(named, "--gpus", 0),
        machine=machine,
        fixed=fixed,
        search=flags["--search"],
        compiles=not flags["--no-compile"],
        full=flags["--full"],
        length=_number(named, "--length", 0),
        profiles=_number(named, "--profiles", 65536),
    )
    if not target.gpu:
        jax.config.update("jax_platforms", "cpu")  # a slice is described; an accelerator that is here is left alone
    plan = plan_run(config, target, say)
    print(as_text(plan))
    if named["--json"]:
        write_json(named["--json"], plan)


def write_json(path: str, plan: Plan) -> None:
    """Writes the plan as one JSON object."""
    text = json.dumps(as_json(plan), indent=1) + "\n"
    write_text(pathlib.Path(path), text)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def _fixes_mesh(args: list[str]) -> bool:
    return any(arg.startswith(("--mesh.", "--train.batch_size", "--train.micro_batches")) for arg in args)


def _take_flag(args: list[str], flag: str) -> bool:
    there = flag in args
    args[:] = [arg for arg in args if arg != flag]
    return there


def _number(values: dict[str, str], flag: str, default: int) -> int:
    text = values[flag]
    if not text:
        return default
    if not text.isdigit() or int(text) < 1:
        raise CumaError(f"{flag} is {text!r}; it must be a positive number")
    return int(text)
