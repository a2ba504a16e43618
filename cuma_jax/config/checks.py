"""What a config may hold: every rule about its fields, alone and together. No jax, and no import of `config`."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from cuma_jax.config.data import CONVERSATIONS
from cuma_jax.config.fields import check_types, check_values
from cuma_jax.config.objective_rules import check_objective, require
from cuma_jax.runtime.errors import CumaError

_FIELD = "config field "
TARGETS = ("q", "k", "v", "o", "gate", "up", "down")

SPLITS = ("train", "validation", "test", "probe", "unseen_respondent", "unseen_country", "unseen_question",
          "unseen_annotator", "unseen_prompt", "unseen_conversation")  # fmt: skip
"""Every split that an answer or a conversation may be in."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """What must hold of a config, `when` the rule is about it, beyond types and ranges.

    The message shows the value of `field`, or what `shown` gives; in `must_be` fields in braces are filled in.
    """

    field: str
    must_be: str
    holds: Callable[[Any], bool]
    when: Callable[[Any], bool] = lambda c: True
    shown: Callable[[Any], Any] | None = None


def _lookup(c: Any) -> bool:
    return c.router.inputs == "lookup"


def _held(c: Any) -> bool:
    return c.evaluation.hold != "none"


def _first_unknown(values: tuple[str, ...], known: tuple[str, ...]) -> str:
    return next(value for value in values if value not in known)


RULES = (
    Rule("data.buckets", "at least one length", lambda c: bool(c.data.buckets)),
    Rule("data.buckets", "increasing positive lengths",
         lambda c: list(c.data.buckets) == sorted(set(c.data.buckets)) and c.data.buckets[0] > 0),
    Rule("data.questions_per_batch", "0, because data.order is epochs (each row once leaves nothing to choose)",
         lambda c: c.data.questions_per_batch == 0, when=lambda c: c.data.order != "weighted"),
    Rule("data.questions_per_batch", "at most train.batch_size, which is {train.batch_size}",
         lambda c: c.data.questions_per_batch <= c.train.batch_size),
    Rule("data.questions", "empty, because data.source {data.source} is read as conversations, which have no questions",
         lambda c: c.reads_answers or not c.data.questions),
    Rule("adapter.targets", f"at least one of {', '.join(TARGETS)}", lambda c: bool(c.adapter.targets)),
    Rule("adapter.targets", f"one of {', '.join(TARGETS)}", lambda c: set(c.adapter.targets) <= set(TARGETS),
         shown=lambda c: _first_unknown(c.adapter.targets, TARGETS)),
    Rule("adapter.targets", "no repeats", lambda c: len(set(c.adapter.targets)) == len(c.adapter.targets)),
    # Who chooses among how many experts.
    Rule("adapter.experts", "0 (as many as the field has values), because router.inputs is lookup",
         lambda c: c.adapter.experts == 0, when=_lookup),
    Rule("router.inputs", "used with profile.granularity categorical and one field in profile.fields",
         lambda c: c.profile.granularity == "categorical" and len(c.profile.fields) == 1, when=_lookup),
    Rule("profile.context", "empty, because router.inputs is lookup", lambda c: not c.profile.context, when=_lookup),
    Rule("profile.projection_layers", "0, because router.inputs is lookup",
         lambda c: c.profile.projection_layers == 0, when=_lookup),
    Rule("router.inputs", "an input other than none, because adapter.experts is {adapter.experts} (none is for one "
         "expert)", lambda c: c.adapter.experts == 1, when=lambda c: c.router.inputs == "none"),
    Rule("adapter.experts", "at least 2, because router.inputs is {router.inputs!r} (one expert needs router.inputs "
         "none)", lambda c: c.adapter.experts > 1, when=lambda c: c.router.inputs not in ("lookup", "none")),
    Rule("router.top_k", "at most adapter.experts, which is {adapter.experts}",
         lambda c: c.router.top_k <= max(c.adapter.experts, 1)),
    Rule("router.inputs", "none, because adapter.kind is {adapter.kind} (no experts to choose from)",
         lambda c: c.router.inputs == "none", when=lambda c: c.adapter.kind != "lora"),
    # What the model can be with them.
    Rule("model.attention", "auto or xla, because model.dtype is float32 (cudnn's kernel takes 16 bits)",
         lambda c: c.model.attention != "cudnn", when=lambda c: c.model.dtype == "float32"),
    Rule("model.quantize", "none, because adapter.kind is full (it trains the weights themselves, which int8 cannot "
         "follow)", lambda c: c.model.quantize == "none", when=lambda c: c.adapter.kind == "full"),
    Rule("profile.shots", "0 unless profile.in_prompt is set (the answers are written after the profile)",
         lambda c: c.profile.shots == 0, when=lambda c: not c.profile.in_prompt),
    Rule("train.batch_size", "a multiple of train.micro_batches, which is {train.micro_batches}",
         lambda c: c.train.batch_size % c.train.micro_batches == 0),
    Rule("train.steps", "a positive number, or train.epochs > 0 (0 of both: adapter.init_from as it is, not trained)",
         lambda c: c.train.steps > 0 or c.train.epochs > 0 or bool(c.adapter.init_from)),
    Rule("evaluation.splits", f"at least one of {', '.join(SPLITS)}", lambda c: bool(c.evaluation.splits)),
    Rule("evaluation.splits", "no repeats", lambda c: len(set(c.evaluation.splits)) == len(c.evaluation.splits)),
    Rule("evaluation.splits", f"one of {', '.join(SPLITS)}", lambda c: set(c.evaluation.splits) <= set(SPLITS),
         shown=lambda c: _first_unknown(c.evaluation.splits, SPLITS)),
    Rule("evaluation.hold", "none, because data.source {data.source} is of conversations, whose prompts were answered "
         "by one person each: there is nothing to pool", lambda c: c.data.source not in CONVERSATIONS,
         when=_held),
    Rule("evaluation.splits", "without validation, because evaluation.hold is {evaluation.hold} (its strengths are "
         "fitted on the answers of validation)", lambda c: "validation" not in c.evaluation.splits, when=_held),
    # Preferences.
    Rule("dpo.label_smoothing", "0, because dpo.loss is ipo", lambda c: c.dpo.label_smoothing == 0,
         when=lambda c: c.dpo.loss == "ipo"),
    Rule("dpo.label_smoothing", "below 0.5 (at half, nothing is said)", lambda c: c.dpo.label_smoothing < 0.5),
    Rule("judge.model", "the name of a model at judge.url", lambda c: bool(c.judge.model or not c.judge.url)),
    Rule("judge.url", "the address of a judge, because reward.judge is {reward.judge}",
         lambda c: bool(c.judge.url), when=lambda c: c.reward.judge != 0),
)  # fmt: skip
"""Checked in this order, after types and ranges. What an objective asks of a config is not here."""


def validate(config: Any) -> None:
    """Raises a `CumaError` for the first field that is wrong, by itself or beside others, and what it may be."""
    check_types(config, _FIELD)
    for section in dataclasses.fields(config):
        if dataclasses.is_dataclass(value := getattr(config, section.name)):
            check_types(value, f"{_FIELD}{section.name}.")
    check_values(config, _FIELD)
    for rule in RULES:
        if rule.when(config) and not rule.holds(config):
            value = rule.shown(config) if rule.shown else _value(config, rule.field)
            require(False, rule.field, value, rule.must_be.format(**vars(config)))
    check_judge(config.judge)
    check_objective(config)


_KEY_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# A word of such a name: capitals with digits among them (GPT4O), or letters; and digits only at the end of a few.
_NAME_WORD = re.compile(r"[A-Z0-9]{0,12}|[A-Z]{0,20}[0-9]{0,4}|[A-Za-z]{0,15}")


def names_a_variable(name: str) -> bool:
    """Whether a text is empty or the name of an environment variable, and not the secret that should be in one."""
    return not name or bool(_KEY_NAME.fullmatch(name) and all(map(_NAME_WORD.fullmatch, name.split("_"))))


def check_judge(judge: Any) -> None:
    """Before it is written into a run's folder: raises a `CumaError` for an address that cannot be right, and for a
    name of a variable or an address that may hold a secret. None of them is shown."""
    if not names_a_variable(judge.key_env):
        raise CumaError(
            "config field judge.key_env must be the name of an environment variable, like OPENAI_API_KEY, and is "
            "something else (it may be a key, and is not shown: this field is written into the run's folder). Put the "
            "key into such a variable, and its name here"
        )
    if judge.url:
        check_judge_url(judge.url)


def check_judge_url(url: str) -> None:
    """Raises a `CumaError` for an address that cannot be right, or that may hold a secret; it is not shown."""
    if set("@?#;") & set(unquote(url)):
        raise CumaError(
            "config field judge.url holds a user name, a password or a query; it must be an address only, because it "
            "is written into the run's folder. Put the key into an environment variable, its name into judge.key_env"
        )
    if wrong := address_fault(url, ("http", "https")):
        raise CumaError(f"config field judge.url {wrong}; it must be an address like https://api.example.com/v1")


def address_fault(url: str, schemes: tuple[str, ...]) -> str:
    """What is wrong with an address, without its text; empty where nothing is."""
    if len(url) > 2000:
        return f"has {len(url):,} characters"
    if not url.isprintable() or " " in url or "\\" in url:
        return "holds spaces or odd characters"
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # raises for empty and for endless names
    except ValueError:
        return "has no host that can be read"
    if parts.scheme not in schemes or not host:
        return f"does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)} and a host"
    try:
        known = parts.port is None or parts.port > 0
    except ValueError:
        known = False
    return "" if known else "has a port that is not a number from 1 to 65535"


def _value(config: Any, field: str) -> Any:
    section, _, name = field.rpartition(".")
    return getattr(getattr(config, section) if section else config, name)
