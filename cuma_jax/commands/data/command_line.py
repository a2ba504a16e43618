"""The command line of `python -m cuma_jax.data`: a command, then the fields of a config's data section as flags."""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import tyro

from cuma_jax.commands import command_line
from cuma_jax.commands.command_line import check_data_places, peek
from cuma_jax.config import Config, load_config
from cuma_jax.config.data import DataConfig
from cuma_jax.config.fields import SEED, Line, Place, Range
from cuma_jax.config.presets import OWN_SURVEY, presets
from cuma_jax.runtime.errors import CumaError

HELP = """usage: python -m cuma_jax.data COMMAND [FILE.yaml] [flags]

  build    read a source once into the cache, and say what it holds
  show     count by country, question, split and field; print examples as the model sees them
  propose  write survey.yaml and questions.yaml for a table of answers: csv, SPSS, Stata, SAS, Excel, Parquet, ...
  check    look through a source, a survey of your own above all, and list every problem at once
  export   write it as plain tables (Parquet or JSON lines) for other programs

Flags are the fields of a config's data section, without `data.`: --source wvs7 is --data.source wvs7 of
`python -m cuma_jax.train`. `python -m cuma_jax.data COMMAND --help` has examples and the flags that people use,
--help-all every flag; docs/data_commands.md shows what each command prints."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of every command."""

    file: Annotated[tyro.conf.Positional[str], Place("any")] = ""
    """The YAML file of a survey of your own: short for --source csv --path FILE.yaml. For propose and check also a
    table of answers."""
    config: Annotated[str, Line()] = ""
    """A preset's name, a .py file, or the config.json of a run: where the flags below start, how data are split, and
    how examples are rendered; empty: my_survey for a survey of your own, else the defaults of every field."""
    cache_dir: Annotated[str, Place("new folder")] = ""
    """Where parsed sources are kept; empty: $CUMA_JAX_CACHE or ~/.cache/cuma_jax."""
    json: bool = False
    """Print one JSON object instead of text."""


@dataclasses.dataclass(frozen=True)
class ShowOptions(Options):
    """Options of `show`."""

    examples: Annotated[int, Range(0, 10**5)] = 5
    """Rows to print as the model sees them."""
    seed: Annotated[int, SEED] = 0
    """Which rows: another seed draws others."""
    model: Annotated[str, Place("any")] = ""
    """Model whose tokenizer and chat template render the examples; empty: the config's."""
    objective: Literal["", "choice", "sft", "dpo"] = ""
    """What is supervised: the option letter; the letter and the end of the turn; or both replies of a pair. Empty: the
    config's; for conversations sft."""
    in_prompt: bool = False
    """Write the profile in the system message, as profile.in_prompt does."""


@dataclasses.dataclass(frozen=True)
class ExportOptions(Options):
    """Options of `export`."""

    out: Annotated[str, Place("new folder")] = ""
    """Folder to write to (required)."""
    format: Literal["parquet", "jsonl"] = "parquet"
    """Parquet, or one JSON object a line."""
    overwrite: bool = False
    """Replace files that are there."""

    def __post_init__(self) -> None:
        if not self.out:
            raise CumaError("export needs --out FOLDER: where the tables go")


@dataclasses.dataclass(frozen=True)
class ProposeOptions(Options):
    """Options of `propose`."""

    out: Annotated[str, Place("new folder")] = ""
    """Folder for survey.yaml and questions.yaml; empty: beside the table."""
    overwrite: bool = False
    """Replace the YAML files that are there."""
    stdout: bool = False
    """Print one YAML file, questions included, and write none."""

    def __post_init__(self) -> None:
        if not self.file:
            raise CumaError("propose needs a table: python -m cuma_jax.data propose answers.sav")


@dataclasses.dataclass(frozen=True)
class _Start:
    config: str = ""
    source: str = ""
    path: str = ""


_COMMANDS: dict[str, tuple[type[Options], str]] = {
    "build": (
        Options,
        "Reads a source into the cache, so that training starts at once. A source that is there already, by its "
        "content, is only opened. Prints what was read, what was left out and why, the time and the memory.\n\n"
        "  python -m cuma_jax.data build --source wvs7 --raw WVS.csv --wvb WorldValuesBench",
    ),
    "show": (
        ShowOptions,
        "Counts by country, split, field and question; weights; duplicate texts; and examples as the model will see "
        "them, the tokens that the loss is taken on marked.\n\n"
        "  python -m cuma_jax.data show --questions 'wvs_immig.*' --examples 2\n\n"
        "  python -m cuma_jax.data show --config debug --objective sft --in_prompt --json",
    ),
    "propose": (
        ProposeOptions,
        "Writes survey.yaml and questions.yaml for a table: wordings and options from its labels, what is no answer, "
        "weights, the profile, several answers, each line with its reason, and TODO where only a person can know. "
        "Formats: csv, tsv (packed or not), parquet, feather, sav, zsav, por, dta, sas7bdat, xpt, xlsx, ods.\n\n"
        "  python -m cuma_jax.data propose survey.sav",
    ),
    "check": (
        Options,
        "Lists every problem of a survey of your own at once: file, row, column, what to do. Exit code 2 if one is an "
        "error, 0 if not. For a table without a survey.yaml beside it, one is proposed first. Other sources are read "
        "whole and their skipped rows reported.\n\n"
        "  python -m cuma_jax.data check examples/my_survey/survey.yaml",
    ),
    "export": (
        ExportOptions,
        "Writes plain tables: respondents, questions, answers (or conversations and turns), and the split by ids. "
        "Files are written whole or not at all.\n\n"
        "  python -m cuma_jax.data export --source wvs7 --raw WVS.csv --wvb WorldValuesBench --out tables",
    ),
}


def parse(argv: Sequence[str]) -> tuple[str, Config, Any]:
    """Command, config and options of a line; a `CumaError` for a command, preset or value that there is not."""
    if not argv or argv[0] in ("-h", "--help", "--help-all", "help"):
        print(HELP, file=sys.stdout if argv else sys.stderr)
        sys.exit(0 if argv else 2)
    command, *args = argv
    if command not in _COMMANDS:
        raise CumaError(f"unknown command {command!r}; it must be one of {', '.join(_COMMANDS)} (--help explains them)")
    kind, text = _COMMANDS[command]
    start = peek(_Start, args)
    before = ["", *args]
    if "--config=" in args or any(
        not word and (before[i] == "--config" or not before[i].startswith("--")) for i, word in enumerate(args)
    ):
        raise CumaError("FILE or --config is empty (a variable that is not set?); leave it out, or give a value")
    config = load_config(start.config) if start.config else Config()
    data = config.data
    if command == "check" and start.path and not (start.source or start.config):
        data = dataclasses.replace(data, source="csv")
    description = f"{text}\n\nPresets: {', '.join(presets())}."
    options, section = command_line.parse(f"data {command}", description, args, kind, data)
    if not start.config and (options.file or section.source == "csv"):
        # As training with it will: the splits above all.
        config = load_config(OWN_SURVEY)
        data = dataclasses.replace(config.data, path="")
        options, section = command_line.parse(f"data {command}", description, args, kind, data)
    if options.file:
        if start.path or start.source not in ("", "csv"):
            raise CumaError(f"{options.file} is short for --source csv --path {options.file}; leave these two out")
        section = dataclasses.replace(section, source="csv", path=options.file)
    return command, _configure(config, section, options), options


def _configure(config: Config, data: DataConfig, options: Options) -> Config:
    from cuma_jax.preferences.load import SOURCES

    sections: dict[str, Any] = {"data": data}
    start, wanted = config.objective, getattr(options, "objective", "")
    if not wanted and not options.config and data.source in SOURCES:
        wanted = "sft"  # whole conversations say more of such a source than choices
    if wanted not in ("", start.name):
        changed: dict[str, Any] = {"name": wanted}
        if wanted in ("sft", "dpo"):  # whose only loss and aggregate these are
            changed |= {"loss": "cross_entropy", "aggregate": "respondent"}
        sections["objective"] = dataclasses.replace(start, **changed)
    if isinstance(options, ShowOptions):
        if options.model:
            sections["model"] = dataclasses.replace(config.model, source=options.model, revision="", tokenizer="")
        if options.in_prompt:
            sections["profile"] = dataclasses.replace(config.profile, in_prompt=True)
    sections["run"] = dataclasses.replace(config.run, cache_dir=options.cache_dir or config.run.cache_dir)
    return dataclasses.replace(config, **sections)


def main(argv: Sequence[str] | None = None) -> None:
    """Parses and runs one command."""
    command, config, options = parse(sys.argv[1:] if argv is None else argv)
    check_data_places(config.data, "--")
    # Imported here: `--help` and a bad flag must not wait for pandas and Arrow.
    from cuma_jax.commands.data import commands

    if command == "build":
        result = commands.build(config)
    elif command == "show":
        result = commands.show(config, options.examples, options.seed, options.json)
    elif command == "check":
        result = commands.check(config)
    elif command == "propose":
        folder = pathlib.Path(options.out).expanduser() if options.out else None
        result = commands.propose_files(options.file, folder, options.overwrite, options.stdout)
    else:
        out = pathlib.Path(options.out).expanduser()
        result = commands.export_tables(config, out, options.format, options.overwrite)
    print(json.dumps(result.facts, ensure_ascii=False) if options.json else result.text)
    if result.failed:
        sys.exit(2)
