"""From the command line to a Config: `--config FILE`, `--method NAME`, `--machine NAME`, then typed overrides."""

import sys
from collections.abc import Sequence

import tyro

from cuma_jax.config import Config
from cuma_jax.config.chain import linked
from cuma_jax.config.machines import MACHINES, apply_machine
from cuma_jax.config.methods import METHODS, apply_method
from cuma_jax.config.presets import DEFAULT_PRESET, load_runs, presets
from cuma_jax.runtime.errors import CumaError


def parse_config(program: str, description: str, argv: Sequence[str] | None = None) -> Config:
    """The config that a command line asks for.

    Args:
        program: e.g. `cuma_jax.train`.
        description: shown by --help.
        argv: arguments; None: those of this process.

    Raises:
        CumaError: a bad preset, method, machine or value.
    """
    return parse_runs(program, description, argv, chains=False)[0]


def parse_runs(
    program: str, description: str, argv: Sequence[str] | None = None, chains: bool = True
) -> tuple[Config, ...]:
    """The runs that a command line asks for: one, or the stages of a chain; flags hold for every stage.

    Args:
        program, description, argv: see `parse_config`.
        chains: whether the program can run a chain.

    Raises:
        CumaError: a bad preset, method, machine or value.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    source = take_option(args, "--config") or DEFAULT_PRESET
    method, machine = take_option(args, "--method"), take_option(args, "--machine")
    preset = load_runs(source)
    if isinstance(preset, Config):
        return (_overridden(program, description, preset, args, method, machine),)
    if not chains:
        raise CumaError(
            f"--config {source} is a chain of runs ({', '.join(stage.name for stage in preset.stages)}), which "
            "python -m cuma_jax.train takes; here give the config.json of one of its runs"
        )
    stages = [_overridden(program, description, stage, list(args), method, machine) for stage in preset.stages]
    return linked(preset.name, stages)


def _overridden(
    program: str, description: str, config: Config, args: list[str], method: str, machine: str
) -> Config:  # fmt: skip
    if method:
        config = apply_method(config, method)
    if machine:
        config = apply_machine(config, machine, given(args, "--model.source"))
    text = (
        f"{description}\n\n"
        f"--config FILE   a preset's name ({', '.join(presets())}), a .py file with a function of the file's name "
        f"that returns a Config (or a Chain of them), or the config.json of a run (default: {DEFAULT_PRESET})\n\n"
        f"--method NAME   {', '.join(METHODS)}: sets the adapter, router and objective fields that make the method\n\n"
        f"--machine NAME  {', '.join(MACHINES)}: sets mesh, batch, micro-batches and memory settings for the shipped "
        "WorldValuesBench presets there, and divides the steps by as much as the batch grows (docs/plan.md)\n\n"
        "Every field below overrides the preset; its default is the preset's value."
    )
    # Flags stay as they are spelt in the dataclasses; tyro exits with code 2 on a bad flag.
    return tyro.cli(
        Config,
        prog=f"python -m {program}",
        description=text,
        default=config,
        args=args,
        config=(tyro.conf.OmitSubcommandPrefixes,),
        use_underscores=True,
    )


def given(args: Sequence[str], flag: str) -> str:
    """The last value that `args` give for `flag`, or an empty string; nothing is removed."""
    rest, value = list(args), ""
    while any(arg == flag or arg.startswith(f"{flag}=") for arg in rest):
        value = take_option(rest, flag)
    return value


def take_option(args: list[str], flag: str) -> str:
    """Removes `flag VALUE` or `flag=VALUE` from `args` and returns the value, or an empty string."""
    for i, arg in enumerate(args):
        if arg == flag:
            if i + 1 == len(args) or args[i + 1].startswith("--"):
                raise CumaError(f"{flag} needs a value")
            value = args[i + 1]
            del args[i : i + 2]
            return value
        if arg.startswith(f"{flag}="):
            del args[i]
            return arg.partition("=")[2]
    return ""


def take_distributed(args: list[str]) -> str:
    """Removes `--distributed` from `args` and returns its value; none where only help is asked for."""
    value = take_option(args, "--distributed") or "auto"
    return "none" if {"-h", "--help"} & set(args) else value
