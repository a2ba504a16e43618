"""What `python -m cuma_jax.train` does: one run, or the stages of a chain."""

import dataclasses
import sys

from cuma_jax.commands.command_line import Distributed, Preset, joined, parse_runs

_HELP = """Trains LoRA experts and their router on how people answered, then scores them.

Every field of the config overrides the preset; its default below is the preset's value."""


@dataclasses.dataclass(frozen=True)
class Options(Preset, Distributed):
    """Where the run's settings start, and how its processes find each other."""


def main() -> None:
    """Parses, then runs."""
    argv = sys.argv[1:]
    with joined(argv):
        _, configs = parse_runs("train", _HELP, argv, Options)
        from cuma_jax.commands.train_runs import run_all

        run_all(configs)
