"""Every method of the comparison is a setting of the same few fields; there is no second model class."""

import dataclasses

from cuma_jax.config import Config
from cuma_jax.errors import CumaError

# method -> changes by section. What is not named stays as the config has it.
METHODS: dict[str, dict[str, dict[str, object]]] = {
    "lora": {"adapter": {"experts": 1, "shared_a": False}, "router": {"inputs": "none", "top_k": 1},
             "objective": {"balance": 0.0}},
    "rslora": {"adapter": {"experts": 1, "shared_a": False, "scaling": "sqrt_rank"},
               "router": {"inputs": "none", "top_k": 1}, "objective": {"balance": 0.0}},
    "mixlora": {"router": {"inputs": "hidden"}},
    "hydralora": {"adapter": {"shared_a": True}, "router": {"inputs": "hidden", "gate": "soft"},
                  "objective": {"balance": 0.0}},
    "cuma": {},
    "cuma_profile": {"router": {"inputs": "profile"}},
    "soft": {"router": {"gate": "soft"}, "objective": {"balance": 0.0}},
    "shuffled": {"profile": {"shuffle": True}},
    "reference": {"adapter": {"shared_a": True}, "router": {"gate": "double_softmax", "layers": 2, "shared": True},
                  "profile": {"granularity": "profile", "pooling": "mean_padded", "normalise": "none"},
                  "objective": {"balance_form": "reference"}},
}  # fmt: skip


def apply_method(config: Config, method: str) -> Config:
    """`config` with the fields that make it `method`.

    Raises:
        CumaError: an unknown method.
    """
    if method not in METHODS:
        raise CumaError(f"method {method!r} is unknown; it must be one of {', '.join(METHODS)}")
    sections = {
        name: dataclasses.replace(getattr(config, name), **changes) for name, changes in METHODS[method].items()
    }
    return dataclasses.replace(config, **sections)
