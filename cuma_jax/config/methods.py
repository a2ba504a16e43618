"""Every method of the comparison is a setting of the same few fields; there is no second model class."""

import dataclasses

from cuma_jax.config.schema import Config
from cuma_jax.runtime.errors import CumaError

Changes = dict[str, dict[str, object]]

_ONE: Changes = {"adapter": {"experts": 1, "shared_a": False}, "router": {"inputs": "none", "top_k": 1},
                 "objective": {"balance": 0.0}}  # fmt: skip


def _merged(*parts: Changes) -> Changes:
    """Several changes, section by section; of two that name a field the later holds."""
    return {
        section: {k: v for part in parts for k, v in part.get(section, {}).items()}
        for part in parts
        for section in part
    }


def _kind(kind: str, **optimizer: object) -> Changes:
    return _merged(_ONE, {"adapter": {"kind": kind}}, {"optimizer": optimizer} if optimizer else {})


_PROMPT: Changes = {"profile": {"in_prompt": True}}
_MIXLORA: Changes = {"router": {"inputs": "hidden"}}

# method -> changes by section. What is not named stays as the config has it.
METHODS: dict[str, Changes] = {
    # Nothing is trained.
    "base": _kind("none"),
    "persona": _merged(_kind("none"), _PROMPT),
    "persona_few_shot": _merged(_kind("none"), {"profile": {"in_prompt": True, "shots": 3}}),
    # One set of parameters for everybody. The config's learning rate is for low-rank factors that start at zero. All
    # weights want about a tenth of it (Schulman et al., 2025, "LoRA Without Regret"; 1e-5 for a base of billions). A
    # prefix wants more: P-Tuning v2 trains at 5e-3 to 1e-2, and PEFT's prefix tuning example at 1e-2.
    "full": _kind("full", learning_rate=3e-4),
    "prefix": _kind("prefix", learning_rate=1e-2),
    "lora": _ONE,
    "rslora": _merged(_ONE, {"adapter": {"scaling": "sqrt_rank"}}),
    "dora": _kind("dora"),
    "lora_persona": _merged(_ONE, _PROMPT),
    # Experts that do not see who is asking.
    "mixlora": _MIXLORA,
    "hydralora": {"adapter": {"shared_a": True}, "router": {"inputs": "hidden", "gate": "soft"},
                  "objective": {"balance": 0.0}},
    "mixlora_persona": _merged(_MIXLORA, _PROMPT),
    # Experts chosen by who is asking.
    "cuma": {},
    "cuma_profile": {"router": {"inputs": "profile"}},
    "cuma_persona": _PROMPT,
    # Ablations of cuma; without the profile in the router it is mixlora.
    "shuffled": {"profile": {"shuffle": True}},
    "soft": {"router": {"gate": "soft"}, "objective": {"balance": 0.0}},
    "no_balance": {"objective": {"balance": 0.0}},
    "categorical": {"profile": {"granularity": "categorical"}},
    "per_country": {"adapter": {"experts": 0, "shared_a": False}, "router": {"inputs": "lookup", "top_k": 1},
                    "profile": {"granularity": "categorical", "fields": ("country",), "derived": (), "context": ""},
                    "objective": {"balance": 0.0}},
    # The official code's numerics.
    "reference": {"adapter": {"shared_a": True}, "router": {"gate": "double_softmax", "layers": 2, "shared": True},
                  "profile": {"granularity": "profile", "pooling": "mean_padded", "normalise": "none"},
                  "objective": {"balance_form": "reference"}},
}  # fmt: skip


def apply_method(config: Config, method: str) -> Config:
    """`config` with the fields that make it `method`; a `CumaError` where there is no such method."""
    if method not in METHODS:
        raise CumaError(f"method {method!r} is unknown; it must be one of {', '.join(METHODS)}")
    sections = {
        name: dataclasses.replace(getattr(config, name), **changes) for name, changes in METHODS[method].items()
    }
    return dataclasses.replace(config, **sections)
