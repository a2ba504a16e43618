"""What a run is: frozen dataclasses, validated, free of jax. Presets import from here."""

from cuma_jax.config.comparison import METHOD_NAMES as METHOD_NAMES
from cuma_jax.config.comparison import Comparison as Comparison
from cuma_jax.config.comparison import Variant as Variant
from cuma_jax.config.comparison import by_method as by_method
from cuma_jax.config.comparison import variant as variant
from cuma_jax.config.data import DataConfig as DataConfig
from cuma_jax.config.model import AdapterConfig as AdapterConfig
from cuma_jax.config.model import ModelConfig as ModelConfig
from cuma_jax.config.model import ProfileConfig as ProfileConfig
from cuma_jax.config.model import RouterConfig as RouterConfig
from cuma_jax.config.preferences import DpoConfig as DpoConfig
from cuma_jax.config.preferences import GrpoConfig as GrpoConfig
from cuma_jax.config.preferences import JudgeConfig as JudgeConfig
from cuma_jax.config.preferences import RewardConfig as RewardConfig
from cuma_jax.config.preferences import SamplingConfig as SamplingConfig
from cuma_jax.config.presets import load_config as load_config
from cuma_jax.config.schema import Chain as Chain
from cuma_jax.config.schema import Config as Config
from cuma_jax.config.schema import from_dict as from_dict
from cuma_jax.config.schema import to_dict as to_dict
from cuma_jax.config.training import EvaluationConfig as EvaluationConfig
from cuma_jax.config.training import MeshConfig as MeshConfig
from cuma_jax.config.training import ObjectiveConfig as ObjectiveConfig
from cuma_jax.config.training import OptimizerConfig as OptimizerConfig
from cuma_jax.config.training import RunConfig as RunConfig
from cuma_jax.config.training import TrainConfig as TrainConfig
