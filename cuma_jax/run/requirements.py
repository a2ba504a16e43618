"""What a method needs of the data, checked before any weights are read.

Shapes: P distinct profiles.
"""

import numpy as np

from cuma_jax.config import Config
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.profile_encoders.profile_embedders import training_values
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey, other_fields


def check_needs(config: Config, source: Survey | Preferences) -> None:
    """Checks that the source has what the config's method is about.

    Raises:
        CumaError: a lookup by a field that the source lacks; a profile in the prompt, but nobody has one; shots of
            conversations; GRPO without what it needs.
    """
    profile, known = config.profile, (*source.profile_fields, *other_fields(source))
    if config.objective.name == "grpo":
        _check_grpo(config)
    if config.router.inputs == "lookup" and profile.fields[0] not in known:
        raise CumaError(
            f"method per_country (router.inputs lookup) has one expert for each {profile.fields[0]}, but "
            f"{source.name!r} has no such field (it has: {', '.join(known) or 'none'}); name another in "
            "profile.fields, or choose another method"
        )
    if profile.in_prompt and not (profile.fields or source.profile_fields):
        raise CumaError(
            f"the persona methods (profile.in_prompt) write who is asked in the prompt, but {source.name!r} has no "
            f"profile fields by default; name some in profile.fields ({', '.join(known) or 'it has none at all'}), or "
            "choose another method"
        )
    if config.data.questions_per_batch and not isinstance(source, Survey):
        raise CumaError(
            f"data.questions_per_batch is {config.data.questions_per_batch}, but {source.name!r} is read as "
            "conversations, which have no questions; set it to 0"
        )
    if profile.shots and not isinstance(source, Survey):
        raise CumaError(
            f"profile.shots is {profile.shots} (method persona_few_shot), which shows answers to survey questions, but "
            f"{source.name!r} is read as conversations; set objective.name to choice, or profile.shots to 0"
        )


def _check_grpo(config: Config) -> None:
    """What writing replies and learning from them needs.

    Raises:
        CumaError: dropout, with which the policy that is updated is not the one that wrote; gradients of groups, which
            are of losses that GRPO does not have.
    """
    for section, name in (("adapter", "dropout"), ("router", "dropout"), ("profile", "dropout"),
                          ("profile", "field_dropout")):  # fmt: skip
        value = getattr(getattr(config, section), name)
        if value:
            raise CumaError(
                f"config field {section}.{name} is {value}; it must be 0 because objective.name is grpo: replies are "
                "written without dropout, and the ratio to what wrote them would be to another policy"
            )
    if config.train.interference_every:
        raise CumaError(
            f"config field train.interference_every is {config.train.interference_every}; it must be 0 because "
            "objective.name is grpo, which has no loss of people's answers"
        )


def lookup_experts(config: Config, profiles: Profiles, train_P: np.ndarray) -> int:
    """`adapter.experts`, or for a lookup the number of training values of its field.

    Raises:
        CumaError: there are fewer than two.
    """
    if config.router.inputs != "lookup":
        return config.adapter.experts
    field = profiles.fields[0]
    values = training_values(profiles, train_P, field)
    if len(values) < 2:
        found = f"only {values[0]!r}" if values else "no value"
        raise CumaError(
            f"method per_country (router.inputs lookup) has one expert for each {field} of training, but training has "
            f"{found}; it needs at least two: hold out fewer (data.unseen_countries), name another field in "
            "profile.fields, or use method lora"
        )
    return len(values)
