"""What a run is: frozen dataclasses, validated, free of jax.

A preset in `configs/*.py` is a function returning a `Config`. Every field can be overridden on the command line
(`--adapter.rank 64`), and the resolved config is saved with the run. The docstring under a field is its help text.
"""

import dataclasses
import typing
from typing import Any

from cuma_jax.config.checks import validate
from cuma_jax.config.data import CONVERSATIONS, DataConfig
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

    name: str = "run"
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
    return _from_dict(Config, values, "")


def _from_dict(cls: type, values: dict[str, Any], prefix: str) -> Any:
    hints, known = typing.get_type_hints(cls), {f.name for f in dataclasses.fields(cls)}
    kwargs: dict[str, Any] = {}
    if not isinstance(values, dict):
        raise CumaError(f"config section {prefix.rstrip('.') or 'top level'} is {values!r}; it must be an object")
    for key, value in values.items():
        if (name := f"{prefix}{key}") in RETIRED:
            if RETIRED[name] not in (ANY, value):
                raise CumaError(
                    f"config field {name} is retired: {value!r} is no more what is done, but {RETIRED[name]!r}. Take "
                    "the field out of the file, or use the version of cuma_jax that wrote it"
                )
            continue
        if key not in known:
            raise CumaError(f"config field {prefix}{key} is unknown; known here: {', '.join(sorted(known))}")
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            value = _from_dict(typing.cast(type, hint), value, f"{prefix}{key}.")
        elif isinstance(value, list):
            value = tuple(value)
        kwargs[key] = value
    return cls(**kwargs)
