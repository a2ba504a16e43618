"""Several runs one after another, each from the adapters of the one before: SFT, then DPO, then GRPO."""

import dataclasses
from collections.abc import Sequence

from cuma_jax.config.schema import Config
from cuma_jax.runtime.errors import CumaError


@dataclasses.dataclass(frozen=True)
class Chain:
    """What a preset returns that trains in stages.

    Attributes:
        name: the chain's; its default folder is runs/<name>.
        stages: the runs, first to last; the folder of each is <chain's folder>/<its name>.
    """

    name: str
    stages: tuple[Config, ...]

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise CumaError(f"chain {self.name!r} has the stages {names}; it needs at least one, each of another name")


def linked(name: str, stages: Sequence[Config]) -> tuple[Config, ...]:
    """The stages with their folders, each starting from the one before.

    Args:
        name: of the chain.
        stages: with overrides applied; `run.dir` of all of them is the chain's folder, or empty.
    """
    found: list[Config] = []
    for stage in stages:
        parent = stage.run.dir or f"runs/{name}"
        run = dataclasses.replace(stage.run, dir=f"{parent.rstrip('/')}/{stage.name}")
        adapter = stage.adapter
        if found:
            adapter = dataclasses.replace(adapter, init_from=found[-1].run.dir)
        found.append(dataclasses.replace(stage, run=run, adapter=adapter))
    return tuple(found)
