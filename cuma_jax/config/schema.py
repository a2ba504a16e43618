"""What a run is, and what several in a chain are: frozen dataclasses, validated, free of jax.

A preset in `configs/*.py` is a function returning a `Config`. Every field can be overridden on the command line
(`--adapter.rank 64`), and the resolved config is saved with the run. The docstring under a field is its help text.
"""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Annotated, Any

from cuma_jax.config.checks import validate
from cuma_jax.config.data import CONVERSATIONS, DataConfig
from cuma_jax.config.fields import Name, shown
from cuma_jax.config.model import AdapterConfig, ModelConfig, ProfileConfig, RouterConfig
from cuma_jax.config.objective_rules import RULES
from cuma_jax.config.preferences import DpoConfig, GrpoConfig, JudgeConfig, RewardConfig, SamplingConfig
from cuma_jax.config.training import (
    EvaluationConfig,
    MeshConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
    TrainConfig,
)
from cuma_jax.runtime.errors import CumaError

ANY = object()
RETIRED: dict[str, Any] = {"data.prefetch": ANY, "reward.function_weight": 1.0, "run.resume": ANY}
"""Fields that are no more, and the value that a saved config may have there: what is done now. ANY: it made no
difference to what was learned."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One run of cuma_jax."""

    name: Annotated[str, Name()] = "run"
    """Name of the run; the default folder is runs/<name>."""
    model: ModelConfig = ModelConfig()
    adapter: AdapterConfig = AdapterConfig()
    router: RouterConfig = RouterConfig()
    profile: ProfileConfig = ProfileConfig()
    data: DataConfig = DataConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    dpo: DpoConfig = DpoConfig()
    grpo: GrpoConfig = GrpoConfig()
    sampling: SamplingConfig = SamplingConfig()
    reward: RewardConfig = RewardConfig()
    judge: JudgeConfig = JudgeConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    mesh: MeshConfig = MeshConfig()
    run: RunConfig = RunConfig()

    def __post_init__(self) -> None:
        validate(self)

    @property
    def reads_answers(self) -> bool:
        """Whether rows are answers to questions: of a survey, or choices between responses."""
        return self.data.source not in CONVERSATIONS or self.reads_choices

    @property
    def reads_choices(self) -> bool:
        """Whether preference data are read as choices between responses, and not as conversations."""
        return self.data.task == "choice" or (self.data.task == "auto" and RULES[self.objective.name].choices)


def to_dict(config: Config) -> dict[str, Any]:
    """The config as plain JSON values (tuples become lists)."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> Config:
    """The inverse of `to_dict`; strict both ways, but for fields of earlier versions that are RETIRED.

    A `CumaError` for an unknown field, a value the field does not allow, or a retired one that is obeyed no more.
    """
    if values == {}:
        raise CumaError("the config is empty: no field is set in it; give the config.json of a run")
    return _from_dict(Config, values, "")


def _from_dict(cls: type, values: dict[str, Any], prefix: str) -> Any:
    hints, known = typing.get_type_hints(cls), {f.name for f in dataclasses.fields(cls)}
    kwargs: dict[str, Any] = {}
    if not isinstance(values, dict):
        raise CumaError(f"config section {prefix.rstrip('.') or 'top level'} is {shown(values)}; it must be an object")
    for key, value in values.items():
        if (name := f"{prefix}{key}") in RETIRED:
            if RETIRED[name] not in (ANY, value):
                raise CumaError(
                    f"config field {name} is retired: {shown(value)} is no more what is done, but {RETIRED[name]!r}. "
                    "Take the field out of the file, or use the version of cuma_jax that wrote it"
                )
            continue
        if key not in known:
            name = f"{prefix}{shown(key)[1:-1]}"
            raise CumaError(f"config field {name} is unknown; known here: {', '.join(sorted(known))}")
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            value = _from_dict(typing.cast(type, hint), value, f"{prefix}{key}.")
        elif isinstance(value, list):
            value = tuple(value)
        kwargs[key] = value
    return cls(**kwargs)


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
