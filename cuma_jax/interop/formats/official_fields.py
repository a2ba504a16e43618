"""The official settings in terms of a run's config, both ways."""

import dataclasses
from typing import Any

from cuma_jax.config import AdapterConfig, Config, RouterConfig
from cuma_jax.interop.formats.official_config import MODULES, OfficialConfig, adapted_layers
from cuma_jax.models.experts import lora_scale, shares_gate_up
from cuma_jax.models.families import DecoderConfig
from cuma_jax.runtime.errors import CumaError

Fields = dict[str, dict[str, Any]]
"""Section of `Config` -> field -> value."""


def run_fields(config: OfficialConfig, shape: DecoderConfig, where: str) -> Fields:
    """The fields of a run's config that make its model compute as the official one does; errors: `adapted_layers`."""
    targets, layers = adapted_layers(config, shape, where)
    shared, gate_up = config.share_router_for_qkv, config.share_router_for_w_i
    return {
        "adapter": {
            "kind": "lora",
            "experts": config.num_experts,
            "rank": config.lora_r,
            "alpha": float(config.lora_alpha),
            "scaling": "rank",
            "targets": targets,
            "shared_a": config.use_hydra_lora,
            "layers": 0 if layers == shape.layers else layers,
        },
        "router": {
            "inputs": "hidden+profile" if config.demographic_embed_dim else "hidden",
            "gate": "double_softmax" if config.top_k_routing_strategy else "topk_unnormalised",
            "top_k": config.top_k,
            "layers": config.num_router_mlp_layers,
            "hidden_dim": config.router_hidden_dim,
            "temperature": 1.0,
            "shared": shared,
            "shared_gate_up": "same" if gate_up == shared else "yes" if gate_up else "no",
        },
        "profile": {"projection_layers": 0},
    }


def training_fields(config: OfficialConfig) -> Fields:
    """The fields that only training reads: they do not decide what the adapter computes."""
    balance = config.lambda_auxiliary / config.lambda_lm if config.use_load_balancing_loss else 0.0
    return {
        "adapter": {"dropout": config.dropout},
        "router": {"dropout": config.dropout},
        "objective": {"balance": balance, "balance_form": "reference"},
    }


def differences(config: Config, fields: Fields, shape: DecoderConfig) -> list[str]:
    """The flags that would make `config` agree with `fields`, for those of them that matter and differ."""
    wanted = dataclasses.replace(
        config, **{name: dataclasses.replace(getattr(config, name), **new) for name, new in fields.items()}
    )
    here, there = (_meaning(c, shape, wanted.adapter.rank) for c in (config, wanted))
    flags = []
    for section, new in fields.items():
        for name, value in new.items():
            meant, same = f"{section}.{name}", getattr(getattr(config, section), name) == value
            if not same and (meant not in here or here[meant] != there[meant]):
                flags.append(flag(meant, value))
    return flags


def _meaning(config: Config, shape: DecoderConfig, rank: int) -> dict[str, Any]:
    """What stands for a field when two configs are compared, where they may differ in letters only.

    The scale is that of `rank`: where ranks differ, that alone is said.
    """
    adapter, router = config.adapter, config.router
    targets, soft = set(adapter.targets), router.gate == "soft"
    qkv, gate_up = targets & {"q", "k", "v"}, targets & {"gate", "up"}
    scale = round(lora_scale(dataclasses.replace(adapter, rank=rank)), 9)
    return {
        "adapter.alpha": scale,
        "adapter.scaling": scale,
        "adapter.targets": targets,
        "adapter.layers": adapter.layers or shape.layers,
        # All experts by their probability: the official code has it as the E largest, not normalised again.
        "router.gate": "topk_unnormalised" if soft else router.gate,
        "router.top_k": adapter.experts if soft else router.top_k,
        "router.hidden_dim": router.hidden_dim if router.layers > 1 else None,
        "router.shared": router.shared if len(qkv) > 1 else None,
        "router.shared_gate_up": shares_gate_up(router) if len(gate_up) > 1 else None,
    }


def flag(name: str, value: Any) -> str:
    """A field as it is given on the command line."""
    if isinstance(value, bool):
        section, _, field = name.partition(".")
        return f"--{name}" if value else f"--{section}.no_{field}"
    text = (
        " ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else value
    )
    return f"--{name} {text}"


def from_run(config: Config, shape: DecoderConfig, width: int, dtype: str) -> OfficialConfig:
    """The official settings of a run; a `CumaError`, which names the field, where its model cannot be computed there.

    `width` is that of the profile vectors; 0 where the routers see none.
    """
    adapter, router = config.adapter, config.router
    _check_expressible(config)
    layers = range(shape.layers - adapter.layers, shape.layers) if 0 < adapter.layers < shape.layers else ()
    targets = [f"{MODULES[t].rpartition('.')[2]}" for t in adapter.targets]
    if layers:
        targets = [f"model.layers.{layer}.{MODULES[t]}" for layer in layers for t in adapter.targets]
    alpha = lora_scale(adapter) * adapter.rank
    soft = router.gate == "soft"
    return OfficialConfig(
        lora_r=adapter.rank,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,
        dropout=adapter.dropout,
        num_experts=adapter.experts,
        top_k=adapter.experts if soft else router.top_k,
        use_hydra_lora=adapter.shared_a,
        demographic_embed_dim=width,
        router_hidden_dim=router.hidden_dim,
        num_router_mlp_layers=router.layers,
        top_k_routing_strategy=router.gate == "double_softmax",
        use_load_balancing_loss=config.objective.balance > 0,
        lambda_auxiliary=config.objective.balance,
        target_modules=targets,
        target_modules_lora=targets,
        share_router_for_qkv=router.shared,
        share_router_for_w_i=shares_gate_up(router),
        torch_dtype=f"torch.{dtype}",
        hidden_size=shape.width,
        base_model=config.model.source,
        model_type=shape.family,
    )


def _check_expressible(config: Config) -> None:
    adapter, router = config.adapter, config.router
    peft = "; for plain LoRA and DoRA, --format peft"
    for ok, name, value, why in (
        (adapter.kind == "lora", "adapter.kind", adapter.kind, f"it holds LoRA experts only{peft}"),
        (router.inputs != "none", "router.inputs", router.inputs, f"it holds experts with a router{peft}"),
        (router.inputs != "lookup", "router.inputs", router.inputs, "it has no table of experts by value"),
        (
            router.gate in ("double_softmax", "topk_unnormalised", "soft"), "router.gate", router.gate,
            "the official code has no softmax over the selected logits; train with --router.gate double_softmax "
            "(--method reference)",
        ),
        (router.temperature == 1.0, "router.temperature", router.temperature, "it has no temperature; train with 1"),
        (
            config.profile.projection_layers == 0, "profile.projection_layers", config.profile.projection_layers,
            "a projection would be in a pickle, which is never written here; train with 0",
        ),
    ):  # fmt: skip
        if not ok:
            raise CumaError(f"the official format cannot hold a run whose {name} is {value!r}: {why}")


def configs_of(fields: Fields) -> tuple[AdapterConfig, RouterConfig]:
    """Adapter and router settings of `run_fields`, the rest at the defaults."""
    return AdapterConfig(**fields["adapter"]), RouterConfig(**fields["router"])
