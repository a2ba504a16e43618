"""CuMA in JAX: LoRA experts on a frozen language model, and a router that sees who is asking."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cuma_jax.serving import Ask as Ask
    from cuma_jax.serving import Model as Model
    from cuma_jax.serving import load as load

__version__ = "0.1.0"
_SERVING = ("load", "Model", "Ask")

# Modules that users' own files imported before they moved, and where their names are now.
_MOVED = {
    "cuma_jax.cli": "cuma_jax.config (load_config)",
    "cuma_jax.config_chain": "cuma_jax.config (Chain)",
    "cuma_jax.config_compare": "cuma_jax.config (Comparison, by_method, variant)",
    "cuma_jax.config_data": "cuma_jax.config (DataConfig)",
    "cuma_jax.config_preferences": "cuma_jax.config (DpoConfig, GrpoConfig, ...)",
    "cuma_jax.methods": "cuma_jax.config.methods",
    "cuma_jax.machines": "cuma_jax.config.machines",
}


class _Moved:
    """Asked last, of modules that nobody else finds."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname in _MOVED:
            raise ModuleNotFoundError(f"{fullname} has moved: import from {_MOVED[fullname]}", name=fullname)


sys.meta_path.append(_Moved())


def __getattr__(name: str) -> Any:
    """`load`, `Model` and `Ask`, imported when they are asked for: `import cuma_jax` stays light."""
    if name in _SERVING:
        return getattr(importlib.import_module("cuma_jax.serving"), name)
    raise AttributeError(f"module 'cuma_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SERVING])
