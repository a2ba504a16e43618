"""The help that `--help` prints of commands with many flags: those that people use. `--help-all` has all of them."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from cuma_jax.commands.command_line.flags import flags_of
from cuma_jax.config import objective_rules

_DATA = ("file", "config", "source", "path", "raw", "wvb", "questions", "cache_dir", "json")
SHORT: dict[str, tuple[str, ...]] = {
    "train": (
        "config", "method", "machine", "name", "run.dir", "model.source", "data.source", "data.path",
        objective_rules.FIELD, "adapter.rank", "train.steps", "train.batch_size", "train.seed",
    ),
    "plan": (
        "config", "method", "machine", "topology", "gpu", "gpus", "search", "length", "json", "model.source",
        "adapter.rank", "train.batch_size", "mesh.fsdp", "mesh.tensor",
    ),
    "evaluate": (
        "run", "checkpoint", "machine", "evaluation.group_by", "evaluation.min_cell", "evaluation.option_orders",
        "preferences", "against", "prompts", "judge.url", "judge.model", "paper_metrics",
    ),
    "generate": (
        "run", "checkpoint", "profile", "prompt", "question", "file", "samples", "base", "json",
        "sampling.max_new_tokens", "sampling.temperature", "sampling.seed",
    ),
    "analyze": ("run", "checkpoint", "rows", "evaluation.group_by"),
    "data build": _DATA,
    "data check": _DATA,
    "data show": (*_DATA, "examples", "seed", "model", "objective", "in_prompt"),
    "data export": (*_DATA, "out", "format", "overwrite"),
}  # fmt: skip
"""Flags by program; programs that are not here have few."""


def print_short(prog: str, program: str, description: str, parts: Sequence[Any]) -> None:
    """Prints the help of the flags that `SHORT` names, with the defaults that `parts` have, and how to see all."""
    flags = list(flags_of(parts))
    known = {flag.name: flag for flag in flags}
    fields: list[Any] = []
    for name in SHORT[program]:
        flag = known[name]
        text = " ".join(flag.text.split())
        about = tyro.conf.arg(name=None if flag.positional else name, help=text)
        default = (
            dataclasses.field() if flag.default is dataclasses.MISSING else dataclasses.field(default=flag.default)
        )
        fields.append((name.replace(".", "__"), Annotated[flag.hint, about], default))
    line: Any = dataclasses.make_dataclass("Line", fields, frozen=True, kw_only=True)
    try:
        tyro.cli(line, prog=prog, description=description, args=["--help"], use_underscores=True)
    except SystemExit:
        print(f"\nall {sum(not flag.positional for flag in flags)} flags: --help-all")
