"""The base that an exported adapter belongs to, as transformers loads it, and what it takes to be the same function."""

import dataclasses
import pathlib

from cuma_jax.config import Config
from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.runtime.errors import CumaError


@dataclasses.dataclass(frozen=True)
class BaseModel:
    """The torch model that has the run's base weights."""

    name: str  # what adapter_config.json names as the base
    load: str  # the Python that loads it; empty where torch has no such model
    differs: tuple[str, ...]  # why the exported adapter is not exactly the run's function there

    def lines(self) -> list[str]:
        """What the user is told."""
        base = f"its base in torch: {self.load}" if self.load else f"no torch model has the base {self.name}, made here"
        return [base, *(f"it is not the run's function exactly: {reason}" for reason in self.differs)]


def base_model(config: Config, files: ModelFiles, rounding: float) -> BaseModel:
    """The base of a run; `rounding` is what its tensors lost by their type, as a share of each tensor's largest."""
    name, options = config.model.source, ""
    if files.kind == "gguf" and files.path is not None:
        # Dequantised by transformers as here; the model of another name on the hub has other weights.
        name, options = str(files.path.parent.resolve()), f", gguf_file={files.path.name!r}"
    elif files.path is not None and pathlib.Path(config.model.source).expanduser().is_dir():
        name = str(files.path.resolve())
    elif config.model.revision:
        options = f", revision={config.model.revision!r}"
    load = f"transformers.AutoModelForCausalLM.from_pretrained({name!r}{options}, dtype='float32')"
    differs = []
    if config.model.quantize != "none":
        differs.append(f"the run computed on the base in {config.model.quantize}")
    if rounding > 0:
        differs.append(f"rounding moved its numbers by up to {rounding:.1g} of a tensor's largest (--dtype float32)")
    return BaseModel(name, "" if files.kind == "random" else load, tuple(differs))


def check_no_offset(config: Config, what: str) -> None:
    """Raises a `CumaError` where a run adds to the options' logits what `what`, a format of adapters, cannot hold."""
    if config.objective.start == "pooled":
        raise CumaError(
            f"a run of objective.start pooled cannot be {what}: its adapters are differences from the pooled answers "
            "to each question, which no adapter holds. Use --format bundle, or train with --objective.start base"
        )
