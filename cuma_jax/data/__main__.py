"""Looks after data: `python -m cuma_jax.data build | show | check | export`. See `--help`, also of each command."""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Literal

import tyro

from cuma_jax.commands.command_line import take_option
from cuma_jax.config import Config, load_config
from cuma_jax.config.data import DataConfig
from cuma_jax.config.presets import presets
from cuma_jax.runtime.errors import CumaError, run_main

HELP = """usage: python -m cuma_jax.data COMMAND [FILE.yaml] [flags]

  build    read a source once into the cache, and say what it holds
  show     count by country, question, split and field; print examples as the model sees them
  check    look through a source, a survey of your own above all, and list every problem at once
  export   write it as plain tables (Parquet or JSON lines) for other programs

Flags are the fields of a config's data section, without `data.`: --source wvs7 is --data.source wvs7 of
`python -m cuma_jax.train`. FILE.yaml is a survey of your own, short for --source csv --path FILE.yaml.
`--config NAME` starts from the data, profile and model of a preset, or of the config.json of a run.

  python -m cuma_jax.data show                                   # the default survey
  python -m cuma_jax.data check examples/my_survey/survey.yaml   # a survey of your own
  python -m cuma_jax.data show --config quickstart --examples 2 --seed 7
  python -m cuma_jax.data build --source wvs7 --raw WVS.csv --wvb WorldValuesBench
  python -m cuma_jax.data export --source wvb --wvb WorldValuesBench --split official --out tables

`python -m cuma_jax.data COMMAND --help` lists the flags of a command. docs/data_commands.md shows what each prints."""

_START = (
    "FILE.yaml       a survey of your own: short for --source csv --path FILE.yaml\n\n"
    "--config FILE   a preset's name ({presets}), a .py file, or the config.json of a run: where the flags below "
    "start, and how examples are rendered (default: the defaults of every field)"
)


@dataclasses.dataclass(frozen=True)
class BuildFlags:
    """Flags of `build`."""

    data: DataConfig
    cache_dir: str = ""
    """Where parsed sources are kept; empty: $CUMA_JAX_CACHE or ~/.cache/cuma_jax."""
    json: bool = False
    """Print one JSON object instead of text."""


@dataclasses.dataclass(frozen=True)
class CheckFlags(BuildFlags):
    """Flags of `check`."""


@dataclasses.dataclass(frozen=True)
class ShowFlags(BuildFlags):
    """Flags of `show`."""

    examples: int = 5
    """Rows to print as the model sees them."""
    seed: int = 0
    """Which rows: another seed draws others."""
    model: str = ""
    """Model whose tokenizer and chat template render the examples; empty: the config's."""
    objective: Literal["", "choice", "sft", "dpo"] = ""
    """What is supervised: the option letter; the letter and the end of the turn; or both replies of a pair. Empty: the
    config's; for conversations sft."""
    in_prompt: bool = False
    """Write the profile in the system message, as profile.in_prompt does."""


@dataclasses.dataclass(frozen=True)
class ExportFlags(BuildFlags):
    """Flags of `export`."""

    out: str = ""
    """Folder to write to (needed)."""
    format: Literal["parquet", "jsonl"] = "parquet"
    """Parquet, or one JSON object a line."""
    overwrite: bool = False
    """Replace files that are there."""


_COMMANDS: dict[str, tuple[type[BuildFlags], str]] = {
    "build": (
        BuildFlags,
        "Reads a source into the cache, so that training starts at once. A source that is there already, by its "
        "content, is only opened. Prints what was read, what was left out and why, the time and the memory.\n\n"
        "  python -m cuma_jax.data build --source wvs7 --raw WVS.csv --wvb WorldValuesBench",
    ),
    "show": (
        ShowFlags,
        "Counts by country, split, field and question; weights; duplicate texts; and examples as the model will see "
        "them, the tokens that the loss is taken on marked.\n\n"
        "  python -m cuma_jax.data show --questions 'wvs_immig.*' --examples 2\n\n"
        "  python -m cuma_jax.data show --config debug --objective sft --in_prompt --json",
    ),
    "check": (
        CheckFlags,
        "Lists every problem of a survey of your own at once: file, row, column, what to do. Exit code 2 if one is an "
        "error, 0 if not. Other sources are read whole and their skipped rows reported.\n\n"
        "  python -m cuma_jax.data check examples/my_survey/survey.yaml",
    ),
    "export": (
        ExportFlags,
        "Writes plain tables: respondents, questions, answers (or conversations and turns), and the split by ids. "
        "Files are written whole or not at all.\n\n"
        "  python -m cuma_jax.data export --source wvs7 --raw WVS.csv --wvb WorldValuesBench --out tables",
    ),
}


def parse(argv: Sequence[str]) -> tuple[str, Config, Any]:
    """Command, config and flags of a command line.

    Raises:
        CumaError: an unknown command, a bad preset, or values that a config may not hold.
    """
    args = list(argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, file=sys.stdout if args else sys.stderr)
        sys.exit(0 if args else 2)
    command = args.pop(0)
    if command not in _COMMANDS:
        raise CumaError(f"unknown command {command!r}; it must be one of {', '.join(_COMMANDS)} (--help explains them)")
    flags_type, text = _COMMANDS[command]
    preset = take_option(args, "--config")
    config = load_config(preset) if preset else Config()
    data = config.data
    if args and not args[0].startswith("-"):
        data = dataclasses.replace(data, source="csv", path=args.pop(0))
    elif command == "check" and not preset and not _has(args, "--source") and _has(args, "--path"):
        data = dataclasses.replace(data, source="csv")
    flags = tyro.cli(
        flags_type,
        prog=f"python -m cuma_jax.data {command}",
        description=f"{text}\n\n{_START.format(presets=', '.join(presets()))}",
        default=flags_type(data=data, cache_dir=config.run.cache_dir),
        args=args,
        config=(tyro.conf.OmitArgPrefixes,),
        use_underscores=True,
    )
    if isinstance(flags, ShowFlags) and flags.examples < 0:
        raise CumaError(f"--examples is {flags.examples}; it must be zero or more")
    if isinstance(flags, ExportFlags) and not flags.out:
        raise CumaError("export needs --out FOLDER: where the tables go")
    return command, _configure(config, flags, bool(preset)), flags


def _has(args: Sequence[str], flag: str) -> bool:
    return any(arg == flag or arg.startswith(f"{flag}=") for arg in args)


def _configure(config: Config, flags: BuildFlags, preset: bool) -> Config:
    """The config that the flags make of a preset."""
    from cuma_jax.preferences.load import SOURCES

    objective = getattr(flags, "objective", "") or config.objective.name
    if not preset and not getattr(flags, "objective", "") and flags.data.source in SOURCES:
        objective = "sft"  # whole conversations say more of such a source than choices
    sections: dict[str, Any] = {"data": flags.data}
    if objective != config.objective.name:
        changed: dict[str, Any] = {"name": objective}
        if objective in ("sft", "dpo"):  # whose only loss and aggregate these are
            changed |= {"loss": "cross_entropy", "aggregate": "respondent"}
        sections["objective"] = dataclasses.replace(config.objective, **changed)
    if isinstance(flags, ShowFlags):
        if flags.model:
            sections["model"] = dataclasses.replace(config.model, source=flags.model, revision="", tokenizer="")
        if flags.in_prompt:
            sections["profile"] = dataclasses.replace(config.profile, in_prompt=True)
    sections["run"] = dataclasses.replace(config.run, cache_dir=flags.cache_dir)
    return dataclasses.replace(config, **sections)


def main(argv: Sequence[str] | None = None) -> None:
    """Parses and runs one command."""
    command, config, flags = parse(sys.argv[1:] if argv is None else argv)
    # Imported here: `--help` and a bad flag must not wait for pandas and Arrow.
    from cuma_jax.commands.data import commands

    if command == "build":
        result = commands.build(config)
    elif command == "show":
        result = commands.show(config, flags.examples, flags.seed, flags.json)
    elif command == "check":
        result = commands.check(config)
    else:
        result = commands.export_tables(config, pathlib.Path(flags.out).expanduser(), flags.format, flags.overwrite)
    print(json.dumps(result.facts, ensure_ascii=False) if flags.json else result.text)
    if result.failed:
        sys.exit(2)


if __name__ == "__main__":
    run_main(main)
