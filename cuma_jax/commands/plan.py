"""What `python -m cuma_jax.plan` does: whether a run fits a machine that is not here."""

import dataclasses
import functools
import json
import pathlib
import sys
from typing import Annotated

from cuma_jax.commands.command_line import Preset, parse_runs
from cuma_jax.config.fields import TOKENS, Line, Place, Range
from cuma_jax.runtime.errors import CumaError

_HELP = """Plans a run without running it: does it fit, which mesh, what travels between chips, how fast could it be.
A TPU slice needs no TPU: the real train step is compiled for it (pip install 'cuma_jax[plan]'; a minute or two). GPUs
are planned from shapes, and measured where one is there. Nothing is downloaded for the models of the shipped presets.

What for: one of --topology, --machine (a machine of the table: its topology, mesh and batch) and --gpu. With --topology
alone, the table's settings for that slice are taken if the preset's mesh and batch cannot fill it, or else a mesh is
searched; --mesh.* or --train.batch_size plan what they say."""
_FIXING = ("--mesh.", "--train.batch_size", "--train.micro_batches")


@dataclasses.dataclass(frozen=True)
class Options(Preset):
    """What is planned, and for what."""

    topology: Annotated[str, Line()] = ""
    """A TPU slice: v5e:4x4, v5e:16x16, v6e:16x16, v5p:2x4x4, v4:2x2x4 ..."""
    slices: Annotated[int, Range(1, 1024)] = 1
    """Several of these slices."""
    gpu: Annotated[str, Line()] = ""
    """h100, h200, a100, rtx4090, rtx3090 or l4."""
    gpus: Annotated[int | None, Range(1, 65536)] = None
    """How many (default: 1)."""
    search: bool = False
    """Try every mesh, number of micro-batches and remat that divides; compile the best until one fits."""
    length: Annotated[int | None, TOKENS] = None
    """Tokens a row (default: the longest bucket, or data.max_length)."""
    profiles: Annotated[int, Range(1, 10**8)] = 65536
    """Rows of the table of profile vectors."""
    full: bool = False
    """Compile with the compiler's whole effort, as training does (four times as long)."""
    compile: bool = True
    """Without it: shapes and arithmetic only, in seconds."""
    json: Annotated[str, Place("new file")] = ""
    """A file to write everything to as JSON."""

    def __post_init__(self) -> None:
        if self.slices > 1 and not self.topology:
            raise CumaError(f"--slices is {self.slices}, which goes with --topology: how many of these slices")
        if self.gpus is not None and not self.gpu:
            raise CumaError(f"--gpus is {self.gpus}, which goes with --gpu: how many of these")


def main() -> None:
    """Parses, plans, prints."""
    argv = sys.argv[1:]
    options, (config,) = parse_runs("plan", _HELP, argv, Options, chains=False)
    # Imported here: `--help` must not wait for jax.
    import jax

    from cuma_jax.planning.report import as_json, as_text
    from cuma_jax.planning.run import Target, plan_run
    from cuma_jax.runtime.files import write_text

    target = Target(
        topology=options.topology,
        slices=options.slices,
        gpu=options.gpu,
        gpus=options.gpus or 0,
        machine=options.machine,
        fixed=any(arg.startswith(_FIXING) for arg in argv),
        search=options.search,
        compiles=options.compile,
        full=options.full,
        length=options.length or 0,
        profiles=options.profiles,
    )
    if not target.gpu:
        jax.config.update("jax_platforms", "cpu")  # a slice is described; an accelerator that is here is left alone
    plan = plan_run(config, target, functools.partial(print, file=sys.stderr, flush=True))
    print(as_text(plan))
    if options.json:
        write_text(pathlib.Path(options.json), json.dumps(as_json(plan), indent=1) + "\n")
