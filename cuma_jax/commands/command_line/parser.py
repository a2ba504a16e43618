"""The one parser of command lines: dataclasses become flags, their docstrings become the help (tyro).

Every command declares its options as a frozen dataclass. The fields of a config have defaults that a part of the line
decides: the preset's (`--config`), or those of a run (`--run`). So a line is read twice: `peek` takes the options that
it knows and leaves the rest, then `parse` reads all of it, and its help shows all of it.

Nothing here imports jax: `--help` answers at once, and reads no run.
"""

import contextlib
import dataclasses
import pathlib
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import UseAppendAction

from cuma_jax.config import Config, DataConfig, EvaluationConfig, MeshConfig
from cuma_jax.config.fields import Line, Place, check_places, check_values, shown
from cuma_jax.config.machines import MACHINES, apply_machine
from cuma_jax.config.methods import METHODS, apply_method
from cuma_jax.config.presets import DEFAULT_PRESET, load_config, load_runs, presets
from cuma_jax.config.schema import Chain, linked
from cuma_jax.runtime.errors import CumaError

T = TypeVar("T")
TEXT = Line(longest=10**6, lines=True)
"""What people write, prompts and profiles; no control characters but those that break lines."""
_WHOLE, _FLAGS = ("--help-all", "--help_all"), "--help-flags"


@dataclasses.dataclass(frozen=True)
class Distributed:
    """How the processes of a run find each other."""

    distributed: Annotated[str, Line()] = "auto"
    """auto, none or HOST:PORT,N,I. auto: as JAX does on a TPU pod, under srun or mpirun, or in a Kubernetes Job, and
    one process everywhere else; none: one process; HOST:PORT,N,I: process I of N, counted from 0, which listens there.
    One that dies ends the others within $CUMA_JAX_HEARTBEAT seconds (100). See docs/distributed.md."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """Where the settings of a run start; every field of the config overrides them."""

    config: Annotated[str, Line()] = DEFAULT_PRESET
    """A preset's name, a .py file with a function of the file's name that returns a Config (or a Chain of them), or the
    config.json of a run."""
    method: Annotated[str, Line()] = ""
    """Sets the adapter, router and objective fields that make the method."""
    machine: Annotated[str, Line()] = ""
    """Sets mesh, batch, micro-batches and memory settings for the shipped WorldValuesBench presets there, and divides
    the steps by as much as the batch grows (docs/plan.md)."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Which run."""

    run: Annotated[str, Place("run")] = ""
    """Folder of the run (required)."""

    def __post_init__(self) -> None:
        if not self.run:
            raise CumaError("--run is required: the folder of a run, e.g. --run runs/quickstart")


@dataclasses.dataclass(frozen=True)
class SavedRun(Distributed, RunFolder):
    """Which run, and which of its checkpoints."""

    checkpoint: Literal["", "last", "best"] = ""
    """The newest checkpoint, or the one with the lowest validation loss; empty: what the run's evaluation.checkpoint
    says."""


@dataclasses.dataclass(frozen=True)
class UsedRun(SavedRun):
    """A run that is used, perhaps on another machine than it was trained on."""

    machine: Annotated[str, Line()] = ""
    """As in training: sets the mesh, and the batch of prediction so that it divides."""


@dataclasses.dataclass(frozen=True)
class EvaluationSections:
    """What may differ from the run's own config where it is scored."""

    evaluation: EvaluationConfig
    mesh: MeshConfig


S = TypeVar("S", bound=SavedRun)
P = TypeVar("P", bound=Preset)


def _check_words(argv: Sequence[str]) -> None:
    """Before it is parsed: raises a `CumaError` for words that are no text."""
    for number, word in enumerate(argv, start=1):  # which is not shown: it may hold a key
        if allowed := TEXT.problem(word):
            raise CumaError(f"argument {number} of the command line must be {allowed}")


def _check_each_once(argv: Sequence[str], repeated: Sequence[str]) -> None:
    """Raises a `CumaError` for a flag that is there twice: all but the last would be ignored. Of `repeated` each
    counts."""
    seen: dict[str, str] = {}
    for word in argv:
        if word == "--":
            break
        flag = word.partition("=")[0]
        if not flag.startswith("--"):
            continue
        above, dot, last = flag[2:].replace("-", "_").rpartition(".")
        name = above + dot + last.removeprefix("no_")
        if name in seen and name not in repeated:
            twice = "there twice" if seen[name] == flag else f"there beside {seen[name]}"
            raise CumaError(f"{flag} is {twice}; give it once (a flag of several values takes them all: --flag A B)")
        seen[name] = flag


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether the line asks what may be said, and nothing is to be done."""
    return bool({"-h", "--help", *_WHOLE, _FLAGS} & set(argv))


def peek(options: type[T], argv: Sequence[str]) -> T:
    """The options of one dataclass; all others are left to who parses them. Raises what `parse` does."""
    _check_words(argv)
    found, _ = tyro.cli(options, args=argv, use_underscores=True, add_help=False, return_unknown_args=True)
    check_values(found, "--")
    return found


def parse(program: str, description: str, argv: Sequence[str], *parts: Any) -> tuple[Any, ...]:
    """The whole line of `python -m cuma_jax.<program>`: an instance of every part.

    The fields of `parts`, dataclasses, are the flags; an instance instead of a class has the defaults.

    Raises:
        SystemExit: --help, where `short_help` has a short one with --help-all for all, and --help-flags, for programs;
            or an unknown flag or a value of another type, with code 2.
        CumaError: whatever a dataclass refuses.
    """
    _check_words(argv)
    _check_each_once(argv, [name for part in parts for name in _repeated(part)])
    prog = f"python -m cuma_jax.{program}"
    if asks_for_help(argv):
        _short_help(prog, program, description, argv, parts)
        argv = ["--help"]
    fields: list[Any] = []
    for number, part in enumerate(parts):
        default = dataclasses.field() if isinstance(part, type) else dataclasses.field(default=part)
        kind = part if isinstance(part, type) else type(part)
        fields.append((f"part_{number}", Annotated[kind, tyro.conf.arg(name="")], default))
    line: Any = tyro.cli(
        dataclasses.make_dataclass("Line", fields, frozen=True, kw_only=True),
        prog=prog,
        description=description,
        args=argv,
        use_underscores=True,
    )
    found = tuple(getattr(line, name) for name, *_ in fields)
    for part in found:
        if not isinstance(part, Config | DataConfig):  # a config is checked wherever it is made
            check_values(part, "--")
            check_places(part, "--")
    return found


def _short_help(prog: str, program: str, description: str, argv: Sequence[str], parts: Sequence[Any]) -> None:
    """Prints what was asked for and raises `SystemExit`, unless that is the whole help."""
    from cuma_jax.commands.command_line.flags import flag_lines
    from cuma_jax.commands.command_line.short_help import SHORT, print_short

    if _FLAGS in argv:
        print(flag_lines(program, parts))
    elif program in SHORT and not set(_WHOLE) & set(argv):
        print_short(prog, program, description, parts)
    else:
        return
    raise SystemExit(0)


def _repeated(part: Any) -> list[str]:
    """The flags of a dataclass, or of an instance, that may be given several times."""
    hints = typing.get_type_hints(part if isinstance(part, type) else type(part), include_extras=True)
    return [name for name, hint in hints.items() if UseAppendAction in getattr(hint, "__metadata__", ())]


def parse_runs(
    program: str, description: str, argv: Sequence[str], options: type[P], chains: bool = True
) -> tuple[P, tuple[Config, ...]]:
    """The options of a line about new runs, and the configs: of one run, or of the stages of a chain, where every flag
    holds for every stage. Without `chains` nothing is read or written, and there is no chain. See `parse`. A
    `CumaError` for a bad preset, method, machine or value; files or folders that are not there, or of the other kind;
    a chain where none is wanted.
    """
    start = peek(_Start, argv)
    preset = load_runs(start.config) if chains else load_config(start.config)
    stages = preset.stages if isinstance(preset, Chain) else (preset,)
    names = (("Presets", presets()), ("Methods", METHODS), ("Machines", MACHINES))
    text = "\n\n".join([description, *(f"{kind}: {', '.join(known)}." for kind, known in names)])
    lines = [parse(program, text, argv, options, start.of(stage)) for stage in stages]
    configs = tuple(config for _, config in lines)
    if chains:
        check_data_places(configs[0].data, "config field data.")
        check_places(configs[0].adapter, "config field adapter.")
    if isinstance(preset, Chain):
        configs = linked(preset.name, configs)
    for config in configs:
        where = config.run if config.run.dir else dataclasses.replace(config.run, dir=f"runs/{config.name}")
        check_places(where, "config field run.", () if chains else ("dir",))
    return lines[0][0], configs


def check_data_places(data: DataConfig, prefix: str) -> None:
    """Raises a `CumaError` where a path that the source reads is not there, or not what it must be, and for a path that
    it does not read: who gives one means another source."""
    for name in data.unread:
        if value := getattr(data, name):
            raise CumaError(
                f"{prefix}{name} is {shown(value)}, which {prefix}source {data.source} does not read; leave it empty, "
                "or name the source that reads it"
            )
    check_places(data, prefix)


def parse_saved_run(
    program: str, description: str, argv: Sequence[str], options: type[S], sections: type
) -> tuple[S, pathlib.Path, Config]:
    """The options of a line about a trained run, its folder, and its config with what the line changes: fields of
    `sections`, a dataclass. See `parse`. A `CumaError` for no such run, an unknown machine, or a value that a config
    may not hold.
    """
    config, folder = Config(), pathlib.Path()
    if not asks_for_help(argv):
        from cuma_jax.config.saved import local_folder, read_config

        seen = peek(options, argv)
        folder = local_folder(seen.run, "--run")
        config = read_config(folder)
        if isinstance(seen, UsedRun) and seen.machine:
            there = apply_machine(config, seen.machine)
            config = dataclasses.replace(config, mesh=there.mesh, evaluation=there.evaluation)
    names = [field.name for field in dataclasses.fields(sections)]
    start = sections(**{name: getattr(config, name) for name in names})
    found, changed = parse(program, description, argv, options, start)
    return found, folder, dataclasses.replace(config, **{name: getattr(changed, name) for name in names})


@contextlib.contextmanager
def joined(argv: Sequence[str]) -> Iterator[None]:
    """Joins the run's other processes, as `--distributed` says, before anything is read: a mistake in one ends all."""
    if asks_for_help(argv):
        yield
        return
    from cuma_jax.runtime import processes

    with processes.joined(peek(Distributed, argv).distributed):
        yield


@dataclasses.dataclass(frozen=True)
class _Model:
    source: str = ""


@dataclasses.dataclass(frozen=True)
class _Start(Preset):
    """What decides the defaults of a config's fields."""

    model: _Model = _Model()
    """A machine has settings by model."""

    def of(self, config: Config) -> Config:
        """A preset with method and machine."""
        if self.method:
            config = apply_method(config, self.method)
        if self.machine:
            config = apply_machine(config, self.machine, self.model.source)
        return config
