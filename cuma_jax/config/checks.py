"""What a config may hold: every rule about its fields, alone and together. No jax, and no import of `config`."""

import dataclasses
import typing
from typing import Any, Literal
from urllib.parse import urlsplit

from cuma_jax.config.objective_rules import check_objective
from cuma_jax.config.requirement import require
from cuma_jax.runtime.errors import CumaError

TARGETS = ("q", "k", "v", "o", "gate", "up", "down")

_POSITIVE = {
    "adapter": ("rank", "alpha", "prefix_length"),
    "router": ("top_k", "layers", "hidden_dim", "temperature"),
    "profile": ("components", "values_per_component", "projection_dim", "max_length"),
    "data": ("max_length",),
    "optimizer": ("learning_rate", "router_rate"),
    "train": ("batch_size", "micro_batches", "log_every", "keep"),
    "evaluation": ("max_profiles", "min_cell", "option_orders", "batch_size"),
    "mesh": ("fsdp", "tensor"),
    "dpo": ("beta", "min_margin"),
    "grpo": ("updates", "clip"),
    "sampling": ("max_new_tokens",),
    "judge": ("concurrency", "timeout", "max_tokens"),
}
_NOT_NEGATIVE = {
    "adapter": ("experts", "layers"),
    "router": ("profile_scale",),
    "profile": ("projection_layers", "shots"),
    "data": ("prefetch", "question_power", "group_power", "questions_per_batch"),
    "objective": ("balance", "z_loss"),
    "optimizer": ("weight_decay", "clip"),
    "train": ("steps", "epochs", "eval_every", "eval_batches", "save_every", "interference_every"),
    "run": ("trace_steps",),
    "evaluation": ("bootstrap",),
    "mesh": ("data",),
    "dpo": ("nll",),
    "grpo": ("clip_high", "kl"),
    "sampling": ("temperature", "top_k"),
    "reward": ("survey", "judge"),
    "judge": ("requests_per_minute", "max_requests", "retries"),
}
_SHARE = {
    "adapter": ("dropout",),
    "router": ("dropout",),
    "profile": ("dropout", "field_dropout"),
    "data": (
        *("unseen_respondents", "validation_respondents", "unseen_countries", "unseen_questions"),
        *("unseen_conversations", "validation_countries"),
    ),
    "optimizer": ("warmup", "b1", "b2"),
    "dpo": ("label_smoothing",),
    "reward": ("max_failed",),
    "judge": ("max_failed",),
}
SPLITS = (
    *("train", "validation", "test", "probe", "unseen_respondent", "unseen_country", "unseen_question"),
    *("unseen_annotator", "unseen_prompt", "unseen_conversation"),
)
"""Every split that an answer or a conversation may be in."""


def validate(config: Any) -> None:
    """Checks every field by itself and against the others.

    Raises:
        CumaError: names the field, the value it has and the values it may have.
    """
    for section in dataclasses.fields(config):
        value = getattr(config, section.name)
        if dataclasses.is_dataclass(value):
            _validate_types(section.name, value)
    _validate_ranges(config)
    adapter, train = config.adapter, config.train
    require(bool(config.name), "name", config.name, "a name that is not empty")
    require(bool(config.data.buckets), "data.buckets", config.data.buckets, "at least one length")
    require(
        list(config.data.buckets) == sorted(set(config.data.buckets)) and config.data.buckets[0] > 0,
        "data.buckets", config.data.buckets, "increasing positive lengths",
    )  # fmt: skip
    require(bool(adapter.targets), "adapter.targets", adapter.targets, f"at least one of {', '.join(TARGETS)}")
    for target in adapter.targets:
        require(target in TARGETS, "adapter.targets", target, f"one of {', '.join(TARGETS)}")
    require(len(set(adapter.targets)) == len(adapter.targets), "adapter.targets", adapter.targets, "no repeats")
    _validate_experts(config)
    require(config.profile.projection_layers <= 2, "profile.projection_layers", config.profile.projection_layers,
             "0, 1 or 2")  # fmt: skip
    require(
        train.batch_size % train.micro_batches == 0, "train.batch_size", train.batch_size,
        f"a multiple of train.micro_batches, which is {train.micro_batches}",
    )  # fmt: skip
    require(train.steps > 0 or train.epochs > 0, "train.steps", train.steps, "a positive number, or train.epochs > 0")
    data = config.data
    _validate_preferences(config)
    check_objective(config)
    require(
        data.questions_per_batch == 0 or data.order == "weighted", "data.questions_per_batch",
        data.questions_per_batch, "0, because data.order is epochs (each row once leaves nothing to choose)",
    )  # fmt: skip
    require(
        data.questions_per_batch <= train.batch_size, "data.questions_per_batch", data.questions_per_batch,
        f"at most train.batch_size, which is {train.batch_size}",
    )  # fmt: skip
    for split in config.evaluation.splits:
        require(split in SPLITS, "evaluation.splits", split, f"one of {', '.join(SPLITS)}")


def _validate_preferences(config: Any) -> None:
    dpo, sampling, reward = config.dpo, config.sampling, config.reward
    require(0 < sampling.top_p <= 1, "sampling.top_p", sampling.top_p, "above 0 and at most 1")
    require(dpo.label_smoothing == 0 or dpo.loss == "sigmoid", "dpo.label_smoothing", dpo.label_smoothing,
             "0, because dpo.loss is ipo")  # fmt: skip
    require(
        dpo.label_smoothing < 0.5, "dpo.label_smoothing", dpo.label_smoothing, "below 0.5 (at half, nothing is said)"
    )
    if config.judge.url:
        check_judge_url(config.judge.url)
    require(not config.judge.url or bool(config.judge.model), "judge.model", config.judge.model,
             "the name of a model at judge.url")  # fmt: skip
    require(reward.judge == 0 or bool(config.judge.url), "judge.url", config.judge.url,
             f"the address of a judge, because reward.judge is {reward.judge}")  # fmt: skip


def check_judge_url(url: str) -> None:
    """Before it is written into a run's folder: an address that cannot be right, or that holds a secret.

    Raises:
        CumaError: what is wrong with it; without the address, where that may hold a secret.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if "@" in url or parts.query or parts.fragment:
        raise CumaError(
            "config field judge.url holds a user name, a password or a query; it must be an address only, because it "
            "is written into the run's folder. Put the key into an environment variable, its name into judge.key_env"
        )
    require(parts.scheme in ("http", "https") and bool(parts.hostname), "judge.url", url,
             "an address like https://api.example.com/v1")  # fmt: skip


def _validate_experts(config: Any) -> None:
    adapter, router, profile = config.adapter, config.router, config.profile
    if router.inputs == "lookup":
        require(adapter.experts == 0, "adapter.experts", adapter.experts,
                 "0 (as many as the field has values), because router.inputs is lookup")  # fmt: skip
        require(
            profile.granularity == "categorical" and len(profile.fields) == 1, "router.inputs", router.inputs,
            "used with profile.granularity categorical and one field in profile.fields",
        )  # fmt: skip
        require(profile.projection_layers == 0, "profile.projection_layers", profile.projection_layers,
                 "0, because router.inputs is lookup")  # fmt: skip
    elif router.inputs == "none":
        require(
            adapter.experts == 1, "router.inputs", router.inputs,
            f"an input other than none, because adapter.experts is {adapter.experts} (none is for one expert)",
        )  # fmt: skip
    else:
        require(
            adapter.experts > 1, "adapter.experts", adapter.experts,
            f"at least 2, because router.inputs is {router.inputs!r} (one expert needs router.inputs none)",
        )  # fmt: skip
    require(
        router.top_k <= max(adapter.experts, 1), "router.top_k", router.top_k,
        f"at most adapter.experts, which is {adapter.experts}",
    )  # fmt: skip
    if adapter.kind != "lora":
        require(router.inputs == "none", "router.inputs", router.inputs,
                 f"none, because adapter.kind is {adapter.kind} (no experts to choose from)")  # fmt: skip
    require(config.model.attention != "cudnn" or config.model.dtype != "float32", "model.attention", "cudnn",
             "auto or xla, because model.dtype is float32 (cudnn's kernel takes 16 bits)")  # fmt: skip
    require(
        config.model.quantize == "none" or adapter.kind != "full", "model.quantize", config.model.quantize,
        "none, because adapter.kind is full (it trains the weights themselves, which int8 cannot follow)",
    )  # fmt: skip
    require(profile.shots == 0 or profile.in_prompt, "profile.shots", profile.shots,
             "0 unless profile.in_prompt is set (the answers are written after the profile)")  # fmt: skip


def _validate_types(name: str, section: Any) -> None:
    hints = typing.get_type_hints(type(section))
    for field in dataclasses.fields(section):
        value, hint = getattr(section, field.name), hints[field.name]
        where = f"{name}.{field.name}"
        if typing.get_origin(hint) is Literal:
            require(value in typing.get_args(hint), where, value, "one of " + ", ".join(typing.get_args(hint)))
        elif typing.get_origin(hint) is tuple:
            item = typing.get_args(hint)[0]
            if typing.get_origin(item) is Literal:
                names = typing.get_args(item)
                ok, allowed = isinstance(value, tuple) and set(value) <= set(names), f"a list of {', '.join(names)}"
            else:
                ok = isinstance(value, tuple) and all(isinstance(v, item) for v in value)
                allowed = f"a list of {item.__name__}"
            require(ok, where, value, allowed)
        elif hint is float:
            ok = isinstance(value, (int, float)) and not isinstance(value, bool)
            require(ok, where, value, "a number")
        else:
            ok = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
            require(ok, where, value, f"of type {hint.__name__}")


def _validate_ranges(config: Any) -> None:
    for table, ok, allowed in (
        (_POSITIVE, lambda v: v > 0, "positive"),
        (_NOT_NEGATIVE, lambda v: v >= 0, "zero or more"),
        (_SHARE, lambda v: 0 <= v < 1, "at least 0 and below 1"),
    ):
        for section, names in table.items():
            for name in names:
                value = getattr(getattr(config, section), name)
                require(ok(value), f"{section}.{name}", value, allowed)
