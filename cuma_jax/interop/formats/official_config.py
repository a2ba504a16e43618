"""adapter_config.json of the official CuMA code: its 23 fields, what they may be, and what they say of the base.

Facts from the authors' code (github.com/Throll/CuMA): its `CuMAConfig` accepts exactly these fields and gives those
that are absent their defaults; what it saves leaves `lambda_lm` out.
"""

import dataclasses
import json
import math
import pathlib
import typing
from typing import Any

from cuma_jax.models.families import DecoderConfig
from cuma_jax.runtime.errors import CumaError

CONFIG_FILE = "adapter_config.json"
MODULES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
"""Linear of a layer -> its module's name there, in the order in which that model has them."""
DTYPES = {"torch.float32": "float32", "float32": "float32", "torch.bfloat16": "bfloat16", "bfloat16": "bfloat16"}


@dataclasses.dataclass(frozen=True)
class OfficialConfig:
    """The settings of an adapter; names and defaults are the official ones."""

    lora_r: int = 16
    lora_alpha: float = 32
    dropout: float = 0.1
    num_experts: int = 8
    top_k: int = 2
    use_hydra_lora: bool = False
    demographic_embed_dim: int = 1024
    router_hidden_dim: int = 512
    num_router_mlp_layers: int = 2
    top_k_routing_strategy: bool = True
    use_load_balancing_loss: bool = True
    lambda_auxiliary: float = 0.01
    lambda_lm: float = 1.0
    target_modules: list[str] | None = None
    target_modules_lora: list[str] | None = None
    share_router_for_qkv: bool = True
    share_router_for_w_i: bool = True
    num_encoder_proj_mlp_layers: int = 0
    torch_dtype: str | None = None
    hidden_size: int | None = None
    base_model: str | None = None
    model_type: str | None = None
    peft_type: str = "CuMA"

    @property
    def dtype(self) -> str:
        """`float32` or `bfloat16`: how the tensors are stored."""
        return DTYPES[self.torch_dtype or "float32"]

    @property
    def objective_scale(self) -> float:
        """What our total loss is multiplied by to be theirs (`lambda_lm`, which counts only with the balance loss)."""
        return self.lambda_lm if self.use_load_balancing_loss else 1.0

    def to_json(self) -> dict[str, Any]:
        """What the file holds; `lambda_lm` at its default is left out, as the official code does."""
        values = dataclasses.asdict(self)
        if self.lambda_lm == 1.0:
            del values["lambda_lm"]
        return values


def read_config(folder: pathlib.Path) -> OfficialConfig:
    """The settings in a folder; a `CumaError` for no such file, no official config, an unknown field or a bad value."""
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CumaError(f"{path} does not exist; an adapter in the official format has it") from None
    except ValueError as error:
        raise CumaError(f"{path} is not valid JSON ({error})") from None
    if not isinstance(values, dict) or values.get("peft_type", "CuMA") != "CuMA":
        kind = values.get("peft_type") if isinstance(values, dict) else type(values).__name__
        raise CumaError(f"{path} is not the config of a CuMA adapter: peft_type is {kind!r}, it must be 'CuMA'")
    known = [field.name for field in dataclasses.fields(OfficialConfig)]
    if unknown := [name for name in values if name not in known]:
        raise CumaError(
            f"{path} has the unknown field {unknown[0]!r}, which the official code refuses too; known are "
            f"{', '.join(known)}"
        )
    hints = typing.get_type_hints(OfficialConfig)
    for name, value in values.items():
        if not _is(value, hints[name]):
            raise CumaError(f"{path}: {name} is {value!r}, which is not {_words(hints[name])}")
    config = OfficialConfig(**values)
    _check_values(path, config)
    return config


def _is(value: Any, hint: Any) -> bool:
    options = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if options:
        return any(_is(value, option) for option in options)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _words(hint: Any) -> str:
    options = typing.get_args(hint) if typing.get_origin(hint) is not list else ()
    kind = options[0] if options else hint
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(kind, "a list of texts")


def _check_values(path: pathlib.Path, config: OfficialConfig) -> None:
    for ok, name, allowed in (
        (config.lora_r > 0, "lora_r", "positive"),
        (config.lora_alpha > 0, "lora_alpha", "positive"),
        (config.num_experts > 1, "num_experts", "at least 2 (one expert is plain LoRA, which is not this format)"),
        (0 < config.top_k <= config.num_experts, "top_k", f"1 to num_experts, which is {config.num_experts}"),
        (config.demographic_embed_dim >= 0, "demographic_embed_dim", "0 or more"),
        (config.router_hidden_dim > 0, "router_hidden_dim", "positive"),
        (config.num_router_mlp_layers > 0, "num_router_mlp_layers", "positive"),
        (0 <= config.dropout < 1, "dropout", "at least 0 and below 1"),
        (config.lambda_lm > 0, "lambda_lm", "positive"),
        (config.lambda_auxiliary >= 0, "lambda_auxiliary", "0 or more"),
        ((config.torch_dtype or "float32") in DTYPES, "torch_dtype", "torch.float32 or torch.bfloat16"),
        (
            config.num_encoder_proj_mlp_layers == 0,
            "num_encoder_proj_mlp_layers",
            "0: the weights of a projection are in demographic_encoder.pt, a pickle, which is never opened here",
        ),
    ):
        if not ok:
            raise CumaError(f"{path}: {name} is {getattr(config, name)!r}; it must be {allowed}")


def adapted_layers(config: OfficialConfig, shape: DecoderConfig, where: str) -> tuple[tuple[str, ...], int]:
    """Which linears are adapted, and in how many of the top layers.

    `target_modules` are found as substrings of the names of the model's linear modules, as there. A `CumaError` for no
    linear, the unembedding, or other linears in one layer than in another.
    """
    wanted = list(MODULES.values()) if config.target_modules is None else config.target_modules
    if any(target in "lm_head" for target in wanted):
        raise CumaError(f"{where}: target_modules {wanted} take in lm_head, which is never adapted here")

    def of_layer(layer: int) -> tuple[str, ...]:
        names = {linear: f"model.layers.{layer}.{module}" for linear, module in MODULES.items()}
        return tuple(linear for linear, name in names.items() if any(target in name for target in wanted))

    found = [of_layer(layer) for layer in range(shape.layers)]
    first = next((layer for layer, linears in enumerate(found) if linears), None)
    if first is None:
        raise CumaError(f"{where}: target_modules {wanted} name no linear of the model's {shape.layers} layers")
    if len(set(found[first:])) > 1:
        raise CumaError(
            f"{where}: target_modules {wanted} adapt other linears in one layer than in another; here it is the same "
            "linears in the top layers, with no gap"
        )
    return found[first], shape.layers - first


def check_base(config: OfficialConfig, shape: DecoderConfig, source: str, where: str) -> None:
    """A `CumaError` unless the adapter was trained on this base, as far as its config says: family, width and name."""
    for name, there, here in (
        ("model_type", config.model_type, shape.family),
        ("hidden_size", config.hidden_size, shape.width),
    ):
        if there is not None and there != here:
            raise CumaError(
                f"{where} belongs to another base: its {name} is {there}, that of model.source {source} is {here}; "
                f"give the base it was trained on{f' ({config.base_model})' if config.base_model else ''}"
            )
    if config.base_model and not _same_name(config.base_model, source):
        raise CumaError(
            f"{where} belongs to the base {config.base_model!r}, but model.source is {source!r}; give that base. If "
            f"the two are the same model under two names, write {source!r} as base_model in {CONFIG_FILE}"
        )


def _same_name(one: str, two: str) -> bool:
    """Whether two paths or hub names may mean one model: the last part of one is a part of the other."""
    # A hub's cache spells org/name as models--org--name.
    parts = [[p.lower() for p in name.replace("--", "/").replace("\\", "/").split("/") if p] for name in (one, two)]
    return parts[0][-1] in parts[1] or parts[1][-1] in parts[0]
