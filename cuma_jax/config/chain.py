"""Several runs one after another, each from the adapters of the one before: SFT, then DPO, then GRPO."""

import dataclasses
from collections.abc import Sequence

from cuma_jax.config.fields import Name, shown
from cuma_jax.config.schema import Config
from cuma_jax.runtime.errors import CumaError


@dataclasses.dataclass(frozen=True)
class Chain:
    """What a preset returns that trains in stages, first to last; the folder of each is runs/<chain>/<stage>."""

    name: str
    stages: tuple[Config, ...]

    def __post_init__(self) -> None:
        if allowed := Name().problem(self.name) if isinstance(self.name, str) else "a text":
            raise CumaError(f"the name of a chain is {shown(self.name)}; it must be {allowed}")
        if not isinstance(self.stages, tuple) or not all(isinstance(stage, Config) for stage in self.stages):
            raise CumaError(f"chain {self.name!r}: stages must be a tuple of Config")
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise CumaError(f"chain {self.name!r} has the stages {names}; it needs at least one, each of another name")


def linked(name: str, stages: Sequence[Config]) -> tuple[Config, ...]:
    """The stages of the chain `name` (overrides applied; `run.dir` is the chain's folder, or empty) with their
    folders, each starting from the one before."""
    found: list[Config] = []
    for stage in stages:
        parent = stage.run.dir or f"runs/{name}"
        run = dataclasses.replace(stage.run, dir=f"{parent.rstrip('/')}/{stage.name}")
        adapter = stage.adapter
        if found:
            adapter = dataclasses.replace(adapter, init_from=found[-1].run.dir)
        found.append(dataclasses.replace(stage, run=run, adapter=adapter))
    return tuple(found)
