"""The flags of a command line, one by one, as the parser has them: for the short help and for a shell's completion."""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import tyro

from cuma_jax.config.machines import MACHINES
from cuma_jax.config.methods import METHODS
from cuma_jax.config.presets import comparisons, presets


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag: `--train.steps` has the name train.steps."""

    name: str
    hint: Any
    """Its type, with what is declared of it."""
    default: Any
    """`dataclasses.MISSING` where it has none."""
    text: str
    """What the help says of it."""

    @property
    def positional(self) -> bool:
        """Whether it is a word without a flag."""
        return tyro.conf.Positional in getattr(self.hint, "__metadata__", ())

    @property
    def type(self) -> Any:
        """Its type alone."""
        return typing.get_args(self.hint)[0] if hasattr(self.hint, "__metadata__") else self.hint

    @property
    def takes(self) -> str:
        """How many values stand after it: nothing, one or many."""
        if self.type is bool:
            return "nothing"
        repeated = tyro.conf.UseAppendAction in getattr(self.hint, "__metadata__", ())
        return "many" if typing.get_origin(self.type) is tuple and not repeated else "one"

    def values(self, program: str) -> tuple[str, ...]:
        """The words that it may be, where they are known."""
        if self.name == "config":
            return tuple(comparisons() if program == "compare" else presets())
        if self.name in ("method", "machine"):
            return tuple(METHODS if self.name == "method" else MACHINES)
        item = typing.get_args(self.type)[0] if typing.get_origin(self.type) is tuple else self.type
        return tuple(word for word in typing.get_args(item) if word) if typing.get_origin(item) is Literal else ()


def flags_of(parts: Sequence[Any]) -> Iterator[Flag]:
    """Every flag of dataclasses, or of instances that have the defaults; sections in them by dotted names."""
    for part in parts:
        yield from _of(part, "") if isinstance(part, type) else _of(type(part), "", part)


def flag_lines(program: str, parts: Sequence[Any]) -> str:
    """For programs: a line a flag, with how many values it takes and those that are known, tabs between."""
    lines = []
    for flag in flags_of(parts):
        above, dot, last = flag.name.rpartition(".")
        names = (flag.name, f"{above}{dot}no_{last}") if flag.takes == "nothing" else (flag.name,)
        if not flag.positional:
            lines += [f"--{name}\t{flag.takes}\t{' '.join(flag.values(program))}" for name in names]
    return "\n".join(lines)


def _of(section: Any, prefix: str, values: Any = None) -> Iterator[Flag]:
    hints, texts = typing.get_type_hints(section, include_extras=True), _texts(section)
    for field in dataclasses.fields(section):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value = default if values is None else getattr(values, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            inner = None if value is dataclasses.MISSING else value
            yield from _of(hints[field.name], f"{prefix}{field.name}.", inner)
        else:
            yield Flag(prefix + field.name, hints[field.name], value, texts.get(field.name, ""))


@functools.cache
def _texts(section: type) -> dict[str, str]:
    """Field -> the text below it, of a dataclass and those before it; nearer ones count."""
    found: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if "__dataclass_fields__" not in vars(kind) or not kind.__module__.startswith("cuma_jax"):
            continue
        body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]).body
        for above, below in itertools.pairwise(body):
            if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name) and isinstance(below, ast.Expr):
                found[above.target.id] = inspect.cleandoc(str(ast.literal_eval(below.value)))
    return found
