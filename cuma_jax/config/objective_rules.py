"""What each objective needs of a config. No jax; the objectives themselves are in `cuma_jax.objectives`.

A new objective has an entry in `RULES`, and its own section of the config where it has settings.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from cuma_jax.config.data import CONVERSATIONS
from cuma_jax.config.fields import shown
from cuma_jax.runtime.errors import CumaError

FIELD = "objective.name"


def require(ok: bool, field: str, value: object, allowed: str) -> None:
    """Raises a `CumaError` that names the field, its value and what it must be, unless `ok`."""
    if not ok:
        raise CumaError(f"config field {field} is {shown(value)}; it must be {allowed}")


@dataclasses.dataclass(frozen=True)
class ObjectiveRules:
    """What one objective needs of a config.

    Attributes:
        losses: values of `objective.loss` that it has.
        aggregates: whether rows may be cells: the answers of all respondents with one profile.
        choices: whether preference data are read as choices between responses, where `data.task` is auto.
        conversations: whether it can be trained on whole conversations.
        packs: whether several conversations may share a row.
        untrained: whether a run may train nothing (`adapter.kind` none).
        starts: whether predictions may start from pooled answers (`objective.start`).
        check: its other rules; given the config, and why they hold, for messages.
    """

    losses: tuple[str, ...] = ("cross_entropy",)
    aggregates: bool = False
    choices: bool = False
    conversations: bool = True
    packs: bool = False
    untrained: bool = False
    starts: bool = False
    check: Callable[[Any, str], None] = lambda config, because: None


def _check_grpo(config: Any, because: str) -> None:
    grpo, sampling, reward, data = config.grpo, config.sampling, config.reward, config.data
    require(grpo.samples >= 2, "grpo.samples", grpo.samples, "at least 2: a reply is weighed against the others")
    require(config.train.batch_size % grpo.samples == 0, "train.batch_size", config.train.batch_size,
            f"a multiple of grpo.samples, which is {grpo.samples} (replies a step)")  # fmt: skip
    require(reward.survey > 0 or reward.judge > 0 or bool(reward.function), "reward.survey", reward.survey,
            f"above 0, or reward.judge, or reward.function set, {because}")  # fmt: skip
    require(reward.survey == 0 or grpo.samples >= 3, "grpo.samples", grpo.samples,
            "at least 3, because reward.survey compares a reply with two others")  # fmt: skip
    conversations = data.source in CONVERSATIONS and data.task != "choice"
    require(reward.survey == 0 or not conversations, "reward.survey", reward.survey,
            f"0, because conversations of {data.source} have no answers to agree with (reward.judge, reward.function "
            "or data.task choice)")  # fmt: skip
    require(reward.judge == 0 or conversations, "reward.judge", reward.judge,
            f"0, because {data.source} is put to the model as survey questions, which have no preferred reply to "
            "judge beside (reward.survey or reward.function)")  # fmt: skip
    require(sampling.temperature > 0, "sampling.temperature", sampling.temperature,
            f"above 0, {because} (greedy replies are all the same)")  # fmt: skip
    for section, name in (("adapter", "dropout"), ("router", "dropout"), ("profile", "dropout"),
                          ("profile", "field_dropout")):  # fmt: skip
        value = getattr(getattr(config, section), name)
        require(value == 0, f"{section}.{name}", value,
                f"0 {because}: replies are written without dropout, and the ratio to what wrote them would be to "
                "another policy")  # fmt: skip
    every = config.train.interference_every
    require(every == 0, "train.interference_every", every,
            f"0 {because}, which has no loss of people's answers")  # fmt: skip


RULES: dict[str, ObjectiveRules] = {
    "choice": ObjectiveRules(
        losses=("cross_entropy", "emd"), aggregates=True, choices=True, conversations=False, untrained=True, starts=True
    ),
    "sft": ObjectiveRules(packs=True, untrained=True),
    "dpo": ObjectiveRules(),
    "grpo": ObjectiveRules(aggregates=True, check=_check_grpo),
}


def check_objective(config: Any) -> None:
    """Raises a `CumaError` for an unknown objective, or a field that it cannot be trained with."""
    objective, data = config.objective, config.data
    name = objective.name
    require(name in RULES, FIELD, name, f"one of {', '.join(RULES)}")
    rules, because = RULES[name], f"because {FIELD} is {name}"
    require(objective.loss in rules.losses, "objective.loss", objective.loss,
            f"{' or '.join(rules.losses)}, {because}")  # fmt: skip
    require(objective.start == "base" or rules.starts, "objective.start", objective.start,
            f"base, {because} (only choice predicts the options of a question)")  # fmt: skip
    require(objective.start == "base" or data.source not in CONVERSATIONS, "objective.start", objective.start,
            f"base, because the prompts of {data.source} were answered by one person each: there is nothing to "
            "pool")  # fmt: skip
    for field in ("start_dropout", "start_answers"):
        value = getattr(objective, field)
        require(value == 0 or objective.start == "pooled", f"objective.{field}", value,
                "0, because objective.start is base")  # fmt: skip
    require(rules.aggregates or objective.aggregate == "respondent", "objective.aggregate", objective.aggregate,
            f"respondent, {because}")  # fmt: skip
    require(rules.conversations or data.task != "conversations", "data.task", data.task,
            f"choice or auto, {because} (whole conversations are for sft, dpo and grpo)")  # fmt: skip
    require(not data.packing or (rules.packs and data.task != "choice"), "data.packing", data.packing,
            f"False: only whole conversations are packed ({FIELD} sft)")  # fmt: skip
    require(rules.untrained or config.adapter.kind != "none", "adapter.kind", config.adapter.kind,
            f"a kind that is trained, {because}")  # fmt: skip
    rules.check(config, because)
