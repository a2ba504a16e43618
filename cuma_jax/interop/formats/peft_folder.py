"""A LoRA adapter as PEFT loads it: adapter_config.json and adapter_model.safetensors (github.com/huggingface/peft).

PEFT adds `scaling B A x` to a linear, with scaling alpha / r, or alpha / sqrt(r) where `use_rslora` is set. With
`use_dora` the whole weight is scaled to the magnitudes `lora_magnitude_vector`.

Shapes: I input and O output width of a linear, R rank.
"""

import dataclasses
import pathlib

import numpy as np

from cuma_jax.interop.formats.official_config import MODULES
from cuma_jax.interop.formats.official_folder import NUMPY_TYPES, write_files
from cuma_jax.interop.formats.official_tensors import Tensors, module_name

Linear = tuple[int, str]
"""Layer of the model, and one of the targets."""


@dataclasses.dataclass(frozen=True)
class PeftAdapter:
    """One LoRA adapter."""

    rank: int
    alpha: float
    rslora: bool  # divide alpha by the square root of the rank instead
    layers: int  # of the base
    factors: dict[Linear, tuple[np.ndarray, np.ndarray]]  # (A [R,I], B [O,R]), float32, in torch's layout
    magnitudes: dict[Linear, np.ndarray] = dataclasses.field(default_factory=dict)  # DoRA: [O] float32

    def settings(self, base_model: str) -> dict[str, object]:
        """What adapter_config.json holds."""
        adapted = sorted({layer for layer, _ in self.factors})
        some = len(adapted) < self.layers
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_model,
            "r": self.rank,
            "lora_alpha": int(self.alpha) if self.alpha == int(self.alpha) else self.alpha,
            "lora_dropout": 0.0,
            "use_rslora": self.rslora,
            "use_dora": bool(self.magnitudes),
            "target_modules": [
                m.rpartition(".")[2] for t, m in MODULES.items() if any(t == f[1] for f in self.factors)
            ],
            "layers_to_transform": adapted if some else None,
            "layers_pattern": "layers" if some else None,
            "bias": "none",
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "inference_mode": True,
            "modules_to_save": None,
        }

    def stored(self, dtype: str) -> tuple["PeftAdapter", float]:
        """The adapter with its numbers as `dtype` holds them, and how far that moved the one that it moved furthest, as
        a share of its tensor's largest; 0: nothing was lost."""
        moved = 0.0

        def cast(value: np.ndarray) -> np.ndarray:
            nonlocal moved
            value = np.asarray(value, np.float32)
            rounded = value.astype(NUMPY_TYPES[dtype]).astype(np.float32)
            moved = max(moved, float(np.abs(rounded - value).max(initial=0) / max(np.abs(value).max(initial=0), 1e-30)))
            return rounded

        factors = {place: (cast(a_RI), cast(b_OR)) for place, (a_RI, b_OR) in self.factors.items()}
        magnitudes = {place: cast(value) for place, value in self.magnitudes.items()}
        return dataclasses.replace(self, factors=factors, magnitudes=magnitudes), moved

    def tensors(self) -> Tensors:
        """What adapter_model.safetensors holds, float32."""
        found: Tensors = {}
        for (layer, linear), (a_RI, b_OR) in self.factors.items():
            name = f"base_model.model.{module_name(layer, linear)}"
            found[f"{name}.lora_A.weight"], found[f"{name}.lora_B.weight"] = a_RI, b_OR
            if self.magnitudes:
                found[f"{name}.lora_magnitude_vector"] = self.magnitudes[layer, linear]
        return found


def write_peft(folder: pathlib.Path, adapter: PeftAdapter, base_model: str, dtype: str = "float32") -> None:
    """Writes an adapter into `folder`, which is made; `base_model` is the base's name or path, for PEFT to find it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_files(folder, adapter.settings(base_model), adapter.tensors(), dtype, {"format": "pt"})
