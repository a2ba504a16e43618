"""From the command line to a Config: `--config FILE`, `--method NAME`, `--machine NAME`, then typed overrides."""

import importlib.util
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from cuma_jax.config import Config, from_dict
from cuma_jax.config_chain import Chain, linked
from cuma_jax.errors import CumaError
from cuma_jax.machines import MACHINES, apply_machine
from cuma_jax.methods import METHODS, apply_method

DEFAULT_PRESET = "quickstart"
COMPARISON = "compare_"
"""How the name of a comparison's preset starts."""
_FOLDERS = (pathlib.Path(__file__).parent / "configs", pathlib.Path(__file__).parent.parent / "configs")


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


def presets() -> list[str]:
    """Names of the presets of runs that ship with the package."""
    return [name for name in _shipped() if not name.startswith(COMPARISON)]


def comparisons() -> list[str]:
    """Names of the presets of comparisons that ship with the package."""
    return [name for name in _shipped() if name.startswith(COMPARISON)]


def _shipped() -> list[str]:
    return sorted({path.stem for folder in _FOLDERS if folder.is_dir() for path in folder.glob("*.py")})


def load_config(source: str) -> Config:
    """The config of a preset's name, a .py file or a .json file.

    Raises:
        CumaError: no such file, or a file that does not yield a Config.
    """
    config = load_runs(source)
    if isinstance(config, Chain):
        raise CumaError(f"--config {source} is a chain of runs; only python -m cuma_jax.train takes it")
    return config


def load_runs(source: str) -> Config | Chain:
    """As `load_config`, and the chain of a preset that trains in stages.

    Raises:
        CumaError: no such file, or a file that yields neither.
    """
    path = _find(source)
    if path.suffix == ".json":
        return _from_json(source, path)
    found = load_preset(source)
    if not isinstance(found, Config | Chain):
        hint = ""
        if path.stem.startswith(COMPARISON):
            hint = f"; to compare several runs: python -m cuma_jax.compare --config {source}"
        raise CumaError(f"--config {source}: the file needs a function {path.stem}() that returns a Config{hint}")
    return found


def _from_json(source: str, path: pathlib.Path) -> Config:
    try:
        return from_dict(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise CumaError(f"--config {source}: not valid JSON ({error})") from None


def load_preset(source: str) -> Any:
    """What the function of a .py file's name returns; None where it has none.

    Raises:
        CumaError: no such file, or not a .py file.
    """
    path = _find(source)
    spec = importlib.util.spec_from_file_location(f"cuma_jax_preset_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CumaError(f"--config {source}: not a .py or .json file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, path.stem, None)
    return function() if callable(function) else None


def _find(source: str) -> pathlib.Path:
    path = pathlib.Path(source).expanduser()
    if path.is_file():
        return path
    for folder in _FOLDERS:
        if (named := folder / f"{path.stem}.py").is_file() and path.suffix in ("", ".py"):
            return named
    known = f"{', '.join(presets())}; of comparisons: {', '.join(comparisons())}"
    raise CumaError(f"--config {source}: no such file, nor a preset; presets are {known}")


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
